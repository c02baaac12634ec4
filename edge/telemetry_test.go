package edge

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"reprise/stream"
)

func TestMetrics(t *testing.T) {
	t.Parallel()
	reader := metric.NewManualReader()
	meter := metric.NewMeterProvider(metric.WithReader(reader)).Meter("edge")
	synctest.Test(t, func(t *testing.T) {
		p := play(t, Config{Meter: meter})
		a, b := p.joined(uuidA, uuidOf('a', 1), ""), p.joined(uuidA, uuidOf('a', 2), "")
		for n := range 3 {
			p.event(uuidA, "", n)
			a.want("event")
			b.want("event")
		}
		a.send(`x`)
		a.want("error")
		b.ws.CloseNow()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		var got metricdata.ResourceMetrics
		if err := reader.Collect(t.Context(), &got); err != nil {
			t.Fatal(err)
		}
		sums, names := map[string]int64{}, []string{}
		for _, m := range got.ScopeMetrics[0].Metrics {
			names = append(names, m.Name)
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range d.DataPoints {
					sums[m.Name] += p.Value
				}
			case metricdata.Histogram[float64]:
				sums[m.Name] = int64(d.DataPoints[0].Count)
			}
		}
		for name, want := range map[string]int64{
			"reprise.messages.relayed": 6, "reprise.active.connections": 1, "reprise.broadcast.latency": 6,
			"reprise.connections.closed": 1, "reprise.frames.bad": 1, "reprise.resumes": 2,
		} {
			if sums[name] != want || !slices.Contains(names, name) {
				t.Errorf("%s = %d, want %d (of %v)", name, sums[name], want, names)
			}
		}
	})
}

// spans keeps the spans that end.
type spans struct {
	mu   sync.Mutex
	list []sdktrace.ReadOnlySpan
}

func (*spans) OnStart(ctx context.Context, s sdktrace.ReadWriteSpan) {}
func (s *spans) OnEnd(sp sdktrace.ReadOnlySpan) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, sp)
}
func (*spans) Shutdown(context.Context) error   { return nil }
func (*spans) ForceFlush(context.Context) error { return nil }

// TestReplayIsLinked has a device come back to sampled events: the replay is a
// trace of its own, with links to theirs.
func TestReplayIsLinked(t *testing.T) {
	t.Parallel()
	kept := &spans{}
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(kept)).Tracer("edge")
	synctest.Test(t, func(t *testing.T) {
		p := play(t, Config{Tracer: tracer, Node: "edge-1"})
		a := p.joined(uuidA, uuidOf('a', 1), "") // keeps the tail
		const parent = "00-0af7651916cd43dd8448eb211c80319%x-b7ad6b7169203331-01"
		for n := range 3 {
			tp := fmt.Sprintf(parent, n)
			if n == 1 {
				tp = ""
			}
			p.step(stream.Record{Kind: stream.KindEvent, User: uuidA, Traceparent: tp, Frame: []byte(`{"type":"event"}`)})
			a.want("event")
		}
		synctest.Wait()
		live := len(kept.list)
		b := p.openedAt(uuidA, uuidOf('a', 2), at(1))
		for range 4 { // three events and caught_up
			b.frame()
		}
		synctest.Wait()
		if live != 2 || len(kept.list) != 3 {
			t.Fatalf("spans = %d live and %d in all, want 2 and 3", live, len(kept.list))
		}
		sp := kept.list[2]
		if sp.Name() != "replay websocket" || sp.Parent().IsValid() || len(sp.Links()) != 2 {
			t.Fatalf("span %s under %v with %d links, want replay websocket without a parent and 2 links", sp.Name(), sp.Parent(), len(sp.Links()))
		}
		for i, n := range []int{0, 2} {
			if got, want := sp.Links()[i].SpanContext.TraceID().String(), fmt.Sprintf(parent, n)[3:35]; got != want || got == sp.SpanContext().TraceID().String() {
				t.Errorf("link %d is to %s, want to %s, another trace", i, got, want)
			}
		}
	})
}

