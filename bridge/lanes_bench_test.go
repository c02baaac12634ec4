package bridge

import (
	"bytes"
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"reprise/bridge/pubnubtest"
	"reprise/stream"
)

// BenchmarkLanes carries an event of each of 100,000 users over lanes, and the
// same events over one wildcard client, at a round trip of 20 ms and in pages of
// 100, and looks for each of them in the log. All are published before the first
// page is handed out. It reports
//
//   - lanes/s and wildcard/s: events stored in a second, and their ratio. The
//     wildcard is bound by a page for each round trip, 5,000/s.
//   - KiB/lane, goroutines/lane: what a bridge with 16 lanes that wait for their
//     polls has more than one that was stopped, by lane. A lane's users, some
//     6,250, are in it; the emulator is not, but for what its end of a connection
//     keeps on the heap.
//   - s-to-join: from the start of a bridge until all users, who were registered
//     before, are in their lanes. A bridge asks PubNub 10,000 times a second here;
//     with the default of 20 it takes three minutes.
//   - s-to-start: from the start of a bridge whose users have their lanes until
//     all lanes poll.
//
// It takes about a minute and a half.
//
//	go test ./bridge -run '^$' -bench '^BenchmarkLanes$' -benchtime 1x
func BenchmarkLanes(b *testing.B) {
	const users = 100_000
	for b.Loop() {
		wild := wildcard(b, users)
		lanes := overLanes(b, users)
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(lanes.rate(), "lanes/s")
		b.ReportMetric(wild.rate(), "wildcard/s")
		b.ReportMetric(lanes.rate()/wild.rate(), "ratio")
		b.ReportMetric(lanes.cpu(), "lanes-µs/msg")
		b.ReportMetric(wild.cpu(), "wildcard-µs/msg")
		b.ReportMetric(float64(lanes.lanes), "lanes")
		b.ReportMetric(lanes.bytes/float64(lanes.lanes)/1024, "KiB/lane")
		b.ReportMetric(lanes.goroutines/float64(lanes.lanes), "goroutines/lane")
		b.ReportMetric(lanes.joined.Seconds(), "s-to-join")
		b.ReportMetric(lanes.started.Seconds(), "s-to-start")
	}
}

const lanesRoundTrip, lanesShards = 20 * time.Millisecond, 2

func wildcard(b *testing.B, users int) lap {
	pubnub := benchPubNub(b, lanesRoundTrip)
	defer pubnub.Close()
	log := benchLog(b, lanesShards)
	defer log.Close()
	var r *running
	letGo := queueUp(b, pubnub, users, users, func() {
		r = run(b, Config{Log: log, Origin: pubnub.Addr(), SubscribeKey: "demo", Channels: []string{"user.*"}})
	})
	end := begin(b, users)
	letGo()
	r.stored(users)
	s := end()
	r.stop()
	eachHasOne(b, log, users)
	return s
}

type lanesResult struct {
	lap
	lanes             int64
	bytes, goroutines float64
	joined, started   time.Duration
}

func overLanes(b *testing.B, users int) (res lanesResult) {
	pubnub := benchPubNub(b, lanesRoundTrip)
	defer pubnub.Close()
	log := benchLog(b, lanesShards)
	defer log.Close()
	cfg := Config{Log: log, Origin: pubnub.Addr(), SubscribeKey: "demo", Lanes: true, HistoryRate: 10_000}

	register(b, log, users)
	began := time.Now()
	r := run(b, cfg)
	assigned(b, log, users)
	res.joined, res.lanes = time.Since(began), r.lanes.Load()
	r.stop()

	// The emulator knows the groups by now, so that what is added is the bridge's.
	bytesBefore, goroutinesBefore := size()
	held := pubnub.Inject(pubnubtest.Fault{Kind: pubnubtest.Hold, Endpoint: pubnubtest.Poll})
	began = time.Now()
	r = run(b, cfg)
	if err := held.WaitHits(b.Context(), int(res.lanes)); err != nil {
		b.Fatal(err)
	}
	res.started = time.Since(began)
	bytesAfter, goroutinesAfter := size()
	res.bytes, res.goroutines = float64(bytesAfter)-float64(bytesBefore), float64(goroutinesAfter-goroutinesBefore)

	for i := range users {
		pubnub.Publish(benchChannel(i), benchPayload)
	}
	end := begin(b, users)
	held.Clear()
	r.stored(users)
	res.lap = end()
	r.stop()
	eachHasOne(b, log, users)
	return res
}

func register(b *testing.B, log *stream.Log, users int) {
	group, ctx := errgroup.WithContext(b.Context())
	group.SetLimit(64)
	for i := range users {
		group.Go(func() error { return log.Register(ctx, userN(i)) })
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
}

// assigned returns when all users have their place in a lane.
func assigned(b *testing.B, log *stream.Log, users int) {
	ctx, cancel := context.WithCancel(b.Context())
	var places atomic.Int64
	var all errgroup.Group
	for shard := range log.Shards() {
		all.Go(func() error {
			return log.FollowRegistrations(ctx, shard, func(g stream.Registration) {
				if g.Lane != stream.NoLane && int(places.Add(1)) == users {
					cancel()
				}
			}, func() {})
		})
	}
	if err := all.Wait(); err != nil {
		b.Fatal(err)
	}
	cancel()
}

// eachHasOne reads the log: each user must have one event.
func eachHasOne(b *testing.B, log *stream.Log, users int) {
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	seen := make([]map[string]struct{}, log.Shards()) // each its follower's
	var events atomic.Int64
	var all errgroup.Group
	for shard := range seen {
		seen[shard] = make(map[string]struct{})
		all.Go(func() error {
			return log.Follow(ctx, shard, stream.FollowOptions{Warm: time.Hour}, func(r *stream.Record) {
				if r.Kind == stream.KindEvent {
					seen[shard][r.User] = struct{}{}
					if int(events.Add(1)) == users {
						cancel()
					}
				}
			})
		})
	}
	if err := all.Wait(); err != nil {
		b.Fatal(err)
	}
	found := 0
	for i := range users {
		if _, ok := seen[log.Shard(userN(i))][userN(i)]; ok {
			found++
		}
	}
	if found != users {
		b.Fatalf("%d of %d users have their event in the log", found, users)
	}
}

// size is what is on the heap, and how many goroutines there are beside those
// that serve the emulator's connections.
func size() (heap uint64, goroutines int) {
	runtime.GC()
	runtime.GC() // what the first one finalized and pools kept
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	stacks := make([]byte, 16<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for stack := range bytes.SplitSeq(stacks, []byte("\n\n")) {
		if !bytes.Contains(stack, []byte("created by net/http.(*Server)")) && !bytes.Contains(stack, []byte("created by net/http.(*connReader)")) {
			goroutines++
		}
	}
	return m.HeapAlloc, goroutines
}
