package bridge

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"reprise/bridge/pubnubtest"
	"reprise/stream"
)

// BenchmarkIngest takes messages from the emulator through the real SDK and
// the guard: once into the log, once into nothing. Both are done in turn, five
// times at least (-benchtime 5x), and the medians and their ratio reported.
func BenchmarkIngest(b *testing.B) {
	const n = 20_000
	var into, nothing []float64
	for b.Loop() {
		into = append(into, ingest(b, n, true))
		nothing = append(nothing, ingest(b, n, false))
	}
	median := func(all []float64) float64 {
		slices.Sort(all)
		return all[len(all)/2]
	}
	b.ReportMetric(median(into), "stored/s")
	b.ReportMetric(median(nothing), "discarded/s")
	b.ReportMetric(median(into)/median(nothing), "ratio")
}

// ingest returns messages per second.
func ingest(b *testing.B, n int, stored bool) float64 {
	s, err := pubnubtest.Start(pubnubtest.Config{QueueSize: 1 << 20, PollTimeout: time.Second})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	log, err := stream.Open(b.Context(), stream.Config{DataDir: b.TempDir(), Shards: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	bridge, err := New(Config{Log: log, Origin: s.Addr(), SubscribeKey: "demo", Channels: []string{"user.*"}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	done := make(chan error, 1)
	received := make(chan struct{})
	if stored {
		go func() { done <- bridge.Run(ctx) }()
		go log.Follow(ctx, 0, stream.FollowOptions{}, counter(n, received))
	} else {
		go func() { done <- discard(ctx, bridge, n, received) }()
	}
	if _, err := s.WaitRequest(ctx, 0, func(r pubnubtest.Request) bool { return r.Endpoint == pubnubtest.Poll }); err != nil {
		b.Fatal(err)
	}
	payload := fmt.Sprintf(`{"type":"progress_update","content_id":%q,"position_seconds":1234,"duration_seconds":7200,"timestamp":"1795437339530","device_id":%q}`, testContent, testDevice)
	began := time.Now()
	for i := range n {
		s.Publish("user."+userN(i%100)+".sync", []byte(payload))
	}
	<-received
	took := time.Since(began)
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	return float64(n) / took.Seconds()
}

// counter closes done at the n-th event.
func counter(n int, done chan<- struct{}) func(*stream.Record) {
	return func(r *stream.Record) {
		if r.Kind == stream.KindEvent {
			if n--; n == 0 {
				close(done)
			}
		}
	}
}

// discard polls as a term does, but stores nothing.
func discard(ctx context.Context, b *Bridge, n int, done chan<- struct{}) error {
	transport := newTransport()
	defer transport.CloseIdleConnections()
	g := newGuard(transport, cursor{}, b.cfg.PollTimeout, b.polls)
	g.store = func(p *page) error {
		before := n
		if n -= len(p.messages); n <= 0 && before > 0 {
			close(done)
		}
		return nil
	}
	sub, err := subscribe(sdkConfig{origin: b.cfg.Origin, subscribeKey: b.cfg.SubscribeKey, userID: b.cfg.UserID}, g)
	if err != nil {
		return err
	}
	if err := sub.start(b.cfg.Channels, nil); err != nil {
		return err
	}
	<-ctx.Done()
	g.stop()
	return sub.stop()
}
