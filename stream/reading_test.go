package stream

import (
	"context"
	"runtime"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
)

// TestEqualReads has a user's devices ask for the same at the same time: the log
// is read once, and each has the answer. One that stops waiting takes nothing
// from the others.
func TestEqualReads(t *testing.T) {
	t.Parallel()
	l := openLog(t, listening)
	w := acquire(t, l, 0)
	appendAll(t, w, alice, 0, 50)
	upTo := w.Stats().Last
	nc, err := nats.Connect(l.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	link := newProxy(t, l.ClientURL())
	far := remote(t, link.url(), "edge", nil)
	follow(t, far, 0, FollowOptions{}).next(t, KindStart)
	asked, err := nc.SubscribeSync("$JS.API.DIRECT.GET.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	link.pause()
	const devices = 20
	ctx, leave := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range devices {
		all.Go(func() {
			if i == 0 {
				if _, err := far.Read(ctx, alice, Position{}, upTo); err != context.Canceled {
					t.Errorf("Read() of who stops waiting = %v, want %v", err, context.Canceled)
				}
				return
			}
			chunk, err := far.Read(t.Context(), alice, Position{}, upTo)
			if err != nil || len(chunk.Records) != 50 || chunk.Next != upTo {
				t.Errorf("Read() = %d events up to %v, %v, want 50 up to %v", len(chunk.Records), chunk.Next, err, upTo)
			}
		})
	}
	for s := far.shards[0]; ; {
		s.readings.mu.Lock()
		r := s.readings.open[span{alice, Position{}, upTo}]
		ready := r != nil && r.asking == devices
		s.readings.mu.Unlock()
		if ready {
			break
		}
		runtime.Gosched()
	}
	leave()
	link.resume()
	all.Wait()
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if n, _, err := asked.Pending(); n != 2 || err != nil {
		t.Errorf("the log was asked %d times, %v, want one probe and one read", n, err)
	}
}
