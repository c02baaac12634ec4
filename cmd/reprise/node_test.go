package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"reprise/bridge/pubnubtest"
	"reprise/edge/client"
)

// running is a node in this process or in another.
type running struct {
	t     *testing.T
	addrs map[string]string // by what listens there
	stop  context.CancelFunc
	ended chan int // the exit code, once

	asks   *http.Client // of the admin listener
	scheme string
	out    buffer // what it prints
}

// freePorts are the listeners' settings of a node that must not disturb others.
var freePorts = []string{"--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"}

// start runs a node in this process and returns when it is running.
func start(t *testing.T, args ...string) *running {
	t.Helper()
	return startWith(t, "http", http.DefaultClient, args...)
}

// startWith is start for an admin listener that is asked by another scheme.
func startWith(t *testing.T, scheme string, asks *http.Client, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	n := &running{t: t, addrs: map[string]string{}, stop: cancel, ended: make(chan int, 1), asks: asks, scheme: scheme}
	go func() {
		p := program{args: args, env: environment{"REPRISE_LOG_FORMAT": "json"}, out: &n.out, err: w}
		code := p.run(ctx)
		_ = w.Close() // ends the reading of its log
		n.ended <- code
	}()
	t.Cleanup(cancel)
	n.follow(r)
	return n
}

// follow reads a node's log until it says that it is running, and drains the
// rest.
func (n *running) follow(log io.Reader) {
	n.t.Helper()
	lines := bufio.NewScanner(log)
	var seen []string
	for lines.Scan() {
		seen = append(seen, lines.Text())
		var line struct{ Msg, What, Addr string }
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			continue
		}
		switch line.Msg {
		case "listening":
			n.addrs[line.What] = line.Addr
		case "running":
			go func() { _, _ = io.Copy(io.Discard, log) }()
			if status, body := n.get("/readyz"); status != http.StatusOK {
				n.t.Fatalf("GET /readyz = %d %s, want 200", status, body)
			}
			return
		}
	}
	n.t.Fatalf("the node did not start:\n%s", strings.Join(seen, "\n"))
}

// get asks the admin listener.
func (n *running) get(path string) (int, string) {
	n.t.Helper()
	response, err := n.asks.Get(n.scheme + "://" + n.addrs["admin"] + path)
	if err != nil {
		n.t.Fatalf("GET %s error = %v", path, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		n.t.Fatalf("GET %s error = %v", path, err)
	}
	return response.StatusCode, string(body)
}

// end stops the node and checks its exit code.
func (n *running) end(want int) {
	n.t.Helper()
	n.stop()
	if got := <-n.ended; got != want {
		n.t.Errorf("exit code = %d, want %d", got, want)
	}
}

// publish publishes by the command and fails the test if that fails.
func (n *running) publish(origin, user string, from, to int) {
	n.t.Helper()
	for i := from; i <= to; i++ {
		n.publishText(origin, "user."+user+".notifications", fmt.Sprintf(`{"n":%d}`, i))
	}
}

func (n *running) publishText(origin, channel, text string) {
	n.t.Helper()
	code, _, complaint := reprise(n.t.Context(), nil, "publish", channel, text, "--pubnub-origin", origin)
	if code != 0 {
		n.t.Fatalf("run(publish) = %d, %s, want 0", code, complaint)
	}
}

// awaitDead asks for the dead letters until text is among them.
func (n *running) awaitDead(text string) {
	n.t.Helper()
	eventually(n.t, "GET /v1/dead to answer 200 and "+text, func() bool {
		status, body := n.get("/v1/dead")
		return status == http.StatusOK && strings.Contains(body, text)
	})
}

// device connects to the node; what it sees comes through the channel.
func (n *running) device(cfg client.Config) (*client.Client, <-chan client.Frame) {
	n.t.Helper()
	frames := make(chan client.Frame, 1000)
	cfg.URL, cfg.Device = "ws://"+n.addrs["devices"]+"/ws", exampleTV
	cfg.OnFrame = func(f client.Frame) { frames <- f }
	return device(n.t, cfg), frames
}

// device runs a device until the test ends.
func device(t *testing.T, cfg client.Config) *client.Client {
	t.Helper()
	return deviceUntil(t, cfg, func(err error) {
		if err != nil {
			t.Errorf("client.Run() error = %v, want nil", err)
		}
	})
}

// deviceUntil runs a device until it will not be had any more or the test ends,
// and tells ended why.
func deviceUntil(t *testing.T, cfg client.Config, ended func(error)) *client.Client {
	t.Helper()
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		ended(c.Run(ctx))
	}()
	t.Cleanup(func() { cancel(); <-done })
	return c
}

