package stream

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/metric"
)

// instruments are the log's own figures. None has a label.
type instruments struct {
	appendLatency metric.Float64Histogram
	duplicates    metric.Int64Counter
	conflicts     metric.Int64Counter
	resyncs       metric.Int64Counter
	remade        metric.Int64Counter
	staleReads    metric.Int64Counter
	drift         metric.Float64Gauge
	outboxFull    metric.Int64Counter
	unseen        metric.Int64Counter
	scans         metric.Int64Counter
	tooLarge      metric.Int64Counter
}

func newInstruments(m metric.Meter) (instruments, error) {
	var in instruments
	var errs [11]error
	in.appendLatency, errs[0] = m.Float64Histogram("reprise.append.latency", metric.WithUnit("s"),
		metric.WithDescription("From handing an event to the log to its acknowledgement, sampled once per pipeline."),
		metric.WithExplicitBucketBoundaries(.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10))
	in.duplicates, errs[1] = m.Int64Counter("reprise.append.duplicates",
		metric.WithDescription("Events that were in the log already and were not stored again."))
	in.conflicts, errs[2] = m.Int64Counter("reprise.append.conflicts",
		metric.WithDescription("Events that came under a known id with other bytes, and were stored under an id of their own."))
	in.resyncs, errs[3] = m.Int64Counter("reprise.append.resyncs",
		metric.WithDescription("Times a writer had to ask the leader how far its appends were stored."))
	in.remade, errs[4] = m.Int64Counter("reprise.follow.remade",
		metric.WithDescription("Times the consumer of a shard, or of its outbox, was made anew."))
	in.staleReads, errs[5] = m.Int64Counter("reprise.read.stale",
		metric.WithDescription("Reads that a lagging replica answered and that were repeated."))
	in.drift, errs[6] = m.Float64Gauge("reprise.hlc.drift", metric.WithUnit("s"),
		metric.WithDescription("How far the newest stamp of a shard written here is ahead of the wall clock."))
	in.outboxFull, errs[7] = m.Int64Counter("reprise.outbox.full",
		metric.WithDescription("Updates refused because the outbox, or their user's part of it, was full."))
	in.unseen, errs[8] = m.Int64Counter("reprise.presence.dropped",
		metric.WithDescription("Signs of life of devices that were not written because too many waited."))
	in.scans, errs[9] = m.Int64Counter("reprise.read.scans",
		metric.WithDescription("Scans of a long stretch of the log, for one user or many who were away for long."))
	in.tooLarge, errs[10] = m.Int64Counter("reprise.fold.too.large",
		metric.WithDescription("Times a user's folded state was too large and lost its removed tags, or all of it."))
	for _, c := range []metric.Int64Counter{in.duplicates, in.conflicts, in.resyncs, in.remade, in.staleReads, in.outboxFull, in.unseen, in.scans, in.tooLarge} {
		c.Add(context.Background(), 0) // there to be scraped before it first counts
	}
	return in, errors.Join(errs[:]...)
}
