package otel

import (
	"fmt"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"
)

func TestRecentTraces(t *testing.T) {
	tel, err := New(t.Context(), Config{Recent: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer tel.Shutdown(t.Context())
	if !tel.Tracing() {
		t.Error("Tracing() = false where spans are remembered")
	}
	tracer := tel.TracerProvider().Tracer("test")
	send := func(id string) {
		ctx, process := tracer.Start(t.Context(), "process")
		_, sent := tracer.Start(ctx, "send", trace.WithAttributes(attribute.String("messaging.message.id", id)))
		sent.End()
		process.End()
	}
	for n := range 3 {
		send(fmt.Sprint(n))
	}
	if got := tel.Trace("0"); got != nil {
		t.Errorf("Trace(0) = %v after it was pushed out, want none", got)
	}
	got := tel.Trace("2")
	if len(got) != 2 || got[0].Name != "process" || got[1].Name != "send" || got[1].Start.Before(got[0].Start) || got[1].End.Before(got[1].Start) {
		t.Errorf("Trace(2) = %v, want process and send", got)
	}
}

// TestRememberedEventsAreFew bounds what tracing costs where nobody asked for it.
func TestRememberedEventsAreFew(t *testing.T) {
	t.Parallel()
	s := sampling{some: rate.NewLimiter(rate.Every(time.Hour), 1)}
	if !s.sample() || s.sample() {
		t.Error("want the first event to be traced, and not the next")
	}
}