// fixed is a source of one token.
func fixed(token string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return strings.TrimSpace(token), nil }
}

// expect reads the next frame and compares its type, and its data if data is
// not "".
func expect(t *testing.T, frames <-chan client.Frame, kind, data string) client.Frame {
	t.Helper()
	select {
	case f := <-frames:
		if f.Type != kind || !strings.Contains(string(f.Raw), data) {
			t.Fatalf("frame = %s, want %s with %s", f.Raw, kind, data)
		}
		return f
	case <-time.After(20 * time.Second):
		t.Fatalf("no frame came, want %s with %s", kind, data)
	}
	return client.Frame{}
}

func TestDev(t *testing.T) {
	t.Parallel()
	args := append([]string{"dev", "--data-dir", t.TempDir(), "--emulator-listen", "127.0.0.1:0", "--drain", "0s"}, freePorts...)
	n := start(t, args...)
	tv, frames := n.device(client.Config{User: exampleUser})
	expect(t, frames, "welcome", exampleUser)
	expect(t, frames, "caught_up", `"replayed":0`)
	n.publish(n.addrs["emulator"], exampleUser, 1, 3)
	for i := 1; i <= 3; i++ {
		expect(t, frames, "notification", fmt.Sprintf(`{"n":%d}`, i))
	}
	since := tv.Since()

	_, body := n.get("/v1/stats")
	if !strings.Contains(body, `"active_connections":1,"active_users":1,`) {
		t.Errorf("GET /v1/stats = %s, want one connection of one user", body)
	}
	code, out, complaint := reprise(t.Context(), nil, "log", "--user", exampleUser, "--json", "--admin-url", "http://"+n.addrs["admin"])
	if code != 0 || strings.Count(out, "\n") != 3 || !strings.Contains(out, `"data":{"n":3}`) {
		t.Errorf("run(log) = %d, %s%s, want three events", code, out, complaint)
	}
	n.publishText(n.addrs["emulator"], exampleSync, `{"type":"nonsense"}`)
	n.awaitDead(exampleSync)
	code, out, complaint = reprise(t.Context(), nil, "dead", "list", "--admin-url", "http://"+n.addrs["admin"])
	if code != 0 || strings.Count(out, "\n") != 2 || !strings.Contains(out, "unknown_type") {
		t.Errorf("run(dead list) = %d, %s%s, want one dead letter", code, out, complaint)
	}
	response, err := http.Get("http://" + n.addrs["devices"] + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("GET / = %d, want 200", response.StatusCode)
	}
	n.end(0)

	again := start(t, args...)
	_, frames = again.device(client.Config{User: exampleUser, Since: since})
	expect(t, frames, "welcome", `"complete":true`)
	expect(t, frames, "caught_up", `"replayed":0`)
	again.publish(again.addrs["emulator"], exampleUser, 4, 4)
	expect(t, frames, "notification", `{"n":4}`)
	again.end(0)
}

