package collector

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"reprise/edge/client"
)

const (
	user      = "11111111-1111-4111-8111-111111111111"
	tv        = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
	phone     = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
	hush      = "what-nobody-may-see"
	published = "0af7651916cd43dd8448eb211c80319c"
	publisher = "b7ad6b7169203331"
)

// relay is a bridge and an edge, each a process of its own.
type relay struct {
	emulator, bridge, edge *process
}

func newRelay(t *testing.T, endpoint, protocol string) *relay {
	t.Helper()
	env := []string{"REPRISE_LOG_FORMAT=json", "OTEL_EXPORTER_OTLP_ENDPOINT=" + endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL=" + protocol,
		"OTEL_LOGS_EXPORTER=otlp", "OTEL_TRACES_SAMPLER=always_on", "OTEL_BSP_SCHEDULE_DELAY=100", "OTEL_BLRP_SCHEDULE_DELAY=100", "OTEL_METRIC_EXPORT_INTERVAL=300"}
	at := nats(t)
	r := &relay{}
	r.emulator = launch(t, []string{"REPRISE_LOG_FORMAT=json"}, running, "reprise", "emulator", "--emulator-listen", "127.0.0.1:0")
	r.bridge = launch(t, env, running, "reprise", "bridge", "--node", "bridge-1", "--nats-url", at, "--admin-listen", "127.0.0.1:0",
		"--pubnub-subscribe-key", "demo", "--pubnub-origin", r.emulator.addrs["emulator"], "--pubnub-tls=false")
	r.edge = launch(t, env, running, "reprise", "edge", "--node", "edge-1", "--nats-url", at, "--admin-listen", "127.0.0.1:0", "--listen", "127.0.0.1:0",
		"--auth", "none", "--drain", "0s")
	return r
}

// publish publishes text with a trace that its publisher has not sampled.
func (r *relay) publish(t *testing.T, text, trace string) {
	t.Helper()
	query := url.Values{"uuid": {"publisher"}}
	if trace != "" {
		query.Set("meta", `{"traceparent":"00-`+trace+`-`+publisher+`-00"}`)
	}
	response, err := http.Get("http://" + r.emulator.addrs["emulator"] + "/publish/demo/demo/0/user." + user + ".notifications/0/" +
		url.PathEscape(`{"text":"`+text+`"}`) + "?" + query.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusOK {
		t.Fatalf("publish = %d %s, want 200", response.StatusCode, body)
	}
}

// device connects a device; its events come through the channel.
func (r *relay) device(t *testing.T, id, since string) <-chan client.Frame {
	t.Helper()
	frames := make(chan client.Frame, 1000)
	c, err := client.New(client.Config{URL: "ws://" + r.edge.addrs["devices"] + "/ws", User: user, Device: id, Since: since,
		OnFrame: func(f client.Frame) { frames <- f }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	return frames
}

func expect(t *testing.T, frames <-chan client.Frame, kind, text string) {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case f := <-frames:
			if f.Type == kind && strings.Contains(string(f.Raw), text) {
				return
			}
		case <-deadline:
			t.Fatalf("no %s with %s came", kind, text)
		}
	}
}

func atLeast(n int) func(*metric) bool {
	return func(m *metric) bool {
		sum := 0
		for _, all := range []*points{m.Sum, m.Gauge, m.Histogram} {
			if all == nil {
				continue
			}
			for _, p := range all.DataPoints {
				one, _ := strconv.Atoi(string(p.AsInt) + string(p.Count))
				sum += one
			}
		}
		return sum >= n
	}
}

// TestSignals follows an event from its publisher to a device, live and as a
// replay, through what the collector hands on.
func TestSignals(t *testing.T) {
	for _, protocol := range []string{"grpc", "http/protobuf"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			s := newSink(t)
			_, endpoints := collect(t, s)
			r := newRelay(t, endpoints[protocol], protocol)
			frames := r.device(t, tv, "latest")
			expect(t, frames, "caught_up", "")
			r.publish(t, hush, published)
			expect(t, frames, "notification", hush)

			taking := s.span(t, "process user.{user}.notifications", published)
			store := s.span(t, "publish reprise.ev.{shard}.{user}", published)
			send := s.span(t, "send websocket", published)
			for _, link := range []struct {
				name         string
				child        *span
				parent, node string
				kind         int
			}{
				{"taking it from PubNub", taking, publisher, "reprise/bridge-1", 5},
				{"storing it", store, taking.SpanID, "reprise/bridge-1", 4},
				{"sending it", send, store.SpanID, "reprise/edge-1", 4},
			} {
				if link.child.ParentSpanID != link.parent || link.child.node != link.node || link.child.Kind != link.kind {
					t.Errorf("%s: %+v, want kind %d under %s, by %s", link.name, link.child, link.kind, link.parent, link.node)
				}
			}
			for span, system := range map[*span]string{taking: "pubnub", store: "nats", send: "websocket"} {
				if got := span.Attributes.get("messaging.system"); got != system || span.Attributes.get("messaging.operation.type") == "" {
					t.Errorf("%s: messaging.system %q in %v, want %s and a type of operation", span.Name, got, span.Attributes, system)
				}
			}

			// A device that comes later has it replayed.
			late := r.device(t, phone, "earliest")
			expect(t, late, "caught_up", `"replayed":1`)
			replay := s.span(t, "replay websocket", "")
			if replay.TraceID == published || replay.ParentSpanID != "" || len(replay.Links) != 1 || replay.Links[0].TraceID != published {
				t.Errorf("replay: %+v, want a trace of its own with a link to %s", replay, published)
			}

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
			for _, node := range []string{"reprise/bridge-1", "reprise/edge-1"} {
				s.await(t, "a log line of "+node, func() bool {
					for _, l := range s.logs {
						if l.node == node && l.Body.String == "running" {
							return true
						}
					}
					return false
				})
			}

			for _, p := range []*process{r.edge, r.bridge} {
				if err := p.end(t); err != nil {
					t.Errorf("the node ended with %v, want exit code 0", err)
				}
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, raw := range s.raw {
				for _, secret := range []string{hush, user, tv, phone} {
					if at := strings.Index(raw, secret); at >= 0 {
						t.Fatalf("%s was exported: …%s…", secret, raw[max(0, at-300):min(len(raw), at+100)])
					}
				}
			}
		})
	}
}

// TestCollectorGoes kills the collector under a relay: events go on, and the
// nodes end as they should.
func TestCollectorGoes(t *testing.T) {
	for _, protocol := range []string{"grpc", "http/protobuf"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			s := newSink(t)
			collector, endpoints := collect(t, s)
			r := newRelay(t, endpoints[protocol], protocol)
			frames := r.device(t, tv, "latest")
			expect(t, frames, "caught_up", "")
			r.publish(t, "before", published)
			expect(t, frames, "notification", "before")
			s.span(t, "send websocket", published)
			collector.cmd.Process.Kill()
			<-collector.ended
			for n := range 200 {
				r.publish(t, fmt.Sprint("after-", n), published)
				expect(t, frames, "notification", fmt.Sprint("after-", n))
			}
			for _, p := range []*process{r.edge, r.bridge} {
				if err := p.end(t); err != nil {
					t.Errorf("the node ended with %v, want exit code 0", err)
				}
			}
		})
	}
}
