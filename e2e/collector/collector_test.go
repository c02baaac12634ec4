package collector

import "testing"

var protocols = []string{"grpc", "http/protobuf"}

// TestSignals follows an event from its publisher to a device, live and as a
// replay, through what the collector hands on.
func TestSignals(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			s := newSink(t)
			_, endpoints := collect(t, s)
			r := newRelay(t, exports(endpoints[protocol], protocol))
			frames, _ := r.device(t, tv, "latest", "")
			expect(t, frames, "caught_up", "")
			r.publish(t, hush, traceparent(published, "00"))
			expect(t, frames, "notification", hush)
			judgeSpans(t, s)

			// A device that comes later has it replayed.
			late, _ := r.device(t, phone, "earliest", "")
			expect(t, late, "caught_up", `"replayed":1`)
			replay := s.span(t, "replay websocket", "")
			if replay.TraceID == published || replay.ParentSpanID != "" || len(replay.Links) != 1 || replay.Links[0].TraceID != published {
				t.Errorf("replay: %+v, want a trace of its own with a link to %s", replay, published)
			}

			judgeMetrics(t, s)
			for _, node := range []string{"reprise/bridge-1", "reprise/edge-1"} {
				s.record(t, node, "running")
			}
			r.end(t)
			for _, node := range []string{"reprise/bridge-1", "reprise/edge-1"} {
				s.record(t, node, "stopped") // the last line comes too
			}
			s.free(t, []string{"traces", "metrics", "logs"}, map[string]string{"payload": hush, "user": user, "tv": tv, "phone": phone})
		})
	}
}

// judgeSpans wants one trace, the publisher's, through both processes.
func judgeSpans(t *testing.T, s *sink) {
	t.Helper()
	taking := s.span(t, "process user.{user}.notifications", published)
	store := s.span(t, "publish reprise.ev.{shard}.{user}", published)
	send := s.span(t, "send websocket", published)
	for _, link := range []struct {
		name                 string
		child                *span
		parent, node, system string
		kind                 int
	}{
		{"taking it from PubNub", taking, publisher, "reprise/bridge-1", "pubnub", 5},
		{"storing it", store, taking.SpanID, "reprise/bridge-1", "nats", 4},
		{"sending it", send, store.SpanID, "reprise/edge-1", "websocket", 4},
	} {
		if link.child.ParentSpanID != link.parent || link.child.node != link.node || link.child.Kind != link.kind {
			t.Errorf("%s: %+v, want kind %d under %s, by %s", link.name, link.child, link.kind, link.parent, link.node)
		}
		if got := link.child.Attributes.get("messaging.system"); got != link.system || link.child.Attributes.get("messaging.operation.type") == "" {
			t.Errorf("%s: messaging.system %q in %v, want %s and a type of operation", link.name, got, link.child.Attributes, link.system)
		}
	}
}

// judgeMetrics wants the metrics of one event to two devices.
func judgeMetrics(t *testing.T, s *sink) {
	t.Helper()
	relayed := s.metric(t, "reprise/edge-1", "reprise.messages.relayed", atLeast(2))
	if relayed.Sum == nil {
		t.Errorf("reprise.messages.relayed is %+v, want a sum", relayed)
	}
	s.metric(t, "reprise/edge-1", "reprise.active.connections", atLeast(2))
	s.metric(t, "reprise/bridge-1", "reprise.bridge.messages", atLeast(1))
	latency := s.metric(t, "reprise/edge-1", "reprise.broadcast.latency", atLeast(1))
	if latency.Histogram == nil || len(latency.Histogram.DataPoints[0].ExplicitBounds) < 10 || latency.Unit != "s" {
		t.Errorf("reprise.broadcast.latency is %+v, want a histogram in seconds with buckets of its own", latency)
	}
}
