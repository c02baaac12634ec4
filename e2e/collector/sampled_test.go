package collector

import "testing"

// TestWhoSamples tries whose word it is that an event is traced: the relay's,
// unless it is told to trust its publishers.
func TestWhoSamples(t *testing.T) {
	const never, always = "OTEL_TRACES_SAMPLER=parentbased_always_off", "OTEL_TRACES_SAMPLER=always_on"
	for _, tt := range []struct {
		name, sampler, meta string
		trust               string
		traced              bool
	}{
		{"the publisher has sampled, the relay does not", never, traceparent(published, "01"), "false", false},
		{"the publisher has not, the relay does", always, traceparent(published, "00"), "false", true},
		{"the publisher has and is trusted", never, traceparent(published, "01"), "true", true},
		{"the publisher has not and is trusted", always, traceparent(published, "00"), "true", false},
		{"a publisher without a trace", always, "", "false", true},
		{"a publisher whose trace id is none", always, `{"traceparent":"00-00000000000000000000000000000000-` + publisher + `-01"}`, "true", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSink(t)
			_, endpoints := collect(t, s)
			r := newNode(t, exports(endpoints["http/protobuf"], "http/protobuf", tt.sampler), "--auth", "none", "--pubnub-trust-traces="+tt.trust)
			frames, _ := r.device(t, tv, "latest", "")
			expect(t, frames, "caught_up", "")
			r.publish(t, hush, tt.meta)
			expect(t, frames, "notification", hush)
			r.end(t) // all spans there are have come

			want := 0
			if tt.traced {
				want = 1
			}
			for _, name := range []string{"process user.{user}.notifications", "publish reprise.ev.{shard}.{user}", "send websocket"} {
				if got := len(s.named(name)); got != want {
					t.Errorf("%d spans %q, want %d", got, name, want)
				}
			}
			if t.Failed() || !tt.traced {
				return
			}
			taking, sending := s.named("process user.{user}.notifications")[0], s.named("send websocket")[0]
			parent := publisher
			if tt.meta != traceparent(published, "00") && tt.meta != traceparent(published, "01") {
				parent = "" // the relay's own trace
			}
			if own := taking.TraceID != published; taking.ParentSpanID != parent || own != (parent == "") {
				t.Errorf("the bridge's span is under %q in trace %s, want under %q", taking.ParentSpanID, taking.TraceID, parent)
			}
			if sending.TraceID != taking.TraceID {
				t.Errorf("the edge's span is in trace %s, want the bridge's %s", sending.TraceID, taking.TraceID)
			}
		})
	}
}
