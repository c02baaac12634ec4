package bridge

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"reprise/bridge/pubnubtest"
	"reprise/stream"
)

// lanesRig is a rig whose bridge carries users by channel groups.
func lanesRig(t *testing.T, shards int) *rig {
	t.Helper()
	r := newRig(t, shards, pubnubtest.Config{})
	r.cfg.Lanes, r.cfg.Channels, r.cfg.HistoryRate = true, []string{broadcastChannel}, 5000
	return r
}

func (r *rig) register(users ...string) {
	r.t.Helper()
	group, ctx := errgroup.WithContext(testContext(r.t))
	group.SetLimit(32)
	for _, user := range users {
		group.Go(func() error { return r.log.Register(ctx, user) })
	}
	if err := group.Wait(); err != nil {
		r.t.Fatalf("Register() = %v", err)
	}
}

// assigned waits until every user has a place in a lane.
func (r *rig) assigned(n int) {
	r.t.Helper()
	var places atomic.Int64
	for shard := range r.log.Shards() {
		ctx := testContext(r.t)
		go r.log.FollowRegistrations(ctx, shard, func(g stream.Registration) {
			if g.Lane != stream.NoLane {
				places.Add(1)
			}
		}, func() {})
	}
	for ctx := testContext(r.t); int(places.Load()) < n; runtime.Gosched() {
		if ctx.Err() != nil {
			r.t.Fatalf("%d users have a place, want %d\n%s", places.Load(), n, r.logged.tail())
		}
	}
}

// TestLanes registers users while their events are being published: each has
// every event since, once and in order, over a restart of the bridge too, and
// announcements come to everyone once.
func TestLanes(t *testing.T) {
	t.Parallel()
	r := lanesRig(t, 2)
	r.follow()
	announced := r.followAnnouncements()
	stop := r.start()
	const users = 40
	var names []string
	for i := range users {
		names = append(names, userN(i))
	}
	r.register(names...)
	r.publishNumbered(0, 10*users, users)
	all := r.events(10 * users)
	r.assigned(users)
	r.publishNumbered(10*users, 5*users, users)
	all = append(all, r.events(5*users)...)
	r.pubnub.Publish(broadcastChannel, []byte(`{"x":1}`))
	if got := <-announced; got != `{"type":"announcement","data":{"x":1}}` {
		t.Errorf("announcement %s", got)
	}
	stop()
	r.publishNumbered(15*users, 5*users, users)
	r.start()
	all = append(all, r.events(5*users)...)
	r.pubnub.Publish("user."+userN(users)+".sync", []byte(`{"of":"somebody who is not registered"}`))
	r.register(userN(users + 1))
	r.pubnub.Publish("user."+userN(users+1)+".notifications", []byte(`{"n":0}`))
	checkNumbered(t, append(all, r.events(1)...), 20*users+1)
	r.noMore(userN(0))
	if strings.Contains(r.logged.String(), "level=ERROR") {
		t.Errorf("an error was logged: %s", r.logged.tail())
	}
}

// TestLanesFill fills more than one lane: each of 6,700 users has an event that
// is found in the log.
func TestLanesFill(t *testing.T) {
	t.Parallel()
	r := lanesRig(t, 1)
	r.follow()
	r.start()
	const users = 6700
	var names []string
	for i := range users {
		names = append(names, userN(i))
	}
	r.register(names...)
	r.publishNumbered(0, users, users)
	all := r.events(users)
	r.assigned(users)
	r.publishNumbered(users, users, users)
	checkNumbered(t, append(all, r.events(users)...), 2*users)
	if n := r.b.lanes.Load(); n != 2 {
		t.Errorf("%d lanes for %d users, want 2", n, users)
	}
}

// BenchmarkLanes carries 100,000 users over lanes, each with one event that is
// found in the log, and the same events over one wildcard client.
func BenchmarkLanes(b *testing.B) {
	const users, shards = 100_000, 2
	for b.Loop() {
		wild := spread(b, users, shards, false)
		lanes := spread(b, users, shards, true)
		b.ReportMetric(lanes.rate, "lanes-msgs/s")
		b.ReportMetric(wild.rate, "wildcard-msgs/s")
		b.ReportMetric(lanes.rate/wild.rate, "ratio")
		b.ReportMetric(float64(lanes.lanes), "lanes")
		b.ReportMetric(lanes.bytes/float64(lanes.lanes)/1024, "KiB/lane")
		b.ReportMetric(lanes.goroutines/float64(lanes.lanes), "goroutines/lane")
		b.ReportMetric(lanes.ready.Seconds(), "s-to-join")
	}
}

type spreadResult struct {
	rate, bytes, goroutines float64
	lanes                   int64
	ready                   time.Duration
}

// spread publishes one event to each of users through a bridge. Emulator and
// log are in the same process.
func spread(b *testing.B, users, shards int, lanes bool) (res spreadResult) {
	s, err := pubnubtest.Start(pubnubtest.Config{QueueSize: 1 << 20, PollTimeout: 2 * time.Second, MaxMessages: 1 << 20, RoundTrip: 20 * time.Millisecond})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	log, err := stream.Open(b.Context(), stream.Config{DataDir: b.TempDir(), Shards: shards})
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	cfg := Config{Log: log, Origin: s.Addr(), SubscribeKey: "demo", Channels: []string{"user.*"}, HistoryRate: 10_000}
	var before, after runtime.MemStats
	if lanes {
		cfg.Channels, cfg.Lanes = nil, true
		group, ctx := errgroup.WithContext(b.Context())
		group.SetLimit(64)
		for i := range users {
			group.Go(func() error { return log.Register(ctx, userN(i)) })
		}
		if err := group.Wait(); err != nil {
			b.Fatal(err)
		}
	}
	bridge, err := New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	left := int64(users)
	counted := make(chan struct{})
	for shard := range shards {
		started := make(chan struct{})
		go log.Follow(b.Context(), shard, stream.FollowOptions{}, func(r *stream.Record) {
			switch r.Kind {
			case stream.KindStart:
				close(started)
			case stream.KindEvent:
				if atomic.AddInt64(&left, -1) == 0 {
					close(counted)
				}
			}
		})
		<-started
	}
	runtime.GC()
	runtime.ReadMemStats(&before)
	goroutines := runtime.NumGoroutine()
	began := time.Now()
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(b.Context())
	go func() { done <- bridge.Run(ctx) }()
	if lanes {
		var places atomic.Int64
		all := make(chan struct{})
		for shard := range shards {
			go log.FollowRegistrations(ctx, shard, func(g stream.Registration) {
				if g.Lane != stream.NoLane && int(places.Add(1)) == users {
					close(all)
				}
			}, func() {})
		}
		<-all
		res.ready = time.Since(began)
		if err := s.WaitPolls(ctx, int(bridge.lanes.Load())); err != nil {
			b.Fatal(err)
		}
	} else if err := s.WaitPolls(ctx, 1); err != nil {
		b.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	res.bytes, res.goroutines, res.lanes = float64(after.HeapAlloc)-float64(before.HeapAlloc), float64(runtime.NumGoroutine()-goroutines), bridge.lanes.Load()
	payload := fmt.Appendf(nil, `{"type":"progress_update","content_id":%q,"position_seconds":1234,"timestamp":"1795437339530","device_id":%q}`, testContent, testDevice)
	began = time.Now()
	for i := range users {
		s.Publish("user."+userN(i)+".sync", payload)
	}
	<-counted
	res.rate = float64(users) / time.Since(began).Seconds()
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	return res
}