func TestServeWithTokens(t *testing.T) {
	t.Parallel()
	pubnub, err := pubnubtest.Start(pubnubtest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pubnub.Close)
	secret := write(t, "jwt.key", hush+"\n")
	n := start(t, append([]string{"serve", "--data-dir", t.TempDir(), "--drain", "0s",
		"--pubnub-subscribe-key", "demo", "--pubnub-origin", pubnub.Addr(), "--pubnub-tls=false",
		"--auth-hmac-secret-file", secret}, freePorts...)...)
	code, token, complaint := reprise(t.Context(), nil, "token", "--user", exampleUser, "--auth-hmac-secret-file", secret)
	if code != 0 {
		t.Fatalf("run(token) = %d, %s", code, complaint)
	}
	_, frames := n.device(client.Config{Token: fixed(token)})
	expect(t, frames, "welcome", exampleUser)
	expect(t, frames, "caught_up", "")
	n.publish(pubnub.Addr(), exampleUser, 1, 1)
	expect(t, frames, "notification", `{"n":1}`)

	stranger, err := client.New(client.Config{URL: "http://" + n.addrs["devices"], User: exampleUser, Device: exampleTV})
	if err != nil {
		t.Fatal(err)
	}
	var refused *client.RefusedError
	if err := stranger.Run(t.Context()); !errors.As(err, &refused) || refused.Status != 401 || refused.Code != "unauthorized" {
		t.Errorf("client.Run() without a token error = %v, want 401 unauthorized", err)
	}
	n.end(0)
}

// TestHalves runs a bridge and an edge against the NATS server of a third node.
func TestHalves(t *testing.T) {
	t.Parallel()
	pubnub, err := pubnubtest.Start(pubnubtest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pubnub.Close)
	nats := "nats://" + startNATS(t)
	bridge := start(t, "bridge", "--nats-url", nats, "--admin-listen", "127.0.0.1:0", "--node", "b",
		"--pubnub-subscribe-key", "demo", "--pubnub-origin", pubnub.Addr(), "--pubnub-tls=false")
	edge := start(t, append([]string{"edge", "--nats-url", nats, "--auth", "none", "--drain", "0s", "--node", "e"}, freePorts...)...)
	_, frames := edge.device(client.Config{User: exampleUser})
	expect(t, frames, "welcome", `"node":"e"`)
	expect(t, frames, "caught_up", "")
	bridge.publish(pubnub.Addr(), exampleUser, 1, 1)
	expect(t, frames, "notification", `{"n":1}`)
	bridge.publishText(pubnub.Addr(), exampleSync, `{"type":"nonsense"}`)
	for _, n := range []*running{bridge, edge} {
		n.awaitDead(`"reason":"unknown_type"`)
		if status, body := n.get("/v1/dead/1"); status != 200 || !strings.Contains(body, `"payload":"{\"type\":\"nonsense\"}"`) {
			t.Errorf("GET /v1/dead/1 = %d %s, want 200 and the payload", status, body)
		}
	}
	if status, body := bridge.get("/v1/stats"); status != 200 || !strings.Contains(body, `"active_connections":0`) {
		t.Errorf("GET /v1/stats of a bridge = %d %s, want 200 and no connections", status, body)
	}
	edge.end(0)
	bridge.end(0)
}

func TestPortTaken(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	for _, setting := range []string{"listen", "admin-listen", "emulator-listen"} {
		args := []string{"dev", "--data-dir", t.TempDir()}
		for _, s := range []string{"listen", "admin-listen", "emulator-listen"} {
			if s == setting {
				args = append(args, "--"+s, taken.Addr().String())
			} else {
				args = append(args, "--"+s, "127.0.0.1:0")
			}
		}
		code, _, complaint := reprise(t.Context(), nil, args...)
		want := setting + ": " + taken.Addr().String() + " is in use by another process; set --" + setting + " to another address"
		if code != 1 || !strings.Contains(complaint, want) {
			t.Errorf("run(dev) with %s taken = %d, %s, want 1, %s", setting, code, complaint, want)
		}
	}
}

