package pubnubtest_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	pubnub "github.com/pubnub/go/v7"

	"reprise/bridge/pubnubtest"
)

func TestRun(t *testing.T) {
	t.Parallel()
	s, err := pubnubtest.New(pubnubtest.Config{})
	if err != nil {
		t.Fatalf("New() = %v, want nil", err)
	}
	addr, err := s.Listen()
	if err != nil || addr != s.Addr() {
		t.Fatalf("Listen() = %q, %v, want %q", addr, err, s.Addr())
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	cursor := poll(t, s, "a", "", "").T.T
	cut := make(chan error, 1)
	go func() {
		_, err := plain.Get("http://" + addr + "/v2/subscribe/demo/a/0?tt=" + cursor)
		cut <- err
	}()
	if err := s.WaitPolls(within(t, patience), 1); err != nil {
		t.Fatalf("WaitPolls(1) = %v, want nil", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run() = %v, want nil", err)
	}
	if err := <-cut; err == nil {
		t.Error("held poll at the end of Run = nil, want an error")
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("Dial() after Run = nil, want refused")
	}
	same(t, "Stats().Polls", s.Stats().Polls, 0)
	if err := s.Restart(); err == nil {
		t.Error("Restart() after Run = nil, want an error")
	}
	if err := s.Run(t.Context()); err == nil {
		t.Error("second Run() = nil, want an error")
	}
}

func TestStopAndRestartKeepState(t *testing.T) {
	t.Parallel()
	s := start(t, pubnubtest.Config{PollTimeout: time.Minute})
	addr := s.Addr()
	cursor := poll(t, s, "user.%2A", "", "").T.T
	s.Publish("user.7.sync", []byte("1"))
	get(t, s, "/v1/channel-registration/sub-key/demo/channel-group/g?add=a")
	for round := range 3 {
		if err := s.Restart(); err == nil {
			t.Error("Restart() of a running server = nil, want an error")
		}
		s.Stop()
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			t.Errorf("Dial() after Stop %d = nil, want refused", round)
		}
		s.Publish("user.7.sync", fmt.Append(nil, round+2)) // while it is away
		if err := s.Restart(); err != nil {
			t.Fatalf("Restart() = %v, want nil", err)
		}
		same(t, "Addr() after Restart", s.Addr(), addr)
	}
	same(t, "poll(user.*) after Restart", poll(t, s, "user.%2A", "", cursor).payloads(), "[1 2 3 4]")
	same(t, "history after Restart", history(t, s, "user.7.sync", ""), "[1 2 3 4]")
}

func TestStopCutsHeldPollsOfTheSDK(t *testing.T) {
	t.Parallel()
	s := start(t, pubnubtest.Config{})
	pn := client(t, s)
	sub := listen(t, pn)
	pn.Subscribe().Channels([]string{"a"}).Execute()
	if err := s.WaitPolls(within(t, patience), 1); err != nil {
		t.Fatalf("WaitPolls(1) = %v, want nil", err)
	}
	s.Stop()
	for {
		st := take(t, "statuses", sub.statuses, 1)[0]
		if st.Category != pubnub.PNConnectedCategory { // which one depends on the digits of the port
			break
		}
	}
}

func TestAsHandler(t *testing.T) {
	t.Parallel()
	s, err := pubnubtest.New(pubnubtest.Config{SubscribeKey: "sub", PublishKey: "pub"})
	if err != nil {
		t.Fatalf("New() = %v, want nil", err)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/publish/pub/sub/0/a/0/1", nil))
	if w.Code != 200 || !strings.HasPrefix(w.Body.String(), `[1,"Sent","1`) {
		t.Errorf("ServeHTTP(publish) = %d %s, want 200", w.Code, w.Body)
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	for _, cfg := range []pubnubtest.Config{{QueueSize: -1}, {Region: 128}, {OmitFields: 2}, {PollTimeout: -1}} {
		if _, err := pubnubtest.New(cfg); err == nil {
			t.Errorf("New(%+v) = nil, want an error", cfg)
		}
	}
	if s, err := pubnubtest.Start(pubnubtest.Config{Listen: "256.0.0.1:1"}); err == nil {
		s.Close()
		t.Error("Start(256.0.0.1:1) = nil, want an error")
	}
}

func TestJournal(t *testing.T) {
	t.Parallel()
	s := start(t, pubnubtest.Config{JournalSize: 3})
	waited := make(chan pubnubtest.Request, 1)
	go func() {
		r, _ := s.WaitRequest(within(t, patience), 0, func(r pubnubtest.Request) bool { return r.Endpoint == pubnubtest.Publish })
		waited <- r
	}()
	for range 5 {
		get(t, s, "/time/0")
	}
	fetch(t, s, "POST", "/publish/demo/demo/0/a/0?uuid=u", `{"n":1}`)
	r := <-waited
	same(t, "waited for", fmt.Sprint(r.N, r.Endpoint, r.Method, r.URI, string(r.Body)), `6publishPOST/publish/demo/demo/0/a/0?uuid=u{"n":1}`)
	var kept []string
	for _, r := range s.Journal() {
		kept = append(kept, fmt.Sprint(r.N, r.Endpoint))
	}
	same(t, "Journal()", kept, "[4time 5time 6publish]")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.WaitRequest(ctx, 6, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("WaitRequest() = %v, want canceled", err)
	}
	if err := s.WaitPolls(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("WaitPolls() = %v, want canceled", err)
	}
}
