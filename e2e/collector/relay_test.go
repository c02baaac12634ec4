package collector

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"os/exec"
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

// ending is how long a node may take to end, whatever its collector does: five
// seconds are the telemetry's, the rest is room.
const ending = 10 * time.Second

// relay is an emulator and what relays from it: a bridge and an edge, each a
// process of its own, or one process that is both.
type relay struct {
	emulator, bridge, edge *process
}

// exports are the variables that have a node export all it has, soon.
func exports(endpoint, protocol string, more ...string) []string {
	return append([]string{"REPRISE_LOG_FORMAT=json", "OTEL_EXPORTER_OTLP_ENDPOINT=" + endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL=" + protocol,
		"OTEL_LOGS_EXPORTER=otlp", "OTEL_TRACES_SAMPLER=always_on", "OTEL_BSP_SCHEDULE_DELAY=100", "OTEL_BLRP_SCHEDULE_DELAY=100",
		"OTEL_METRIC_EXPORT_INTERVAL=300"}, more...)
}

func emulate(t *testing.T) *process {
	t.Helper()
	return launch(t, []string{"REPRISE_LOG_FORMAT=json"}, running, "reprise", "emulator", "--emulator-listen", "127.0.0.1:0")
}

// newRelay starts bridge-1 and edge-1.
func newRelay(t *testing.T, env []string) *relay {
	t.Helper()
	at := nats(t)
	r := &relay{emulator: emulate(t)}
	r.bridge = launch(t, env, running, "reprise", "bridge", "--node", "bridge-1", "--nats-url", at, "--admin-listen", "127.0.0.1:0",
		"--pubnub-subscribe-key", "demo", "--pubnub-origin", r.emulator.addrs["emulator"], "--pubnub-tls=false")
	r.edge = launch(t, env, running, "reprise", "edge", "--node", "edge-1", "--nats-url", at, "--admin-listen", "127.0.0.1:0", "--listen", "127.0.0.1:0",
		"--auth", "none", "--drain", "0s")
	return r
}

// newNode starts node-1, which is both; more are its further arguments.
func newNode(t *testing.T, env []string, more ...string) *relay {
	t.Helper()
	r := &relay{emulator: emulate(t)}
	r.edge = launch(t, env, running, "reprise", append([]string{"serve", "--node", "node-1", "--data-dir", t.TempDir(), "--admin-listen", "127.0.0.1:0",
		"--listen", "127.0.0.1:0", "--drain", "0s",
		"--pubnub-subscribe-key", "demo", "--pubnub-origin", r.emulator.addrs["emulator"], "--pubnub-tls=false"}, more...)...)
	r.bridge = r.edge
	return r
}

// end ends the nodes and judges how: what they have is exported then.
func (r *relay) end(t *testing.T) {
	t.Helper()
	nodes := []*process{r.edge}
	if r.bridge != r.edge {
		nodes = append(nodes, r.bridge)
	}
	for _, p := range nodes {
		began := time.Now()
		if err := p.end(t); err != nil {
			t.Errorf("the node ended with %v, want exit code 0", err)
		}
		if took := time.Since(began); took > ending {
			t.Errorf("the node ended %v after SIGTERM, want at most %v", took, ending)
		}
	}
}

// publish publishes a notification; meta is its metadata, "" none.
func (r *relay) publish(t *testing.T, text, meta string) {
	t.Helper()
	r.send(t, "notifications", `{"text":"`+text+`"}`, meta)
}

// send publishes to one of the user's channels.
func (r *relay) send(t *testing.T, channel, payload, meta string) {
	t.Helper()
	query := url.Values{"uuid": {"publisher"}}
	if meta != "" {
		query.Set("meta", meta)
	}
	response, err := http.Get("http://" + r.emulator.addrs["emulator"] + "/publish/demo/demo/0/user." + user + "." + channel + "/0/" +
		url.PathEscape(payload) + "?" + query.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusOK {
		t.Fatalf("publish = %d %s, want 200", response.StatusCode, body)
	}
}

// traceparent is the metadata of a publisher with a trace; flags "01" says that
// the publisher has sampled it.
func traceparent(trace, flags string) string {
	return `{"traceparent":"00-` + trace + `-` + publisher + `-` + flags + `"}`
}

// device connects a device; its events come through the channel, until the
// test ends or leave is called.
func (r *relay) device(t *testing.T, id, since, token string) (frames <-chan client.Frame, leave func()) {
	t.Helper()
	come := make(chan client.Frame, 1000)
	cfg := client.Config{URL: "ws://" + r.edge.addrs["devices"] + "/ws", User: user, Device: id, Since: since,
		OnFrame: func(f client.Frame) { come <- f }}
	if token != "" {
		cfg.User, cfg.Token = "", func(context.Context) (string, error) { return token, nil }
	}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx) }()
	leave = func() { stop(); <-done }
	t.Cleanup(leave)
	return come, leave
}

// expect waits for a frame and returns it.
func expect(t *testing.T, frames <-chan client.Frame, kind, text string) client.Frame {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case f := <-frames:
			if f.Type == kind && strings.Contains(string(f.Raw), text) {
				return f
			}
		case <-deadline:
			t.Fatalf("no %s with %s came", kind, text)
		}
	}
}

// token makes a token of the user.
func token(t *testing.T, secret string) string {
	t.Helper()
	out, err := exec.Command(built["reprise"], "token", "--user", user, "--auth-hmac-secret", secret).Output()
	if err != nil {
		t.Fatalf("reprise token: %v", err)
	}
	return strings.TrimSpace(string(out))
}
