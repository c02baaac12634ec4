package edge

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"reprise/stream"
)

// span is the trace of a sampled event, on its way to its first device.
type span struct {
	parent trace.SpanContext
	hlc    string
	since  time.Time // when this edge had it
	ended  atomic.Bool
}

// carrier is W3C trace context as the log keeps it. It is what
// [propagation.TraceContext] reads from; nothing is ever set in it.
type carrier struct{ parent, state string }

func (c carrier) Get(key string) string {
	switch key {
	case "traceparent":
		return c.parent
	case "tracestate":
		return c.state
	}
	return ""
}

func (carrier) Set(string, string) {}
func (carrier) Keys() []string     { return []string{"traceparent", "tracestate"} }

// newSpan returns nil for an event that is not sampled, at the price of one
// comparison.
func newSpan(r *stream.Record) *span {
	if r.Traceparent == "" {
		return nil
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), carrier{strings.Clone(r.Traceparent), strings.Clone(r.Tracestate)})
	parent := trace.SpanContextFromContext(ctx)
	if !parent.IsSampled() {
		return nil
	}
	return &span{parent: parent, hlc: r.Hlc.String(), since: time.Now()}
}

// end records the span, once: the first device that got the event counts.
func (sp *span) end(tracer trace.Tracer, node string) {
	if !sp.ended.CompareAndSwap(false, true) {
		return
	}
	_, s := tracer.Start(trace.ContextWithRemoteSpanContext(context.Background(), sp.parent), "send websocket",
		trace.WithSpanKind(trace.SpanKindProducer), trace.WithTimestamp(sp.since),
		trace.WithAttributes(
			attribute.String("messaging.system", "websocket"),
			attribute.String("messaging.operation.name", "send"),
			attribute.String("messaging.operation.type", "send"),
			attribute.String("messaging.message.id", sp.hlc),
			attribute.String("service.instance.id", node),
		))
	s.End()
}
