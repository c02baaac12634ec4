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

// TestSpans looks at the spans and at the headers of the stored events.
func TestSpans(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		trust   bool
		sampler trace.Sampler
		meta    string
		traced  bool
		parent  bool // the publisher's span is the parent
		linked  bool
	}{
		{"sampled here", false, trace.AlwaysSample(), "", true, false, false},
		{"not sampled here", false, trace.NeverSample(), "", false, false, false},
		{"publisher's, trusted", true, trace.ParentBased(trace.NeverSample()), sampledParent, true, true, false},
		{"publisher's, not trusted", false, trace.ParentBased(trace.NeverSample()), sampledParent, false, false, false},
		{"publisher's, as a link", false, trace.AlwaysSample(), sampledParent, true, false, true},
		{"publisher's, not sampled", true, trace.AlwaysSample(), unsampledParent, true, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			recorder := tracetest.NewSpanRecorder()
			provider := trace.NewTracerProvider(trace.WithSampler(tt.sampler), trace.WithSpanProcessor(recorder))
			r := newRig(t, 1, pubnubtest.Config{})
			r.cfg.Tracer, r.cfg.TrustRemoteTrace = provider.Tracer("bridge"), tt.trust
			r.follow()
			stop := r.start()
			var options []pubnubtest.PublishOption
			if tt.meta != "" {
				options = append(options, pubnubtest.Meta([]byte(`{"traceparent":"`+tt.meta+`","tracestate":"v=1"}`)))
			}
			r.pubnub.Publish("user."+testUser+".notifications", []byte(`{}`), options...)
			rec := r.events(1)[0]
			stop()
			spans := recorder.Ended()
			if (rec.Traceparent != "") != tt.traced || (len(spans) == 1) != tt.traced {
				t.Fatalf("traceparent %q, %d spans, want traced %v", rec.Traceparent, len(spans), tt.traced)
			}
			if !tt.traced {
				return
			}
			span := spans[0]
			if want := "00-" + span.SpanContext().TraceID().String() + "-" + span.SpanContext().SpanID().String() + "-01"; rec.Traceparent != want {
				t.Errorf("traceparent = %q, want %q", rec.Traceparent, want)
			}
			if span.Parent().IsValid() != tt.parent || (len(span.Links()) == 1) != tt.linked || span.Name() != "process user.{user}.notifications" {
				t.Errorf("span %q: parent %v, links %v, want parent %v, link %v", span.Name(), span.Parent(), span.Links(), tt.parent, tt.linked)
			}
			if tt.parent && (rec.Tracestate != "v=1" || span.SpanContext().TraceID().String() != sampledParent[3:35]) {
				t.Errorf("event in trace %s with state %q, want the publisher's", span.SpanContext().TraceID(), rec.Tracestate)
			}
			for _, a := range span.Attributes() {
				if strings.Contains(a.Value.String(), testUser) {
					t.Errorf("attribute %s = %s names a user", a.Key, a.Value.String())
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
