package edge

import (
	"bytes"
	"context"
	"net"
	"testing"
	"testing/synctest"

	"reprise/stream"
)

// A writer that looks at every moment at a feed that runs: it sees every event
// once, in order, and never believes to have seen what is still to come.
func TestWriterAgainstTheFeed(t *testing.T) {
	t.Parallel()
	p := play(t, Config{TailPerUser: 1 << 20})
	const events = 60_000
	r := p.openedAt(uuidA, uuidOf('a', 1), at(1))
	c := p.connections(uuidA)[0]
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			c.wake()
		}
	}()
	go func() {
		for n := range events {
			p.event(uuidA, "", n)
			if n%16 == 0 {
				p.step(stream.Record{Kind: stream.KindMarker})
			}
		}
	}()
	for n := 0; n < events; {
		op, payload, err := r.tryFrame()
		if err != nil {
			t.Fatalf("tryFrame() = %v, want event %d", err, n)
		}
		if op == opPing || bytes.HasPrefix(payload, []byte(`{"type":"caught_up"`)) {
			continue
		}
		want := eventFrame(0, n)
		if i := bytes.Index(want, []byte(`,"n":`)); !bytes.HasSuffix(payload, want[i:]) {
			t.Fatalf("frame = %s, want event %d", payload, n)
		}
		n++
	}
	cancel()
	<-done
}

// Whatever hands an event to the writer: what is not after its position is not
// sent.
func TestWriterOnlyMovesForward(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	c := &conn{wire: testWire(far)}
	b := takeOutbox()
	defer b.give()
	for _, n := range []int{3, 5, 4, 5, 3, 6} {
		b.events = append(b.events, event{at: at(n), frame: eventFrame(at(n).Hlc, n)})
	}
	c.moveTo(at(3))
	c.echo = true
	if !c.events(b, true) || b.sent != 2 || c.pos != at(6) {
		t.Errorf("events(3 5 4 5 3 6) after 3 = %d frames up to %v, want 5 and 6", b.sent, c.pos)
	}
	b.bytes = b.bytes[:0]
}

// A device that reads no faster than its user's events come has caught up when it has
// what there was as it came, and what follows is live.
func TestCatchesUpWhilePublishingGoesOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const missed = 1_000
		p := play(t, Config{TailPerUser: 1 << 20})
		r := p.openedAt(uuidA, uuidOf('a', 1), at(1))
		synctest.Wait() // the writer is about to say that there is nothing, and waits for the reader
		p.connections(uuidA)[0].phase.Store(phaseReplaying)
		for n := range missed {
			p.event(uuidA, "", n)
		}
		r.frame()
		for n := range 4 * missed {
			_, payload := r.frame()
			if bytes.HasPrefix(payload, []byte(`{"type":"caught_up"`)) {
				if n < missed {
					t.Errorf("caught_up after %d events, want %d at least", n, missed)
				}
				return
			}
			p.event(uuidA, "", missed+n)
		}
		t.Errorf("no caught_up in %d events, %d of which were there in the beginning", 4*missed, missed)
	})
}