// TestOrderIsCarriedOutOnce has the log repeat an order, as it does after a lost
// connection: only a new one ends connections.
func TestOrderIsCarriedOutOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		issued := time.Now()
		p := play(t, Config{Authenticate: func(token string) (Identity, error) {
			return Identity{User: token, Issued: issued}, nil
		}})
		other := p.authenticated(uuidB, uuidOf('b', 1))
		d := p.authenticated(uuidA, uuidOf('a', 1))
		time.Sleep(time.Minute)
		order := stream.Order{User: stream.KeyOf(uuidA), At: time.Now()}
		p.order(order)
		if code := d.closed(); code != codeResumeAgain {
			t.Errorf("close code = %d, want %d", code, codeResumeAgain)
		}
		d = p.authenticated(uuidA, uuidOf('a', 1))
		p.order(order)
		d.send(`{"type":"ping"}`)
		d.want("pong")

		// Revoked, the token that the device has is worth nothing.
		order.At = time.Now().Add(time.Second)
		order.RevokedBefore = order.At
		p.order(order)
		if code := d.closed(); code != codeTokenExpired {
			t.Errorf("close code = %d, want %d", code, codeTokenExpired)
		}
		if !p.revoked(uuidA, issued) || !p.revoked(uuidA, time.Time{}) || p.revoked(uuidA, order.At) || p.revoked(uuidB, issued) {
			t.Error("revoked() is wrong: want A's tokens from before, and those that do not say, and no others")
		}

		// A fresh token on a live connection is looked at as well.
		issued = order.At
		d = p.authenticated(uuidA, uuidOf('a', 1))
		issued = order.At.Add(-time.Second)
		d.send(`{"type":"token","token":"` + uuidA + `"}`)
		if h := d.want("error"); h.Code != "bad_token" {
			t.Errorf("answer to a revoked token = %s, want bad_token", h.text)
		}
		if code := d.closed(); code != codeBadToken {
			t.Errorf("close code = %d, want %d", code, codeBadToken)
		}

		// Forgotten, nothing of the user is in memory.
		issued = order.At.Add(time.Hour)
		d = p.authenticated(uuidA, uuidOf('a', 1))
		p.event(uuidA, "", 1)
		p.event(uuidB, "", 1)
		d.want("event")
		other.want("event")
		d.send(`{"type":"ack","hlc":"` + at(p.seq-1).Hlc.String() + `"}`)
		d.send(`{"type":"ping"}`)
		d.want("pong")
		full := p.budget.used.Load()
		order.At = order.At.Add(time.Minute)
		order.RevokedBefore, order.ForgottenBefore = order.At, order.At
		p.order(order)
		if code := d.closed(); code != codeTokenExpired {
			t.Errorf("close code = %d, want %d", code, codeTokenExpired)
		}
		if left := p.budget.used.Load(); left == 0 || left >= full {
			t.Errorf("tails hold %d bytes of %d, want the other user's alone", left, full)
		}
		p.cursors.mu.Lock()
		defer p.cursors.mu.Unlock()
		if n := len(p.cursors.unsent); n != 0 {
			t.Errorf("%d cursors wait to be saved, want none", n)
		}
	})
}

// TestUnsampledCostsNothing holds an event without a trace to no allocation.
func TestUnsampledCostsNothing(t *testing.T) {
	r := stream.Record{Kind: stream.KindEvent, User: uuidA, Frame: []byte(`{}`)}
	if n := testing.AllocsPerRun(100, func() { newSpan(&r) }); n != 0 {
		t.Errorf("newSpan(not sampled) allocates %v times, want 0", n)
	}
}

// BenchmarkUnsampled is what tracing costs an edge for an event that is not traced.
func BenchmarkUnsampled(b *testing.B) {
	r := stream.Record{Kind: stream.KindEvent, User: uuidA, Frame: []byte(`{}`)}
	b.ReportAllocs()
	for b.Loop() {
		if newSpan(&r) != nil {
			b.Fatal("a span for an event that is not sampled")
		}
	}
}

func TestSampledEventMakesOneSpan(t *testing.T) {
	t.Parallel()
	kept := &spans{}
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(kept)).Tracer("edge")
	synctest.Test(t, func(t *testing.T) {
		p := play(t, Config{Tracer: tracer, Node: "edge-1"})
		a, b := p.joined(uuidA, uuidOf('a', 1), ""), p.joined(uuidA, uuidOf('a', 2), "")
		const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		for _, tp := range []string{"", "nonsense", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", parent} {
			p.step(stream.Record{Kind: stream.KindEvent, User: uuidA, Traceparent: tp, Frame: []byte(`{"type":"event"}`)})
			a.want("event")
			b.want("event")
		}
		synctest.Wait()
		if len(kept.list) != 1 {
			t.Fatalf("spans = %d, want 1", len(kept.list))
		}
		sp := kept.list[0]
		if sp.Name() != "send websocket" || sp.SpanContext().TraceID().String() != parent[3:35] || sp.Parent().SpanID().String() != parent[36:52] ||
			!sp.Parent().IsRemote() || sp.SpanKind() != trace.SpanKindProducer {
			t.Errorf("span = %s of %v under %v, want send websocket under %s", sp.Name(), sp.SpanContext(), sp.Parent(), parent)
		}
	})
}