func TestDataDirIsLocked(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "log")
	args := append([]string{"dev", "--data-dir", dir, "--emulator-listen", "127.0.0.1:0"}, freePorts...)
	n := start(t, args...)
	code, _, complaint := reprise(t.Context(), nil, args...)
	if code != 1 || !strings.Contains(complaint, dir) {
		t.Errorf("run(dev) on a directory in use = %d, %s, want 1 and %s", code, complaint, dir)
	}
	n.end(0)
}

// process runs the program in a process of its own.
func process(t *testing.T, args ...string) (*running, *exec.Cmd) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "REPRISE_LOG_FORMAT=json")
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n := &running{t: t, addrs: map[string]string{}, ended: make(chan int, 1), asks: http.DefaultClient, scheme: "http"}
	n.stop = func() { _ = cmd.Process.Signal(syscall.SIGTERM) }
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	n.follow(log)
	go func() {
		_ = cmd.Wait() // the exit code tells
		n.ended <- cmd.ProcessState.ExitCode()
	}()
	return n, cmd
}

func TestFirstSignalDrains(t *testing.T) {
	t.Parallel()
	n, _ := process(t, append([]string{"dev", "--data-dir", t.TempDir(), "--emulator-listen", "127.0.0.1:0", "--drain", "100ms"}, freePorts...)...)
	_, frames := n.device(client.Config{User: exampleUser})
	expect(t, frames, "welcome", "")
	expect(t, frames, "caught_up", "")
	n.stop()
	expect(t, frames, "reconnect", `"reason":"drain"`)
	if got := <-n.ended; got != 0 {
		t.Errorf("exit code after a signal = %d, want 0", got)
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	n, _ := process(t, append([]string{"dev", "--data-dir", t.TempDir(), "--emulator-listen", "127.0.0.1:0", "--drain", "1h"}, freePorts...)...)
	// Of two devices the second is let go after half an hour.
	for _, user := range []string{exampleUser, exampleTV} {
		_, frames := n.device(client.Config{User: user})
		expect(t, frames, "welcome", "")
		expect(t, frames, "caught_up", "")
	}
	n.stop()
	for {
		if status, body := n.get("/readyz"); status == http.StatusServiceUnavailable && strings.Contains(body, `"draining"`) {
			break
		}
	}
	n.stop()
	if got := <-n.ended; got != 1 {
		t.Errorf("exit code after a second signal = %d, want 1", got)
	}
}

func TestTailEndsCleanly(t *testing.T) {
	t.Parallel()
	n := start(t, append([]string{"dev", "--data-dir", t.TempDir(), "--emulator-listen", "127.0.0.1:0"}, freePorts...)...)
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var complaint buffer
	ended := make(chan int, 1)
	go func() {
		p := program{args: []string{"tail", "--user", exampleUser, "--device", exampleTV, "--url", "ws://" + n.addrs["devices"] + "/ws"}, env: environment{}, out: w, err: &complaint}
		ended <- p.run(ctx)
		_ = w.Close()
	}()
	lines := bufio.NewScanner(r)
	for _, want := range []string{"welcome", "caught_up"} {
		if !lines.Scan() || !strings.Contains(lines.Text(), want) {
			t.Fatalf("tail printed %q, want %s", lines.Text(), want)
		}
	}
	n.publish(n.addrs["emulator"], exampleUser, 1, 1)
	if !lines.Scan() || !strings.HasSuffix(lines.Text(), `  data={"n":1}`) {
		t.Errorf("tail printed %q, want the event", lines.Text())
	}
	cancel()
	if got := <-ended; got != 0 {
		t.Errorf("exit code of tail = %d, want 0", got)
	}
	want := "reprise tail --user " + exampleUser + " --device " + exampleTV + " --since "
	if got := complaint.String(); !strings.Contains(got, want) {
		t.Errorf("tail said %q at its end, want %q", got, want)
	}
	n.end(0)
}
