package otel

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Span is a finished step of a trace.
type Span struct {
	Name       string
	Start, End time.Time
}

// recent remembers the newest spans of this process. It is a span processor.
type recent struct {
	mu    sync.Mutex
	spans []sdktrace.ReadOnlySpan // guarded by mu; a ring
	next  int                     // guarded by mu; where the oldest is
}

func newRecent(most int) *recent { return &recent{spans: make([]sdktrace.ReadOnlySpan, most)} }

// OnEnd implements [sdktrace.SpanProcessor].
func (r *recent) OnEnd(s sdktrace.ReadOnlySpan) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spans[r.next] = s
	r.next = (r.next + 1) % len(r.spans)
}

// OnStart implements [sdktrace.SpanProcessor].
func (*recent) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// Shutdown implements [sdktrace.SpanProcessor].
func (*recent) Shutdown(context.Context) error { return nil }

// ForceFlush implements [sdktrace.SpanProcessor].
func (*recent) ForceFlush(context.Context) error { return nil }

// trace returns the spans of the trace that has a span with this message id, in
// the order in which they began.
func (r *recent) trace(messageID string) []Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	want := attribute.String("messaging.message.id", messageID)
	var id trace.TraceID
	for _, s := range r.spans {
		if s != nil && slices.Contains(s.Attributes(), want) {
			id = s.SpanContext().TraceID()
		}
	}
	if !id.IsValid() {
		return nil
	}
	var found []Span
	for _, s := range r.spans {
		if s != nil && s.SpanContext().TraceID() == id {
			found = append(found, Span{Name: s.Name(), Start: s.StartTime(), End: s.EndTime()})
		}
	}
	slices.SortStableFunc(found, func(a, b Span) int { return cmp.Compare(a.Start.UnixNano(), b.Start.UnixNano()) })
	return found
}
