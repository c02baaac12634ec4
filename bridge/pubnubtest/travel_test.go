package pubnubtest_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"reprise/bridge/pubnubtest"
)

// TestRoundTrip measures in fake time how long each request takes.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	const (
		trip     = 20 * time.Millisecond
		pollEnd  = 10 * time.Second
		publish  = "/publish/demo/demo/0/a/0/1"
		freshTT  = "9460000000000000" // before the bubble's time, 2000-01-01
		heldPoll = "/v2/subscribe/demo/a/0?tt=19460000000000000"
	)
	for _, tt := range []struct {
		name  string
		uri   string
		fault pubnubtest.Fault
		gone  time.Duration // when the client leaves; 0 is never
		want  time.Duration
	}{
		{name: "time", uri: "/time/0", want: trip},
		{name: "publish", uri: publish, want: trip},
		{name: "handshake", uri: "/v2/subscribe/demo/a/0?tr=0", want: trip},
		{name: "poll with messages", uri: "/v2/subscribe/demo/a/0?tt=" + freshTT, want: trip},
		{name: "poll held to its end", uri: heldPoll, want: trip + pollEnd},
		{name: "poll held until a publish after 5 s", uri: "/v2/subscribe/demo/b/0?tt=" + freshTT, want: 5*time.Second + trip/2},
		{name: "status", uri: publish, fault: pubnubtest.Fault{Kind: pubnubtest.Status, Status: 503}, want: trip},
		{name: "status after work", uri: publish, fault: pubnubtest.Fault{Kind: pubnubtest.Status, Status: 503, AfterWork: true}, want: trip},
		{name: "hangup", uri: publish, fault: pubnubtest.Fault{Kind: pubnubtest.Hangup}, want: trip},
		{name: "hold of 1 s", uri: publish, fault: pubnubtest.Fault{Kind: pubnubtest.Hold, Delay: time.Second}, want: trip + time.Second},
		{name: "cut", uri: publish, fault: pubnubtest.Fault{Kind: pubnubtest.CutJSON}, want: trip},
		{name: "client that leaves on the way there", uri: publish, gone: trip / 4, want: trip / 4},
		{name: "client that leaves on the way back", uri: publish, gone: trip * 3 / 4, want: trip * 3 / 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, err := pubnubtest.New(pubnubtest.Config{RoundTrip: trip, PollTimeout: pollEnd})
				if err != nil {
					t.Fatalf("New() = %v, want nil", err)
				}
				s.Publish("a", []byte("1"))
				if tt.fault.Kind != "" {
					s.Inject(tt.fault)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if tt.gone > 0 {
					time.AfterFunc(tt.gone, cancel)
				}
				defer time.AfterFunc(5*time.Second, func() { s.Publish("b", []byte("1")) }).Stop()
				begin := time.Now()
				func() {
					defer func() {
						if r := recover(); r != nil && r != http.ErrAbortHandler {
							panic(r)
						}
					}()
					s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, tt.uri, nil).WithContext(ctx))
				}()
				if took := time.Since(begin); took != tt.want {
					t.Errorf("ServeHTTP(%s) took %v, want %v", tt.uri, took, tt.want)
				}
			})
		})
	}
}
