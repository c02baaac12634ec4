package collector

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// built are the programs, by name.
var built = map[string]string{}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "collector-")
	if err != nil {
		panic(err)
	}
	for name, from := range map[string][2]string{"otelcol": {".", "./otelcol"}, "reprise": {"../..", "./cmd/reprise"}} {
		built[name] = filepath.Join(dir, name)
		build := exec.Command("go", "build", "-o", built[name], from[1])
		build.Dir = from[0]
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build %s: %v\n%s", name, err, out)
			os.Exit(1)
		}
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// process is a program that runs.
type process struct {
	cmd   *exec.Cmd
	addrs map[string]string // what listens where, of a node
	ended chan error        // its end, once

	mu   sync.Mutex
	said strings.Builder // guarded by mu
}

// launch starts a program and returns when a line pleases.
func launch(t *testing.T, env []string, pleases func(p *process, line string) bool, name string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(built[name], args...), addrs: map[string]string{}, ended: make(chan error, 1)}
	p.cmd.Env = append(os.Environ(), env...)
	lines, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan bool, 1)
	go func() {
		scanner := bufio.NewScanner(lines)
		for was := false; scanner.Scan(); {
			p.mu.Lock()
			fmt.Fprintln(&p.said, scanner.Text())
			p.mu.Unlock()
			if !was && pleases(p, scanner.Text()) {
				was = true
				ready <- true
			}
		}
		io.Copy(io.Discard, lines)
		p.ended <- p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.ended
		if t.Failed() {
			t.Logf("%s %v said:\n%s", name, args, p.log())
		}
	})
	select {
	case <-ready:
	case err := <-p.ended:
		t.Fatalf("%s ended with %v:\n%s", name, err, p.log())
	case <-time.After(patience):
		t.Fatalf("%s did not start:\n%s", name, p.log())
	}
	return p
}

func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.String()
}

// end asks the process to end and returns how it did.
func (p *process) end(t *testing.T) error {
	t.Helper()
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-p.ended:
		return err
	case <-time.After(patience):
		t.Fatalf("the process goes on %v after SIGTERM", patience)
		return nil
	}
}

// running tells a node's log line that says so, and notes its addresses.
func running(p *process, line string) bool {
	var l struct{ Msg, What, Addr string }
	if json.Unmarshal([]byte(line), &l) != nil {
		return false
	}
	if l.Msg == "listening" {
		p.addrs[l.What] = l.Addr
	}
	return l.Msg == "running" || l.Msg == "listening" && l.What == "emulator"
}

// freeAddress is one on which nothing listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// collect starts a collector that sends to s, and returns where it listens for
// a protocol.
func collect(t *testing.T, s *sink) (p *process, endpoint map[string]string) {
	t.Helper()
	overGRPC, overHTTP := freeAddress(t), freeAddress(t)
	config := filepath.Join(t.TempDir(), "collector.yaml")
	text := fmt.Sprintf(`
receivers: {otlp: {protocols: {grpc: {endpoint: "%s"}, http: {endpoint: "%s"}}}}
exporters: {otlphttp: {endpoint: "%s", encoding: json, compression: none, sending_queue: {enabled: false}}}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: {receivers: [otlp], exporters: [otlphttp]}
    metrics: {receivers: [otlp], exporters: [otlphttp]}
    logs: {receivers: [otlp], exporters: [otlphttp]}
`, overGRPC, overHTTP, s.URL)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p = launch(t, nil, func(_ *process, line string) bool { return strings.Contains(line, "Everything is ready") }, "otelcol", "--config", config)
	return p, map[string]string{"grpc": "http://" + overGRPC, "http/protobuf": "http://" + overHTTP}
}

// nats starts a server with JetStream and returns its URL.
func nats(t *testing.T) string {
	t.Helper()
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(patience) {
		t.Fatal("the NATS server is not ready")
	}
	return ns.ClientURL()
}
