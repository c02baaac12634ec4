package bridge

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// instruments count what the bridge does, for the meter and for [Bridge.Stats].
// No attribute names a user or a channel.
type instruments struct {
	messages, dead, polls, pages    metric.Int64Counter
	history, gaps, overholds, calls metric.Int64Counter
	updates                         metric.Int64Counter
	batch                           metric.Float64Histogram

	// Attributes, made once.
	asStored, asDuplicate, asDead, asAnnouncement, asHeartbeat metric.MeasurementOption
	byReason                                                   map[Reason]metric.MeasurementOption
	byResult                                                   map[pollResult]metric.MeasurementOption

	count counts
}

type counts struct {
	stored, duplicates, dead, announcements, heartbeats, polls, failures, fullPages atomic.Uint64
	filled, gaps, published, expired                                                atomic.Uint64
}

func newInstruments(meter metric.Meter, b *Bridge) (*instruments, error) {
	in := &instruments{byReason: make(map[Reason]metric.MeasurementOption), byResult: make(map[pollResult]metric.MeasurementOption)}
	result := func(name string) metric.MeasurementOption {
		return metric.WithAttributeSet(attribute.NewSet(attribute.String("result", name)))
	}
	in.asStored, in.asDuplicate, in.asDead = result("stored"), result("duplicate"), result("dead")
	in.asAnnouncement, in.asHeartbeat = result("announcement"), result("heartbeat")
	for _, r := range reasons {
		in.byReason[r] = metric.WithAttributeSet(attribute.NewSet(attribute.String("reason", string(r))))
	}
	for _, r := range pollResults {
		in.byResult[r] = result(string(r))
	}
	var first error
	counter := func(name, unit, text string) metric.Int64Counter {
		c, err := meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(text))
		if first == nil {
			first = err
		}
		return c
	}
	in.messages = counter("reprise.bridge.messages", "{message}", "PubNub messages by what became of them.")
	in.dead = counter("reprise.dead_letters", "{message}", "PubNub messages that broke a rule, by the rule.")
	in.polls = counter("reprise.bridge.polls", "{poll}", "Polls of PubNub by how they ended.")
	in.pages = counter("reprise.bridge.full_pages", "{page}", "Replies as long as PubNub's queue: older events may have been dropped.")
	in.history = counter("reprise.bridge.filled", "{event}", "Events that were appended from PubNub's history, by why it was asked.")
	in.gaps = counter("reprise.bridge.gaps", "{gap}", "Gaps that PubNub could not fill.")
	in.overholds = counter("reprise.bridge.overholds", "{overflow}", "Times that too much was held back for history, and went into the log without waiting for it.")
	in.calls = counter("reprise.bridge.call.failures", "{call}", "Calls to PubNub beside the poll that failed and were made again, by how they failed.")
	in.updates = counter("reprise.outbox.updates", "{update}", "Updates of devices that have left the outbox, by what became of them.")
	var err error
	in.batch, err = meter.Float64Histogram("reprise.bridge.batch.duration", metric.WithUnit("s"),
		metric.WithDescription("From a reply with messages to all of them being stored and the checkpoint saved."),
		metric.WithExplicitBucketBoundaries(.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30))
	if first == nil {
		first = err
	}
	_, err = meter.Float64ObservableGauge("reprise.bridge.poll.age", metric.WithUnit("s"),
		metric.WithDescription("Time since the last good poll; nothing on a standby."),
		metric.WithFloat64Callback(func(_ context.Context, o metric.Float64Observer) error {
			if h := b.Health(); h.Active {
				o.Observe(h.PollAge.Seconds())
			}
			return nil
		}))
	if first == nil {
		first = err
	}
	_, err = meter.Int64ObservableGauge("reprise.bridge.active", metric.WithDescription("1 while this bridge writes the log, 0 on a standby."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			var active int64
			if b.Health().Active {
				active = 1
			}
			o.Observe(active)
			return nil
		}))
	if first == nil {
		first = err
	}
	gauge := func(name, unit, text string, value func() int64) {
		_, err := meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(text),
			metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
				o.Observe(value())
				return nil
			}))
		if first == nil {
			first = err
		}
	}
	gauge("reprise.bridge.silent", "", "1 while nothing good comes from PubNub: polls do nothing but fail for 10 s, or none has ended for 320 s.", func() int64 {
		if b.Health().Silent {
			return 1
		}
		return 0
	})
	gauge("reprise.bridge.shards", "{shard}", "Shards that this bridge writes.", func() int64 { return int64(b.Health().Shards) })
	gauge("reprise.bridge.lanes", "{lane}", "Lanes that this bridge polls.", b.lanes.Load)
	gauge("reprise.bridge.filling", "{track}", "Tracks whose history is being compared with the log because something may be missing.", b.filling.Load)
	if first != nil {
		return nil, fmt.Errorf("bridge: instruments: %w", first)
	}
	// There to be scraped before they first count.
	for _, c := range []metric.Int64Counter{in.pages, in.gaps, in.overholds} {
		c.Add(context.Background(), 0)
	}
	for _, r := range reasons {
		in.dead.Add(context.Background(), 0, in.byReason[r])
	}
	for _, r := range pollResults {
		in.polls.Add(context.Background(), 0, in.byResult[r])
	}
	for _, as := range []metric.MeasurementOption{in.asStored, in.asDuplicate, in.asDead, in.asAnnouncement, in.asHeartbeat} {
		in.messages.Add(context.Background(), 0, as)
	}
	for _, why := range []string{whyFlood, whyOutage, whySpoilt, whyLost, whyNew, whyReconcile} {
		in.history.Add(context.Background(), 0, metric.WithAttributes(attribute.String("why", why)))
	}
	for _, r := range []string{"published", "duplicate", "expired", "dead"} {
		in.updates.Add(context.Background(), 0, result(r))
	}
	for _, call := range []string{"publish", "counts", "fetch", "group"} {
		for _, r := range callResults {
			in.calls.Add(context.Background(), 0, metric.WithAttributes(attribute.String("call", call), attribute.String("result", string(r))))
		}
	}
	return in, nil
}

