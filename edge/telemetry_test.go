package edge

import (
	"context"
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
