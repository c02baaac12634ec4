package browser

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for what must come.
const patience = 60 * time.Second

// binary is the program under test.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "browser-")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "reprise")
	build := exec.Command("go", "build", "-o", binary, "./cmd/reprise")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		os.Exit(1)
	}
	stop, err := browse()
	if err != nil {
		fmt.Fprintf(os.Stderr, "the browser does not start: %v\n", err)
		os.Exit(1)
	}
	code := m.Run()
	stop()
	os.RemoveAll(dir)
	os.Exit(code)
}

// node is a process of the program.
type node struct {
	addrs map[string]string // what listens where

	mu   sync.Mutex
	said strings.Builder // guarded by mu
}

// start runs the program and returns when it says last.
func start(t *testing.T, last string, args ...string) *node {
	t.Helper()
	n := &node{addrs: map[string]string{}}
	cmd := exec.Command(binary, append(args, "--log-format", "json", "--log-level", "debug")...)
	lines, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready, read := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(read)
		scanner, was := bufio.NewScanner(lines), false
		for scanner.Scan() {
			n.mu.Lock()
			fmt.Fprintln(&n.said, scanner.Text())
			n.mu.Unlock()
			var line struct{ Msg, What, Addr string }
			if was || json.Unmarshal(scanner.Bytes(), &line) != nil {
				continue
			}
			if line.Msg == "listening" {
				n.addrs[line.What] = line.Addr
			}
			if was = line.Msg == last; was {
				close(ready)
			}
		}
		io.Copy(io.Discard, lines)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-read
		cmd.Wait()
		if t.Failed() {
			t.Logf("reprise %s said:\n%s", args[0], n.log())
		}
	})
	select {
	case <-ready:
	case <-read:
		t.Fatalf("reprise %s ended:\n%s", args[0], n.log())
	case <-time.After(patience):
		t.Fatalf("reprise %s did not start:\n%s", args[0], n.log())
	}
	return n
}

func (n *node) log() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.said.String()
}

// serve starts a node over emulator.
func serve(t *testing.T, emulator *node, more ...string) *node {
	t.Helper()
	return start(t, "running", append([]string{"serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir", t.TempDir(), "--drain", "0s",
		"--pubnub-subscribe-key", "demo", "--pubnub-origin", emulator.addrs["emulator"], "--pubnub-tls=false"}, more...)...)
}

// refusedFor is how many handshakes the node has refused with a code.
func (n *node) refusedFor(t *testing.T, code string) int {
	t.Helper()
	m := regexp.MustCompile(`reprise_handshakes_refused_total\{code="` + code + `"\} (\d+)`).FindStringSubmatch(n.admin(t, "/metrics"))
	if m == nil {
		t.Fatalf("there is no count of refusals for %s", code)
	}
	count, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return count
}

// level is the node's log level.
func (n *node) level(t *testing.T) string {
	t.Helper()
	var answer struct{ Level string }
	if err := json.Unmarshal([]byte(n.admin(t, "/v1/log-level")), &answer); err != nil {
		t.Fatal(err)
	}
	return answer.Level
}

// admin is what the admin listener answers.
func (n *node) admin(t *testing.T, path string) string {
	t.Helper()
	response, err := http.Get("http://" + n.addrs["admin"] + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
