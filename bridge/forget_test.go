package bridge

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"reprise/bridge/pubnubtest"
	"reprise/stream"
)

// TestForgottenStaysForgotten erases a user whose events PubNub still has, has
// history compared with the log for that user, and restarts the bridge: none of
// them comes back, what is published later does.
func TestForgottenStaysForgotten(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, pubnubtest.Config{})
	r.cfg.ReconcileEvery, r.cfg.HistoryRate = 200*time.Millisecond, 1000
	r.follow()
	r.window(100 * time.Millisecond) // the server's own memory of ids is not the question here
	stop := r.start()
	user, other := userN(0), userN(1)
	publish := func(user string, n int) {
		r.pubnub.Publish("user."+user+".notifications", fmt.Appendf(nil, `{"n":%d}`, n))
	}
	for n := range 5 {
		publish(user, n)
		publish(other, n)
	}
	r.pubnub.Publish("user."+user+".sync", []byte(`"bad"`))
	r.events(10)
	r.dead(1)
	forget := func() string {
		t.Helper()
		answer, err := r.log.Ask(testContext(t), 0, fmt.Appendf(nil, `{"op":"forget","user":"%s","at":%d}`, user, time.Now().UnixMilli()))
		if err != nil {
			t.Fatal(err)
		}
		return string(answer)
	}
	if got := forget(); got != `{"result":"erased","events":5}` {
		t.Fatalf("forget = %s, want 5 events erased", got)
	}
	compared := func() {
		t.Helper()
		for range 3 {
			journal := r.pubnub.Journal()
			asks := func(q pubnubtest.Request) bool {
				return q.Endpoint == pubnubtest.History && strings.Contains(q.URI, "user."+user+".notifications")
			}
			if _, err := r.pubnub.WaitRequest(testContext(t), journal[len(journal)-1].N, asks); err != nil {
				t.Fatalf("history of the user is not asked for: %v", err)
			}
		}
	}
	look := func(user string) stream.Footprint {
		t.Helper()
		f, err := r.log.Footprint(testContext(t), user)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	if err := r.log.Register(testContext(t), user); err != nil {
		t.Fatal(err)
	}
	compared()
	if f := look(user); f.Events != 0 || f.Dead != 0 {
		t.Errorf("after history was compared: %+v, want nothing", f)
	}
	stop()
	r.start()
	compared()
	if f := look(user); f.Events != 0 || f.Dead != 0 {
		t.Errorf("after another bridge compared history: %+v, want nothing", f)
	}
	publish(user, 5)
	if rec := r.events(1)[0]; rec.User != user || !strings.Contains(string(rec.Frame), `"n":5`) {
		t.Errorf("the next event is %s of %s, want the new one", rec.Frame, rec.User)
	}
	compared()
	if f := look(user); f.Events != 1 {
		t.Errorf("after an event that is new: %+v, want it alone", f)
	}
	if f := look(other); f.Events != 5 {
		t.Errorf("the other user has %+v, want 5 events", f)
	}
	for _, bad := range []string{`{"op":"forget"}`, `{"op":"forget","user":"x","at":1}`, `{"op":"nonsense"}`, `{`} {
		if answer, err := r.log.Ask(testContext(t), 0, []byte(bad)); err != nil || !strings.Contains(string(answer), `"failed"`) {
			t.Errorf("answer to %s = %s, %v, want failed", bad, answer, err)
		}
	}
}

// BenchmarkForgotten is what it costs an event that others are forgotten.
func BenchmarkForgotten(b *testing.B) {
	for _, n := range []int{0, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var f forgotten
			for i := range n {
				f.note(stream.Order{User: stream.KeyOf(userN(i)), ForgottenBefore: time.Now()})
			}
			user := userN(n + 1)
			b.ReportAllocs()
			for b.Loop() {
				if f.has(user, "17957397434709405") {
					b.Fatal("forgotten")
				}
			}
		})
	}
}
