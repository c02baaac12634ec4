package collector

import (
	"strconv"
	"testing"

	"reprise/edge/client"
)

// TestReplayLinks has a device come back with a cursor: what it missed is
// replayed in a trace of its own, which is linked to just these events' traces
// and is no child of theirs.
func TestReplayLinks(t *testing.T) {
	traces := []string{"11111111111111111111111111111111", "22222222222222222222222222222222", "33333333333333333333333333333333"}
	for _, tt := range []struct {
		name string
		seen int // of the events, before it left
	}{
		{"missed all", 0},
		{"missed two", 1},
		{"missed one", 2},
		{"missed none", 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSink(t)
			_, endpoints := collect(t, s)
			r := newNode(t, exports(endpoints["grpc"], "grpc"), "--auth", "none")
			frames, leave := r.device(t, tv, "latest", "")
			cursor := expect(t, frames, "caught_up", "").Hlc.String()
			var events []client.Frame
			for n, trace := range traces {
				text := "event-" + strconv.Itoa(n)
				r.publish(t, text, traceparent(trace, "01"))
				events = append(events, expect(t, frames, "notification", text))
				s.span(t, "send websocket", trace) // its trace is over
			}
			leave()
			if tt.seen > 0 {
				cursor = events[tt.seen-1].Hlc.String()
			}
			missed := strconv.Itoa(len(traces) - tt.seen)
			back, _ := r.device(t, tv, cursor, "")
			expect(t, back, "caught_up", `"replayed":`+missed)
			r.end(t)

			if got := len(s.named("send websocket")); got != len(traces) {
				t.Errorf("%d spans of sending, want %d: a replay makes none", got, len(traces))
			}
			replays := s.named("replay websocket")
			if tt.seen == len(traces) {
				if len(replays) != 0 {
					t.Errorf("%d spans of a replay of nothing, want none", len(replays))
				}
				return
			}
			if len(replays) != 1 {
				t.Fatalf("%d spans of the replay, want 1", len(replays))
			}
			replay := replays[0]
			if got := replay.Attributes.get("messaging.batch.message_count"); got != missed {
				t.Errorf("messaging.batch.message_count = %q, want %s", got, missed)
			}
			judgeLinks(t, s, replay, traces[tt.seen:], events[tt.seen:])
		})
	}
}

// judgeLinks wants a span's links to be these traces, where they were stored,
// and the span to be in none of them.
func judgeLinks(t *testing.T, s *sink, replay *span, traces []string, events []client.Frame) {
	t.Helper()
	if replay.ParentSpanID != "" || replay.TraceID == "" {
		t.Errorf("the replay's span is under %q in trace %q, want the root of a trace", replay.ParentSpanID, replay.TraceID)
	}
	if len(replay.Links) != len(traces) {
		t.Fatalf("%d links %+v, want %d", len(replay.Links), replay.Links, len(traces))
	}
	for n, link := range replay.Links {
		store := s.span(t, "publish reprise.ev.{shard}.{user}", traces[n])
		if link.TraceID != traces[n] || link.SpanID != store.SpanID || replay.TraceID == link.TraceID {
			t.Errorf("link %d = %s of %s, want span %s of %s, which is not the replay's own trace %s", n, link.SpanID, link.TraceID, store.SpanID, traces[n], replay.TraceID)
		}
		if got, want := link.Attributes.get("messaging.message.id"), events[n].Hlc.String(); got != want {
			t.Errorf("link %d: messaging.message.id = %q, want %s", n, got, want)
		}
	}
}
