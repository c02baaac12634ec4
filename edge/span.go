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

// Attributes of the messaging conventions; the socket is the destination.
var (
	toSocket  = attribute.String("messaging.system", "websocket")
	isSending = attribute.String("messaging.operation.type", "send")
)

// end records the span, once: the first device that got the event counts.
func (sp *span) end(tracer trace.Tracer, node string) {
	if !sp.ended.CompareAndSwap(false, true) {
		return
	}
	_, s := tracer.Start(trace.ContextWithRemoteSpanContext(context.Background(), sp.parent), "send websocket",
		trace.WithSpanKind(trace.SpanKindProducer), trace.WithTimestamp(sp.since),
		trace.WithAttributes(toSocket, isSending,
			attribute.String("messaging.operation.name", "send"),
			attribute.String("messaging.message.id", sp.hlc),
			attribute.String("reprise.node", node),
		))
	s.End()
}

// replaySpan is the trace of a replay that had sampled events in it. They are
// old: their own traces are over, so it is a trace of its own, linked to them.
type replaySpan struct{ links []trace.Link }

// maxLinks is how many events a replay is linked to, as many as the SDK keeps.
// Those after them are delivered as any, and counted.
const maxLinks = 128

// replaying notes a sampled event of the replay.
func (c *conn) replaying(sp *span) {
	if c.linked == nil {
		c.linked = &replaySpan{}
	}
	if len(c.linked.links) < maxLinks {
		c.linked.links = append(c.linked.links, trace.Link{
			SpanContext: sp.parent,
			Attributes:  []attribute.KeyValue{attribute.String("messaging.message.id", sp.hlc)},
		})
	}
}

// endReplay records the span of the replay, if it has one. caughtUp says
// whether the device has got all of it.
func (c *conn) endReplay(caughtUp bool) {
	if c.linked == nil {
		return
	}
	_, s := c.server.cfg.Tracer.Start(context.Background(), "replay websocket",
		trace.WithSpanKind(trace.SpanKindProducer), trace.WithTimestamp(c.connected), trace.WithNewRoot(),
		trace.WithLinks(c.linked.links...),
		trace.WithAttributes(toSocket, isSending,
			attribute.String("messaging.operation.name", "replay"),
			attribute.Int("messaging.batch.message_count", c.replayed),
			attribute.Bool("reprise.replay.complete", !c.incomplete),
			attribute.Bool("reprise.replay.caught_up", caughtUp),
			attribute.String("reprise.node", c.server.cfg.Node),
		))
	s.End()
	c.linked = nil
}
