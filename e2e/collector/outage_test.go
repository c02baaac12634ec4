package collector

import (
	"fmt"
	"net"
	"testing"

	"reprise/edge/client"
)

// relays publishes n events, each of which must come to the device before the next.
func (r *relay) relays(t *testing.T, frames <-chan client.Frame, n int) {
	t.Helper()
	for n := range n {
		text := fmt.Sprintf("after-%d.", n)
		r.publish(t, text, traceparent(published, "01"))
		expect(t, frames, "notification", text)
	}
}

// TestCollectorGoes kills the collector under a relay: events go on, and the
// nodes end as they should.
func TestCollectorGoes(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			s := newSink(t)
			collector, endpoints := collect(t, s)
			r := newRelay(t, exports(endpoints[protocol], protocol))
			frames, _ := r.device(t, tv, "latest", "")
			expect(t, frames, "caught_up", "")
			r.publish(t, "before", traceparent(published, "00"))
			expect(t, frames, "notification", "before")
			s.span(t, "send websocket", published)
			collector.cmd.Process.Kill()
			<-collector.ended
			r.relays(t, frames, 200)
			r.end(t)
		})
	}
}

// TestCollectorNeverThere starts a node whose collector is not there, or takes
// connections and says nothing on them.
func TestCollectorNeverThere(t *testing.T) {
	for _, tt := range []struct {
		name     string
		endpoint func(t *testing.T) string
	}{
		{"nothing listens", freeAddress},
		{"nobody answers", silent},
	} {
		for _, protocol := range protocols {
			t.Run(tt.name+"/"+protocol, func(t *testing.T) {
				t.Parallel()
				r := newNode(t, exports("http://"+tt.endpoint(t), protocol), "--auth", "none")
				frames, _ := r.device(t, tv, "latest", "")
				expect(t, frames, "caught_up", "")
				r.relays(t, frames, 50)
				r.end(t)
			})
		}
	}
}

// silent is an address that takes connections, on which nothing is ever said.
func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			defer c.Close() // with the listener
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}
