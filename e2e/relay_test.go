package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"reprise/bridge/pubnubtest"
)

// A relay is the program as it serves devices, over all its starts on one data
// directory.
type relay struct {
	t    testing.TB
	args []string
	by   []string // what starts it; none is this process
	proc *process

	devices, admin string // where it listens, since its last start
}

// emulator is PubNub within the test's process, so that it outlives the relay.
// Its queue is long: what a relay does that was away for longer than PubNub's
// memory is not the matter here.
func emulator(t testing.TB) *pubnubtest.Server {
	t.Helper()
	return emulatorWith(t, pubnubtest.Config{QueueSize: 100_000})
}

// emulatorWith is an emulator that forgets nothing in its history.
func emulatorWith(t testing.TB, cfg pubnubtest.Config) *pubnubtest.Server {
	t.Helper()
	cfg.HistoryLimit, cfg.MaxMessages = 1<<20, 1<<20
	s, err := pubnubtest.Start(cfg)
	if err != nil {
		t.Fatalf("pubnubtest.Start() = %v, want nil", err)
	}
	t.Cleanup(s.Close)
	return s
}

// serve starts a relay without authentication that polls PubNub at origin, and
// returns when it polls.
func serve(t testing.TB, origin string, args ...string) *relay {
	t.Helper()
	return serveWith(t, origin, append([]string{"--auth", "none"}, args...)...)
}

// serveWith is serve without a word about authentication.
func serveWith(t testing.TB, origin string, args ...string) *relay {
	t.Helper()
	return serveBare(t, origin, append([]string{"--pubnub-subscribe-key", "demo", "--pubnub-publish-key", "demo"}, args...)...)
}

// serveBare is serveWith without PubNub's keys.
func serveBare(t testing.TB, origin string, args ...string) *relay {
	t.Helper()
	r := &relay{t: t, args: append([]string{"serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
		"--data-dir", t.TempDir(), "--log-format", "json", "--pubnub-origin", origin, "--pubnub-tls=false"}, args...)}
	r.start()
	r.awaitPoll()
	return r
}

// start starts the program on the relay's data directory.
func (r *relay) start() {
	r.t.Helper()
	r.proc = launchBy(r.t, r.by, r.args...)
	r.devices, r.admin = r.proc.address(r.t, "devices"), r.proc.address(r.t, "admin")
}

// restart kills the program, without a warning, and starts it again.
func (r *relay) restart() {
	r.t.Helper()
	r.proc.kill()
	r.start()
}

// awaitPoll returns when the relay has polled PubNub. What is published from
// then on must become an event, whatever happens to the relay.
func (r *relay) awaitPoll() {
	r.t.Helper()
	r.await("a poll", func() bool { return r.metric(`reprise_bridge_polls_total{result="ok"}`) > 0 })
}

// await asks again and again until done says so.
func (r *relay) await(what string, done func() bool) {
	r.t.Helper()
	ctx := within(r.t)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			r.t.Fatalf("no %s within %v", what, patience)
		}
	}
}

// get asks the admin listener. The body is valid for any status.
func (r *relay) get(path string) (int, http.Header, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(within(r.t), http.MethodGet, "http://"+r.admin+path, nil)
	if err != nil {
		r.t.Fatalf("GET %s: %v", path, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatalf("GET %s: %v", path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatalf("GET %s: %v", path, err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

// metric is the sum of a metric's series. A series is given as a name or a name
// and one label; 0 if there is none.
func (r *relay) metric(series string) float64 {
	r.t.Helper()
	name, label, _ := strings.Cut(strings.TrimSuffix(series, "}"), "{")
	_, _, body := r.get("/metrics")
	sum := 0.0
	for line := range strings.Lines(body) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		have, labels, _ := strings.Cut(key, "{")
		if have != name || !strings.Contains(labels, label) {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			r.t.Fatalf("metric %s = %q, want a number", key, value)
		}
		sum += v
	}
	return sum
}

// log reads all of a user's events from the log.
func (r *relay) log(user string) []Entry {
	r.t.Helper()
	entries := []Entry{}
	for since := "earliest"; ; {
		status, header, body := r.get("/v1/users/" + user + "/events?since=" + url.QueryEscape(since))
		if status != http.StatusOK {
			r.t.Fatalf("the log of %s: status %d: %s", user, status, body)
		}
		lines := bufio.NewScanner(strings.NewReader(body))
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			f, err := parseFrame(lines.Text())
			if err != nil {
				r.t.Fatalf("the log of %s: %v", user, err)
			}
			entries = append(entries, Entry{Hlc: f.Hlc, Frame: lines.Text()})
		}
		if since = header.Get("Reprise-Next"); header.Get("Reprise-More") != "true" {
			return entries
		}
	}
}

// position is up to which stamp of user's shard the edge has followed the log.
func (r *relay) position(user string) string {
	r.t.Helper()
	_, _, body := r.get("/v1/stats")
	var stats struct{ Positions []string }
	if err := json.Unmarshal([]byte(body), &stats); err != nil || len(stats.Positions) == 0 {
		r.t.Fatalf("GET /v1/stats = %s (%v), want positions", body, err)
	}
	return stats.Positions[ShardOf(user, len(stats.Positions))]
}

// url is where a device connects.
func (r *relay) url(user, device, since string, more ...string) string {
	q := url.Values{"user_id": {user}, "device_id": {device}}
	if since != "" {
		q.Set("since", since)
	}
	return fmt.Sprintf("ws://%s/ws?%s%s", r.devices, q.Encode(), strings.Join(more, ""))
}
