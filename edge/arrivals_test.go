package edge

import (
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"reprise/stream"
)

// twoEdges are two edges of one log, each with its own way to it.
func twoEdges(t *testing.T) (a, b *relay) {
	t.Helper()
	l := openLog(t, stream.Config{Node: "edge-1", Listen: "127.0.0.1:0"})
	w := acquireShard(t, l)
	far, err := stream.Open(t.Context(), stream.Config{URL: l.ClientURL(), Node: "edge-2"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	a, b = serve(t, Config{}, l), serve(t, Config{}, far)
	a.writer, b.writer = w, w
	return a, b
}

// A device that connects to another edge is let go by the one where it was.
func TestReplacedAcrossEdges(t *testing.T) {
	t.Parallel()
	a, b := twoEdges(t)
	other := a.joined(uuidA, uuidOf('a', 2), "")
	last := a.joined(uuidA, uuidOf('a', 1), "")
	for n := range 6 {
		// Two edges that have not yet heard of each other order what lies more
		// than a millisecond apart.
		time.Sleep(2 * time.Millisecond)
		next := []*relay{b, a}[n%2].joined(uuidA, uuidOf('a', 1), "")
		if code := last.closed(); code != codeReplaced {
			t.Fatalf("round %d: the older connection was closed with %d, want %d", n, code, codeReplaced)
		}
		last = next
	}
	a.publish(uuidA, "", 1)
	for _, d := range []*device{other, last} {
		if h := d.want("event"); h.N != 1 {
			t.Errorf("event = %s, want the first", h.text)
		}
	}
}

// Of two connections that come at the same moment to two edges, exactly one stays.
func TestArrivalsAtOnce(t *testing.T) {
	t.Parallel()
	a, b := twoEdges(t)
	for n := range 30 {
		id := uuidOf('b', n)
		var both [2]*device
		var dialing sync.WaitGroup
		for i, r := range []*relay{a, b} {
			dialing.Go(func() { both[i] = r.connect(uuidA, id, "&since=latest") })
		}
		dialing.Wait()
		left := 0
		select {
		case <-both[0].ended:
			left = 1
		case <-both[1].ended:
		case <-t.Context().Done():
		}
		a.await("one of two connections to stay", func() bool { return a.count(id)+b.count(id) == 1 })
		if code := both[1-left].closed(); code != codeReplaced {
			t.Errorf("round %d: the one that went was closed with %d, want %d", n, code, codeReplaced)
		}
		both[left].ws.Close(websocket.StatusNormalClosure, "")
		a.await("the other to go", func() bool { return a.count(id)+b.count(id) == 0 })
	}
}

// count is how many connections a device has here.
func (r *relay) count(device string) (n int) {
	for _, c := range r.connections(uuidA) {
		if c.device == device {
			n++
		}
	}
	return n
}
