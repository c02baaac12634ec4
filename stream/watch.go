package stream

import (
	"context"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
)

// watchEvery is how often the server is asked for a sign of life.
const watchEvery = 2 * time.Second

// watchShards is how many shards are asked for at a time, in turn.
const watchShards = 16

// sights are what watch last saw of the log, for those who measure.
type sights struct {
	ends   []atomic.Pointer[sight]
	folded []atomic.Pointer[foldRecord] // of the shards that are folded here
	outbox atomic.Int64
}

// sight is where a shard's stream ended when it was looked at.
type sight struct {
	seq   uint64
	at    time.Time // when the last record was stored
	asked time.Time
}

// watch asks the server for the ends of the shards and the depth of the outbox,
// so that Unreachable, Lag and the gauges know.
func (l *Log) watch(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	next := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		ask, cancel := context.WithTimeout(ctx, watchEvery)
		for range min(watchShards, len(l.shards)) {
			shard := next
			next = (next + 1) % len(l.shards)
			asked := time.Now()
			state, err := l.info(ask, shard)
			if err != nil {
				break
			}
			l.sights.ends[shard].Store(&sight{state.Last, state.LastTime, asked})
			l.reached.Store(time.Now().UnixNano())
		}
		if state, err := l.state(ask, outboxStream); err == nil {
			l.sights.outbox.Store(int64(state.Messages))
		}
		cancel()
	}
}

// Lag says how far a follower of shard that has come to at is behind the log's
// end as it was seen last, some seconds ago: by how many records, and by how
// much time lies between the two. Who is not behind gets zeros.
func (l *Log) Lag(shard int, at Position) (records uint64, behind time.Duration) {
	seen := l.sights.ends[shard].Load()
	if seen == nil || seen.seq <= at.Seq {
		return 0, 0
	}
	return seen.seq - at.Seq, max(0, seen.at.Sub(at.Hlc.Time()))
}

// FoldLag says how far the states of the shards that are folded here are behind the
// log, at most.
func (l *Log) FoldLag() (most time.Duration) {
	for shard := range l.sights.folded {
		if at := l.sights.folded[shard].Load(); at != nil {
			_, behind := l.Lag(shard, at.Position)
			most = max(most, behind)
		}
	}
	return most
}

// partlyFolded is how many of the shards that are folded here have states that lack
// events.
func (l *Log) partlyFolded() (n int64) {
	for shard := range l.sights.folded {
		if at := l.sights.folded[shard].Load(); at != nil && !at.Whole {
			n++
		}
	}
	return n
}

// gauges are what is looked at when it is asked for.
func (l *Log) gauges(m metric.Meter) error {
	for _, g := range []struct {
		name, unit, text string
		value            func() int64
	}{
		{"reprise.outbox.depth", "{update}", "Updates of devices that wait in the outbox to be published, over all nodes.", l.sights.outbox.Load},
		{"reprise.fold.partial", "{shard}", "Shards written here of which events were cut before they were folded: their users are given no snapshots.", l.partlyFolded},
	} {
		if _, err := m.Int64ObservableGauge(g.name, metric.WithUnit(g.unit), metric.WithDescription(g.text),
			metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
				o.Observe(g.value())
				return nil
			})); err != nil {
			return err
		}
	}
	for _, g := range []struct {
		name, text string
		value      func() time.Duration
	}{
		{"reprise.log.held", "For how long the log has not stored an event that a writer here wants stored: the disk is full, the leader lost.", l.Held},
		{"reprise.fold.lag", "How far the folded states of the shards written here are behind the log.", l.FoldLag},
		{"reprise.log.unreachable", "For how long the log has not answered.", l.Unreachable},
	} {
		if _, err := m.Float64ObservableGauge(g.name, metric.WithUnit("s"), metric.WithDescription(g.text),
			metric.WithFloat64Callback(func(_ context.Context, o metric.Float64Observer) error {
				o.Observe(g.value().Seconds())
				return nil
			})); err != nil {
			return err
		}
	}
	return nil
}
