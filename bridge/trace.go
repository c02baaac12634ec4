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
// when it is stored. Without a tracer nothing here does or allocates anything.
type spans struct {
	tracer trace.Tracer
	trust  bool
	open   []trace.Span
}

// begin starts ev's span, if the sampler takes it, and puts its context into
// ev. An event that is not sampled carries none.
func (s *spans) begin(ctx context.Context, ev *stream.Event, m *message) {
	if s.tracer == nil {
		return
	}
	_, carries := parseChannel(m.channel)
	opts := []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(
			attribute.String("messaging.system", "pubnub"),
			attribute.String("messaging.operation.name", "process"),
			attribute.String("messaging.operation.type", "process"),
			attribute.String("messaging.destination.template", carries.template()),
			attribute.String("messaging.pubnub.timetoken", m.timetoken),
		),
	}
	if remote := remoteContext(m.meta); remote.IsValid() {
		if s.trust && remote.IsSampled() {
			ctx = trace.ContextWithRemoteSpanContext(ctx, remote)
		} else {
			opts = append(opts, trace.WithLinks(trace.Link{SpanContext: remote}))
		}
	}
	_, span := s.tracer.Start(ctx, "process "+carries.template(), opts...)
	sc := span.SpanContext()
	if !sc.IsValid() || !sc.IsSampled() {
		span.End()
		return
	}
	s.open = append(s.open, span)
	ev.Traceparent = "00-" + sc.TraceID().String() + "-" + sc.SpanID().String() + "-01"
	ev.Tracestate = sc.TraceState().String()
}

// end ends all spans of the page.
func (s *spans) end(err error) {
	for _, span := range s.open {
		if err != nil {
			span.SetStatus(codes.Error, "not stored")
		}
		span.End()
	}
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
