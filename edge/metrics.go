package edge

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"reprise/stream"
)

// metrics is the edge's instruments, and the counts of /v1/stats. Labels are
// closed lists: none grows with users.
type metrics struct {
	relayed metric.Int64Counter
	active  metric.Int64UpDownCounter
	latency metric.Float64Histogram
	slow    metric.Int64Counter
	dropped metric.Int64Counter
	opens   metric.Int64Counter
	failed  metric.Int64Counter
	depth   metric.Int64Histogram
	replay  metric.Float64Histogram

	refusal labelled
	closes  labelled
	bads    labelled
	resumes labelled
	replays labelled
	updates labelled

	messages atomic.Int64
}

// labelled counts by one label whose values are known beforehand.
type labelled struct {
	counter metric.Int64Counter
	options map[string]metric.MeasurementOption
	counts  map[string]*atomic.Int64
}

func (l *labelled) add(value string) {
	if n := l.counts[value]; n != nil {
		n.Add(1)
		l.counter.Add(context.Background(), 1, l.options[value])
	}
}

// snapshot is the counts that are not 0.
func (l *labelled) snapshot() map[string]int64 {
	m := map[string]int64{}
	for value, n := range l.counts {
		if n := n.Load(); n != 0 {
			m[value] = n
		}
	}
	return m
}

// badFrames is why a frame of a device was not taken.
var badFrames = []string{"bad_json", "unknown_type", "bad_field", "expired", "read_only", "bad_token", "utf8", "binary", "too_big", "protocol"}

// updateResults is what became of the updates that kept the rules. One that is
// unanswered was not acknowledged by the log in time; the device is told
// outbox_full.
// replaySources is where the events of a replay came from: "log" if any had to
// be read there, else "tail", or "none" where nothing was missed.
var replaySources = []string{"tail", "log", "none"}

var updateResults = []string{"accepted", "expired", "read_only", "outbox_full", "unanswered"}

func newMetrics(meter metric.Meter) (*metrics, error) {
	m := &metrics{}
	var errs [15]error
	m.relayed, errs[0] = meter.Int64Counter("reprise.messages.relayed",
		metric.WithDescription("Event frames written to devices."))
	m.active, errs[1] = meter.Int64UpDownCounter("reprise.active.connections",
		metric.WithDescription("WebSocket connections that are open."))
	m.latency, errs[2] = meter.Float64Histogram("reprise.broadcast.latency", metric.WithUnit("s"),
		metric.WithDescription("From the log's acknowledgement of an event to its write to a device's socket, live events only."),
		metric.WithExplicitBucketBoundaries(.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10))
	m.slow, errs[3] = meter.Int64Counter("reprise.devices.slow",
		metric.WithDescription("Connections that took no byte for the slow timeout."))
	errs[4] = m.refusal.init(meter, "reprise.handshakes.refused", "Handshakes that were refused, by the code in the answer.", "code", refusals)
	var codes []string
	for _, name := range codeNames {
		codes = append(codes, name)
	}
	errs[5] = m.closes.init(meter, "reprise.connections.closed", "Connections that ended, by close code, or by the device or a cut.", "code", codes)
	errs[6] = m.bads.init(meter, "reprise.frames.bad", "Frames of devices that were not taken, by reason.", "reason", badFrames)
	errs[7] = m.resumes.init(meter, "reprise.resumes", "Connections welcomed, by whether the replay could be proven complete.", "completeness",
		[]string{"complete", string(stream.Trimmed), string(stream.FutureCursor), string(stream.StoreReset), string(stream.UpstreamGap)})
	errs[8] = m.updates.init(meter, "reprise.updates", "Updates of devices that kept the rules, by result.", "result", updateResults)
	m.dropped, errs[9] = meter.Int64Counter("reprise.registrations.dropped",
		metric.WithDescription("Users who connected and were not registered, since too many were waiting for it."))
	errs[10] = m.replays.init(meter, "reprise.replays", "Replays that came to their end, by where the missed events came from.", "source", replaySources)
	m.opens, errs[11] = meter.Int64Counter("reprise.connections.opened",
		metric.WithDescription("WebSocket connections that were opened."))
	m.failed, errs[12] = meter.Int64Counter("reprise.messages.failed",
		metric.WithDescription("Event frames that a socket did not take; the device gets them when it resumes."))
	m.depth, errs[13] = meter.Int64Histogram("reprise.replay.depth", metric.WithUnit("{event}"),
		metric.WithDescription("Events that a device had missed when it connected."),
		metric.WithExplicitBucketBoundaries(0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000, 100_000, 1_000_000))
	m.replay, errs[14] = meter.Float64Histogram("reprise.replay.duration", metric.WithUnit("s"),
		metric.WithDescription("From the handshake to caught_up."),
		metric.WithExplicitBucketBoundaries(.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60))
	err := errors.Join(errs[:]...)
	if err == nil {
		m.opens.Add(context.Background(), 0)
		m.failed.Add(context.Background(), 0)
		m.active.Add(context.Background(), 0)
		m.dropped.Add(context.Background(), 0)
		m.relayed.Add(context.Background(), 0)
		m.slow.Add(context.Background(), 0)
	}
	return m, err
}

