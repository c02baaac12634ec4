package edge

import (
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"reprise/hlc"
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

// The word of another edge is believed at once where it comes at the time that it names.
// Else the connection that it tells of has to prove that it lives.
func TestArrivalsThatAreDoubtful(t *testing.T) {
	for _, c := range []struct {
		name   string
		word   stream.Word
		by     time.Duration
		closed bool
		asked  int
	}{
		{"it has just come", stream.Arrived, 0, true, 0},
		{"it comes by a clock that is ahead", stream.Arrived, 10 * time.Second, false, 1},
		{"it came some time ago", stream.Stays, 0, false, 1},
		{"it lives, which nobody asked", stream.Lives, 0, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := play(t, Config{})
				words := p.told()
				d := p.joined(uuidA, uuidOf('a', 1), "")
				a := stream.Arrival{User: uuidA, Device: uuidOf('a', 1), Connection: uuidOf('c', 1),
					At: max(p.connections(uuidA)[0].came+1, hlc.New(time.Now().Add(c.by).UnixMilli(), 0))}
				p.arrived(c.word, a)
				time.Sleep(time.Second)
				if asked := words()[stream.Asked]; len(asked) != c.asked {
					t.Errorf("asked of %v, want %d", asked, c.asked)
				}
				if !c.closed {
					p.event(uuidA, "", 1)
					d.want("event")
					if c.asked == 0 {
						return
					}
					p.arrived(stream.Lives, a)
				}
				if code := d.closed(); code != codeReplaced {
					t.Errorf("close code = %d, want %d", code, codeReplaced)
				}
			})
		})
	}
}

// told records what p tells other edges, and returns it by words.
func (p *played) told() func() map[stream.Word][]stream.Arrival {
	var mu sync.Mutex
	words := make(map[stream.Word][]stream.Arrival)
	p.arrivals.elsewhere = func(word stream.Word, all []stream.Arrival) error {
		mu.Lock()
		defer mu.Unlock()
		words[word] = append(words[word], all...)
		return nil
	}
	return func() map[stream.Word][]stream.Arrival {
		mu.Lock()
		defer mu.Unlock()
		return maps.Clone(words)
	}
}

// Another edge asks whether a connection lives: it does if its device answers in time.
func TestConnectionProvesThatItLives(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := play(t, Config{})
		words := p.told()
		p.joined(uuidA, uuidOf('a', 1), "")
		silent := p.raw(uuidA, uuidOf('a', 2), "")
		for _, c := range p.connections(uuidA) {
			p.arrived(stream.Asked, c.mention().Arrival)
		}
		time.Sleep(proofTime + time.Second)
		silent.write(opPong, nil)
		time.Sleep(time.Second)
		if all := words()[stream.Lives]; len(all) != 1 || all[0].Device != uuidOf('a', 1) {
			t.Errorf("it lives: %v, want the device that answers", all)
		}
	})
}

// A handshake that was under way for long arrives when its device has given it up: it
// replaces nothing. Nor does any that an edge accepts after it stood still, until its
// device has answered.
func TestLateHandshakeReplacesNobody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := play(t, Config{})
		d := p.joined(uuidA, uuidOf('a', 1), "")
		time.Sleep(5 * time.Millisecond)
		p.raw(uuidA, uuidOf('a', 1), "").nc.Close()
		time.Sleep(time.Second)
		p.event(uuidA, "", 1)
		d.want("event")

		p.wheel.turned.Add(-int64(2 * time.Second))
		silent := p.raw(uuidA, uuidOf('a', 1), "")
		time.Sleep(time.Second)
		p.event(uuidA, "", 2)
		d.want("event")
		silent.write(opPong, nil)
		if code := d.closed(); code != codeReplaced {
			t.Errorf("close code = %d, want %d", code, codeReplaced)
		}
	})
}

// The kernel knows that a device has gone before anybody has read what it sent last.
func TestHungUp(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		device, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		nc, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if secure {
			nc = tls.Server(nc, &tls.Config{})
		}
		if hungUp(nc) {
			t.Errorf("secure=%t: hungUp() = true, want false while it is open", secure)
		}
		fmt.Fprint(device, "what it sent last")
		device.Close()
		gone := func() bool {
			for range 500 {
				if hungUp(nc) {
					return true
				}
				time.Sleep(10 * time.Millisecond)
			}
			return false
		}
		if runtime.GOOS == "linux" && !gone() {
			t.Errorf("secure=%t: hungUp() = false, want true when it has gone", secure)
		}
	}
}

// Arrivals that come while others are about to be told of are no sooner told of.
func TestArrivalsSettle(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := play(t, Config{})
		words := p.told()
		p.joined(uuidA, uuidOf('a', 1), "")
		time.Sleep(arrivalsGather + arrivalsSettle - 5*time.Millisecond)
		gone := p.joined(uuidA, uuidOf('a', 2), "")
		time.Sleep(arrivalsGather)
		gone.ws.CloseNow()
		time.Sleep(time.Second)
		if all := words()[stream.Arrived]; len(all) != 1 || all[0].Device != uuidOf('a', 1) {
			t.Errorf("arrived: %v, want the one that stays", all)
		}
	})
}

// An edge that stood still does not know whether what it accepts is new.
func TestEdgeThatStoodStill(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := play(t, Config{})
		time.Sleep(time.Minute)
		if p.wheel.stoodStill() {
			t.Error("stoodStill() = true, want false")
		}
		p.wheel.turned.Add(-int64(2 * time.Second))
		if !p.wheel.stoodStill() {
			t.Error("stoodStill() before the next turn = false, want true")
		}
		time.Sleep(2 * wheelTick)
		if !p.wheel.stoodStill() {
			t.Error("stoodStill() after the next turn = false, want true")
		}
		time.Sleep(afterStand)
		if p.wheel.stoodStill() {
			t.Error("stoodStill() some seconds later = true, want false")
		}
	})
}
