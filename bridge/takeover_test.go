package bridge

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"reprise/bridge/pubnubtest"
	"reprise/stream"
)

// TestStandby stops the active of two bridges while messages flow: the other
// one, on its own connection to the log, goes on where that one was.
func TestStandby(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, pubnubtest.Config{})
	r.follow()
	stop := r.start()
	first := r.b
	r.publishNumbered(0, 100, 5)
	all := r.events(100)

	other, err := stream.Open(testContext(t), stream.Config{URL: r.log.ClientURL(), Node: "other"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	cfg := r.cfg
	cfg.Log, cfg.UserID = other, "other-bridge"
	second, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- second.Run(ctx) }()

	r.publishNumbered(100, 100, 5)
	all = append(all, r.events(100)...)
	if a, b := first.Health(), second.Health(); !a.Active || b != (Health{}) {
		t.Errorf("Health() = %+v and %+v, want the first active and the second standing by", a, b)
	}
	r.publishNumbered(200, 50, 5)
	stop()
	r.publishNumbered(250, 50, 5)
	all = append(all, r.events(100)...)
	checkNumbered(t, all, 300)
	r.noMore(userN(0))
	if a, b := first.Health(), second.Health(); a != (Health{}) || !b.Active {
		t.Errorf("Health() = %+v and %+v, want the second active", a, b)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run() = %v, want nil", err)
	}
}

// TestBridgesShareShards runs three bridges on one log, one after another ends,
// while messages flow: the shards are shared fairly, each has one writer, and
// nothing is lost, doubled or out of order.
func TestBridgesShareShards(t *testing.T) {
	t.Parallel()
	const shards, users = 6, 12
	r := newRig(t, shards, pubnubtest.Config{})
	r.follow()
	r.start()
	all := []*Bridge{r.b}
	var stops []func()
	for i := range 2 {
		log, err := stream.Open(testContext(t), stream.Config{URL: r.log.ClientURL(), Node: fmt.Sprint("other", i)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { log.Close() })
		cfg := r.cfg
		cfg.Log = log
		b, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- b.Run(ctx) }()
		stop := sync.OnceFunc(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run() = %v, want nil", err)
			}
		})
		t.Cleanup(stop)
		all, stops = append(all, b), append(stops, stop)
	}
	n := 0
	var seen []stream.Record
	until := func(want ...int) {
		t.Helper()
		deadline := testContext(t)
		for {
			var have []int
			for _, b := range all {
				have = append(have, b.Health().Shards)
			}
			if slices.Equal(have, want) {
				return
			}
			if deadline.Err() != nil {
				t.Fatalf("the bridges write %v shards, want %v", have, want)
			}
			r.publishNumbered(n, users, users)
			n += users
			seen = append(seen, r.events(users)...)
		}
	}
	until(2, 2, 2)
	stops[0]()
	until(3, 0, 3)
	stops[1]()
	until(6, 0, 0)
	checkNumbered(t, seen, n)
	r.noMore(userN(0))
}

// TestDeposed takes the lease of one shard away from under a running bridge.
// It gives that shard up, takes it again, and nothing is lost or doubled.
func TestDeposed(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, pubnubtest.Config{})
	r.follow()
	r.start()
	r.publishNumbered(0, 100, 5)
	all := r.events(100)
	kv, err := r.jetStream().KeyValue(testContext(t), "REPRISE_LEASES")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(testContext(t), "shard.1", []byte(`{"holder":"thief","boot":"thief/99","epoch":99,"ceiling":"0000000000000000"}`)); err != nil {
		t.Fatal(err)
	}
	r.publishNumbered(100, 100, 5)
	if err := r.logged.wait(testContext(t), "another bridge took the shard over", 1); err != nil {
		t.Fatal(err)
	}
	r.publishNumbered(200, 100, 5)
	checkNumbered(t, append(all, r.events(200)...), 300)
	r.noMore(userN(0))
	if strings.Count(r.logged.String(), "msg=bridging ") != 4 {
		t.Error("the bridge has not taken one of three shards again")
	}
}

// TestNothingOutlivesRun looks for goroutines of the bridge and the SDK after
// Run has returned. It is not parallel, so that none of another test's are
// found.
func TestNothingOutlivesRun(t *testing.T) {
	for _, moment := range []string{"at once", "while polling", "while standing by"} {
		r := newRig(t, 2, pubnubtest.Config{})
		r.follow()
		switch moment {
		case "while polling":
			stop := r.start()
			r.publishNumbered(0, 50, 3)
			r.events(50)
			stop()
		case "while standing by":
			w, err := r.log.Acquire(testContext(t), 1)
			if err != nil {
				t.Fatal(err)
			}
			b, err := New(r.cfg)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			if err := b.Run(ctx); err != nil {
				t.Errorf("Run() = %v, want nil", err)
			}
			cancel()
			w.Close(testContext(t))
		default:
			b, err := New(r.cfg)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := b.Run(ctx); err != nil {
				t.Errorf("Run() = %v, want nil", err)
			}
		}
		left := "" // what has been told to end, ends
		if !until(patience, func() bool { left = leftGoroutines(); return left == "" }) {
			t.Fatalf("after a stop %s:\n%s", moment, left)
		}
	}
}

// leftGoroutines is the stack of a goroutine of the bridge or the SDK, but for
// the tests' and the one that the SDK leaks.
func leftGoroutines() string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	for _, g := range strings.Split(string(buf), "\n\n") {
		ours := strings.Contains(g, "reprise/bridge.") || strings.Contains(g, "github.com/pubnub/go/v7.")
		test := strings.Contains(g, "_test.go") || strings.Contains(g, "testing.")
		if ours && !test && !strings.Contains(g, "ReadQueue") {
			return g
		}
	}
	return ""
}

// TestRelieve has a bridge with more shards than its share keep them while it compares
// history, and not for ever.
func TestRelieve(t *testing.T) {
	t.Parallel()
	r := newRig(t, 4, pubnubtest.Config{})
	b := r.bare()
	b.members = 2
	for range 4 {
		b.holds(&shard{b: b, release: make(chan struct{})})
	}
	seconds := func(n, want int) {
		t.Helper()
		for range n {
			b.relieve()
		}
		if got := len(b.shards); got != want {
			t.Errorf("%d shards are left after %d seconds more, want %d", got, n, want)
		}
	}
	b.filling.Add(1)
	seconds(crowdedMost-1, 4)
	seconds(1, 3)
	seconds(crowdedFor, 3)
	b.filling.Add(-1)
	seconds(int(historyLag.Seconds()), 3) // it may be about to be compared once more
	seconds(1, 2)
	seconds(2*crowdedMost, 2)
}
