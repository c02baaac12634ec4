package bridge

import (
	"strings"
	"testing"

	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace/noop"

	"reprise/bridge/pubnubtest"
	"reprise/stream"
)

const (
	sampledParent   = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	unsampledParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
)

func TestRemoteContext(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, meta     string
		valid, sampled bool
	}{
		{"none", "", false, false},
		{"null", "null", false, false},
		{"other members", `{"x":1}`, false, false},
		{"sampled", `{"traceparent":"` + sampledParent + `","tracestate":"a=1,b=2"}`, true, true},
		{"not sampled", `{"traceparent":"` + unsampledParent + `"}`, true, false},
		{"as text", `"{\"traceparent\":\"` + sampledParent + `\"}"`, true, true},
		{"bad state is dropped", `{"traceparent":"` + sampledParent + `","tracestate":"\n"}`, true, true},
		{"later version", `{"traceparent":"01` + sampledParent[2:] + `-more"}`, true, true},
		{"version 00 with more", `{"traceparent":"` + sampledParent + `-more"}`, false, false},
		{"version ff", `{"traceparent":"ff` + sampledParent[2:] + `"}`, false, false},
		{"upper case", `{"traceparent":"` + strings.ToUpper(sampledParent) + `"}`, false, false},
		{"zero trace id", `{"traceparent":"00-00000000000000000000000000000000-b7ad6b7169203331-01"}`, false, false},
		{"zero span id", `{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"}`, false, false},
		{"short", `{"traceparent":"00-0af7-b7ad-01"}`, false, false},
		{"a number", `{"traceparent":1}`, false, false},
		{"array", `["` + sampledParent + `"]`, false, false},
		{"too long", `{"x":"` + strings.Repeat("x", 5000) + `","traceparent":"` + sampledParent + `"}`, false, false},
	} {
		sc := remoteContext([]byte(tt.meta))
		if sc.IsValid() != tt.valid || sc.IsSampled() != tt.sampled {
			t.Errorf("remoteContext(%s) = %+v, want valid %v, sampled %v", tt.name, sc, tt.valid, tt.sampled)
		}
	}
	if sc := remoteContext([]byte(`{"traceparent":"` + sampledParent + `","tracestate":"a=1"}`)); sc.TraceState().String() != "a=1" || !sc.IsRemote() {
		t.Errorf("remoteContext(state) = %+v, want a=1, remote", sc)
	}
}

func FuzzRemoteContext(f *testing.F) {
	f.Add([]byte(`{"traceparent":"` + sampledParent + `","tracestate":"a=1,b=2"}`))
	f.Add([]byte(`"{\"traceparent\":\"` + sampledParent + `\"}"`))
	f.Add([]byte(`"{\"traceparent\":\"\\u00"`))
	f.Fuzz(func(t *testing.T, meta []byte) {
		if !valid(meta) || skipSpace(meta, 0) != 0 {
			return // the envelope hands over one JSON value
		}
		if sc := remoteContext(meta); sc.IsValid() && !sc.IsRemote() {
			t.Fatalf("remoteContext(%q) = %+v, want a remote one", meta, sc)
		}
	})
}

// TestNoTracerNoCost holds the way without a tracer to no allocation.
func TestNoTracerNoCost(t *testing.T) {
	var s spans
	ev, m := &stream.Event{}, &message{meta: []byte(`{"traceparent":"` + sampledParent + `"}`)}
	if n := testing.AllocsPerRun(100, func() { s.begin(t.Context(), ev, m); s.end(nil) }); n != 0 || ev.Traceparent != "" {
		t.Errorf("spans without a tracer: %v allocations, traceparent %q, want none", n, ev.Traceparent)
	}
}

// TestUnsampledCostsNothing is an event with a trace that is not sampled, with a
// tracer that would keep it.
func TestUnsampledCostsNothing(t *testing.T) {
	s := spans{tracer: trace.NewTracerProvider().Tracer("bridge"), sample: func() bool { return false }}
	ev, m := &stream.Event{}, &message{channel: "user." + testUser + ".sync", meta: []byte(`{"traceparent":"` + sampledParent + `"}`)}
	if n := testing.AllocsPerRun(100, func() { s.begin(t.Context(), ev, m); s.end(nil) }); n != 0 || ev.Traceparent != "" {
		t.Errorf("an event that is not sampled: %v allocations, traceparent %q, want none", n, ev.Traceparent)
	}
}

