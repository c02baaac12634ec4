package bridge

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"reprise/stream"
)

// spans are those of one page: begun before an event is appended and ended
// when it is stored. Without a tracer, and for an event that is not sampled,
// nothing here allocates anything.
type spans struct {
	tracer trace.Tracer
	sample func() bool
	trust  bool
	open   []trace.Span
}

func (b *Bridge) newSpans() spans {
	return spans{tracer: b.cfg.Tracer, sample: b.cfg.Sample, trust: b.cfg.TrustRemoteTrace}
}

// sampled decides whether m is traced, and in which context.
func (s *spans) sampled(m *message) (remote trace.SpanContext, yes bool) {
	if s.trust && len(m.meta) > 0 {
		if remote = remoteContext(m.meta); remote.IsValid() {
			return remote, remote.IsSampled()
		}
	}
	if !s.sample() {
		return trace.SpanContext{}, false
	}
	return remoteContext(m.meta), true
}

// Attributes that are the same for each event.
var (
	processing = trace.WithAttributes(
		attribute.String("messaging.system", "pubnub"),
		attribute.String("messaging.operation.name", "process"),
		attribute.String("messaging.operation.type", "process"))
	appending = trace.WithAttributes(
		attribute.String("messaging.system", "nats"),
		attribute.String("messaging.operation.name", "publish"),
		attribute.String("messaging.operation.type", "send"),
		attribute.String("messaging.destination.template", "reprise.ev.{shard}.{user}"))
)

// begin starts ev's spans if it is traced: that of taking it from PubNub, which
// is the publisher's child where the message came with a trace, and within it
// that of storing it, whose context goes into ev. The names are those of the
// OpenTelemetry conventions for messaging.
func (s *spans) begin(ctx context.Context, ev *stream.Event, m *message) {
	if s.tracer == nil {
		return
	}
	remote, yes := s.sampled(m)
	if !yes {
		return
	}
	if remote.IsValid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, remote.WithTraceFlags(trace.FlagsSampled))
	}
	_, carries := parseChannel(m.channel)
	ctx, process := s.tracer.Start(ctx, "process "+carries.template(), trace.WithSpanKind(trace.SpanKindConsumer), processing,
		trace.WithAttributes(
			attribute.String("messaging.destination.template", carries.template()),
			attribute.String("messaging.message.id", m.timetoken),
			attribute.Int("messaging.message.body.size", len(m.payload)),
		))
	_, store := s.tracer.Start(ctx, "publish reprise.ev.{shard}.{user}", trace.WithSpanKind(trace.SpanKindProducer), appending)
	s.open = append(s.open, store, process)
	if sc := store.SpanContext(); sc.IsSampled() {
		ev.Traceparent = "00-" + sc.TraceID().String() + "-" + sc.SpanID().String() + "-01"
		ev.Tracestate = sc.TraceState().String()
	}
}

// end ends all spans of the page.
func (s *spans) end(err error) {
	for _, span := range s.open {
		if err != nil {
			span.SetStatus(codes.Error, "not stored")
		}
		span.End()
	}
	clear(s.open)
	s.open = s.open[:0]
}

// remoteContext reads traceparent and tracestate (W3C Trace Context 1) from a
// message's meta, one JSON value as the envelope has it: an object or, as a
// string, the text of one. The zero context is none.
func remoteContext(meta []byte) trace.SpanContext {
	if len(meta) == 0 || len(meta) > 4<<10 {
		return trace.SpanContext{}
	}
	if meta[0] == '"' {
		meta = textOf(meta)
	}
	if at := skipSpace(meta, 0); at >= len(meta) || meta[at] != '{' {
		return trace.SpanContext{}
	}
	var parent, state string
	m := newMembers(meta, skipSpace(meta, 0), maxLevels)
	for name, value, ok := m.next(); ok; name, value, ok = m.next() {
		switch string(name) {
		case "traceparent":
			parent = string(textOf(value))
		case "tracestate":
			state = string(textOf(value))
		}
	}
	if m.err != nil {
		return trace.SpanContext{}
	}
	return parseTraceparent(parent, state)
}

// parseTraceparent reads version 00, and of later versions what they share
// with it.
func parseTraceparent(parent, state string) trace.SpanContext {
	none := trace.SpanContext{}
	if len(parent) < 55 || len(parent) > 55 && (parent[:2] == "00" || parent[55] != '-') || parent[:2] == "ff" {
		return none
	}
	fields := strings.SplitN(parent, "-", 5)
	if len(fields) < 4 || len(fields[0]) != 2 || len(fields[3]) != 2 || !isLowerHex(fields[0]) || !isLowerHex(fields[3]) {
		return none
	}
	traceID, err := trace.TraceIDFromHex(fields[1])
	if err != nil {
		return none
	}
	spanID, err := trace.SpanIDFromHex(fields[2])
	if err != nil {
		return none
	}
	var flags trace.TraceFlags
	if strings.ContainsRune("13579bdf", rune(fields[3][1])) {
		flags = trace.FlagsSampled
	}
	config := trace.SpanContextConfig{TraceID: traceID, SpanID: spanID, TraceFlags: flags, Remote: true}
	if ts, err := trace.ParseTraceState(state); err == nil {
		config.TraceState = ts
	}
	return trace.NewSpanContext(config)
}

func isLowerHex(s string) bool {
	for i := range len(s) {
		if !isDigit(s[i]) && (s[i] < 'a' || s[i] > 'f') {
			return false
		}
	}
	return true
}