func (l *labelled) init(meter metric.Meter, name, description, label string, values []string) (err error) {
	l.counter, err = meter.Int64Counter(name, metric.WithDescription(description))
	l.options = make(map[string]metric.MeasurementOption, len(values))
	l.counts = make(map[string]*atomic.Int64, len(values))
	for _, v := range values {
		l.options[v] = metric.WithAttributeSet(attribute.NewSet(attribute.String(label, v)))
		l.counts[v] = new(atomic.Int64)
		l.counter.Add(context.Background(), 0, l.options[v]) // there to be scraped before it first counts
	}
	return err
}

func (m *metrics) bad(reason string) { m.bads.add(reason) }
func (m *metrics) opened() {
	m.active.Add(context.Background(), 1)
	m.opens.Add(context.Background(), 1)
}
func (m *metrics) closed(code int)     { m.closes.add(codeNames[code]) }
func (m *metrics) refused(code string) { m.refusal.add(code) }

func (m *metrics) resumed(reason stream.Reason) {
	if reason == stream.Complete {
		m.resumes.add("complete")
		return
	}
	m.resumes.add(string(reason))
}

// caughtUp notes a replay that has come to its end.
func (m *metrics) caughtUp(events int, fromLog bool, took time.Duration) {
	source := "tail"
	switch {
	case events == 0:
		source = "none"
	case fromLog:
		source = "log"
	}
	m.replays.add(source)
	m.depth.Record(context.Background(), int64(events))
	m.replay.Record(context.Background(), took.Seconds())
}

// gauges are what is looked at when it is asked for.
func (s *Server) gauges(meter metric.Meter) error {
	var errs []error
	gauge := func(name, unit, text string, value func() int64) {
		_, err := meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(text),
			metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
				o.Observe(value())
				return nil
			}))
		errs = append(errs, err)
	}
	gauge("reprise.active.users", "{user}", "Users with a connection here.", s.users.Load)
	gauge("reprise.tail.size", "By", "Memory that the tails hold of recent events.", s.budget.used.Load)
	gauge("reprise.consumer.lag", "{event}", "Records of the log that this edge has not taken yet, markers included, over all shards; seen every two seconds.", func() int64 {
		records, _ := s.lag()
		return int64(records)
	})
	_, err := meter.Float64ObservableGauge("reprise.consumer.lag.time", metric.WithUnit("s"),
		metric.WithDescription("Time between what this edge has taken of the log and its end, of the shard that is furthest behind."),
		metric.WithFloat64Callback(func(_ context.Context, o metric.Float64Observer) error {
			_, behind := s.lag()
			o.Observe(behind.Seconds())
			return nil
		}))
	return errors.Join(append(errs, err)...)
}

// lag is how far the feeds are behind the log's end.
func (s *Server) lag() (records uint64, behind time.Duration) {
	if s.cfg.Log == nil {
		return 0, 0
	}
	for _, sh := range s.shards {
		at := sh.dispatched()
		if at == (stream.Position{}) {
			continue // not begun
		}
		n, d := s.cfg.Log.Lag(sh.index, at)
		records, behind = records+n, max(behind, d)
	}
	return records, behind
}
