package bridge

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"reprise/stream"
)

// instruments count what the bridge does, for the meter and for [Bridge.Stats].
// No attribute names a user or a channel.
type instruments struct {
	messages, dead, polls, pages metric.Int64Counter
	batch                        metric.Float64Histogram

	// Attributes, made once.
	asStored, asDuplicate, asDead, asAnnouncement, asHeartbeat metric.MeasurementOption
	byReason                                                   map[Reason]metric.MeasurementOption
	byResult                                                   map[pollResult]metric.MeasurementOption

	count counts
}

type counts struct {
	stored, duplicates, dead, announcements, heartbeats, polls, failures, fullPages atomic.Uint64
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
			if b.active.Load() {
				active = 1
			}
			o.Observe(active)
			return nil
		}))
	if first == nil {
		first = err
	}
	if first != nil {
		return nil, fmt.Errorf("bridge: instruments: %w", first)
	}
	// There to be scraped before they first count.
	in.pages.Add(context.Background(), 0)
	for _, r := range reasons {
		in.dead.Add(context.Background(), 0, in.byReason[r])
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

func (in *instruments) received(ctx context.Context, dead []stream.DeadLetter, heartbeats uint64) {
	add(ctx, uint64(len(dead)), &in.count.dead, in.messages, in.asDead)
	add(ctx, heartbeats, &in.count.heartbeats, in.messages, in.asHeartbeat)
	for _, d := range dead {
		in.dead.Add(ctx, 1, in.byReason[Reason(d.Reason)])
	}
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