// BenchmarkUnsampled is what tracing costs an event that is not traced.
func BenchmarkUnsampled(b *testing.B) {
	s := spans{tracer: trace.NewTracerProvider().Tracer("bridge"), sample: func() bool { return false }}
	ev, m := &stream.Event{}, &message{channel: "user." + testUser + ".sync", meta: []byte(`{"traceparent":"` + sampledParent + `"}`)}
	b.ReportAllocs()
	for b.Loop() {
		s.begin(b.Context(), ev, m)
	}
}

// TestSpans looks at the spans and at the headers of the stored events.
func TestSpans(t *testing.T) {
	t.Parallel()
	const tracestate = "v=1"
	for _, tt := range []struct {
		name   string
		trust  bool
		sample bool
		meta   string
		traced bool
		parent bool // the publisher's span is the parent
	}{
		{"sampled here", false, true, "", true, false},
		{"not sampled here", false, false, "", false, false},
		{"publisher's, trusted", true, false, sampledParent, true, true},
		{"publisher's, not sampled, trusted", true, true, unsampledParent, false, false},
		{"nothing of the publisher to trust", true, true, "", true, false},
		{"publisher's, not trusted", false, false, sampledParent, false, false},
		{"publisher's, sampled here", false, true, sampledParent, true, true},
		{"publisher's, not sampled, sampled here", false, true, unsampledParent, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			recorder := tracetest.NewSpanRecorder()
			provider := trace.NewTracerProvider(trace.WithSampler(trace.AlwaysSample()), trace.WithSpanProcessor(recorder))
			r := newRig(t, 1, pubnubtest.Config{})
			r.cfg.Tracer, r.cfg.TrustRemoteTrace, r.cfg.Sample = provider.Tracer("bridge"), tt.trust, func() bool { return tt.sample }
			r.follow()
			stop := r.start()
			var options []pubnubtest.PublishOption
			if tt.meta != "" {
				options = append(options, pubnubtest.Meta([]byte(`{"traceparent":"`+tt.meta+`","tracestate":"`+tracestate+`"}`)))
			}
			r.pubnub.Publish("user."+testUser+".notifications", []byte(`{}`), options...)
			rec := r.events(1)[0]
			stop()
			spans := recorder.Ended()
			want := 0
			if tt.traced {
				want = 2
			}
			if (rec.Traceparent != "") != tt.traced || len(spans) != want {
				t.Fatalf("traceparent %q, %d spans, want traced %v", rec.Traceparent, len(spans), tt.traced)
			}
			if !tt.traced {
				return
			}
			store, process := spans[0], spans[1]
			if want := "00-" + store.SpanContext().TraceID().String() + "-" + store.SpanContext().SpanID().String() + "-01"; rec.Traceparent != want {
				t.Errorf("traceparent = %q, want %q", rec.Traceparent, want)
			}
			if process.Name() != "process user.{user}.notifications" || store.Name() != "publish reprise.ev.{shard}.{user}" || store.Parent().SpanID() != process.SpanContext().SpanID() {
				t.Errorf("spans %q under %v and %q, want the publish within the process", store.Name(), store.Parent(), process.Name())
			}
			if process.Parent().IsValid() != tt.parent {
				t.Errorf("parent %v, want one: %v", process.Parent(), tt.parent)
			}
			if tt.parent && (rec.Tracestate != tracestate || process.SpanContext().TraceID().String() != sampledParent[3:35] || process.Parent().SpanID().String() != sampledParent[36:52]) {
				t.Errorf("event in trace %s under %s with state %q, want the publisher's", process.SpanContext().TraceID(), process.Parent().SpanID(), rec.Tracestate)
			}
			for _, span := range spans {
				for _, a := range span.Attributes() {
					if strings.Contains(a.Value.String(), testUser) {
						t.Errorf("attribute %s = %s names a user", a.Key, a.Value.String())
					}
				}
			}
		})
	}
}

// TestNoopTracerIsNone holds the tracer of a process without telemetry to no cost.
func TestNoopTracerIsNone(t *testing.T) {
	t.Parallel()
	cfg, err := Config{Log: &stream.Log{}, SubscribeKey: "demo", Channels: []string{"user.*"}, Tracer: noop.NewTracerProvider().Tracer("")}.withDefaults()
	if err != nil || cfg.Tracer != nil {
		t.Errorf("withDefaults() = tracer %v, %v, want none", cfg.Tracer, err)
	}
}