// add counts n in both places.
func add(ctx context.Context, n uint64, here *atomic.Uint64, there metric.Int64Counter, as ...metric.AddOption) {
	if n > 0 {
		here.Add(n)
		there.Add(ctx, int64(n), as...)
	}
}

func (in *instruments) appended(ctx context.Context, stored, duplicates uint64) {
	add(ctx, stored, &in.count.stored, in.messages, in.asStored)
	add(ctx, duplicates, &in.count.duplicates, in.messages, in.asDuplicate)
}

func (in *instruments) announced(ctx context.Context) {
	add(ctx, 1, &in.count.announcements, in.messages, in.asAnnouncement)
}

func (in *instruments) buried(ctx context.Context, reason Reason) {
	add(ctx, 1, &in.count.dead, in.messages, in.asDead)
	in.dead.Add(ctx, 1, in.byReason[reason])
}

func (in *instruments) heartbeat(ctx context.Context) {
	add(ctx, 1, &in.count.heartbeats, in.messages, in.asHeartbeat)
}

func (in *instruments) filled(ctx context.Context, n int, why string) {
	add(ctx, uint64(n), &in.count.filled, in.history, metric.WithAttributes(attribute.String("why", why)))
}

func (in *instruments) gap(ctx context.Context) { add(ctx, 1, &in.count.gaps, in.gaps) }

func (in *instruments) overheld(ctx context.Context) { in.overholds.Add(ctx, 1) }

func (in *instruments) callFailed(e *callError) {
	in.calls.Add(context.Background(), 1, metric.WithAttributes(attribute.String("call", e.call), attribute.String("result", string(e.result))))
}

// outboxed counts an update that has left the outbox.
func (in *instruments) outboxed(ctx context.Context, result string) {
	switch result {
	case "published":
		in.count.published.Add(1)
	case "expired":
		in.count.expired.Add(1)
	}
	in.updates.Add(ctx, 1, metric.WithAttributes(attribute.String("result", result)))
}

func (in *instruments) full(ctx context.Context) { add(ctx, 1, &in.count.fullPages, in.pages) }

func (in *instruments) stored(ctx context.Context, took time.Duration) {
	in.batch.Record(ctx, took.Seconds())
}

func (in *instruments) polled(ctx context.Context, result pollResult) {
	add(ctx, 1, &in.count.polls, in.polls, in.byResult[result])
	if result != pollOK && result != pollSuperseded {
		in.count.failures.Add(1)
	}
}
