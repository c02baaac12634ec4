package browser

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
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
	code := m.Run()
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
func (n *node) refusedFor(t *testing.T, code string) string {
	t.Helper()
	response, err := http.Get("http://" + n.addrs["admin"] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`reprise_handshakes_refused_total\{code="` + code + `"\} (\d+)`).FindSubmatch(body)
	if m == nil {
		t.Fatalf("there is no count of refusals for %s", code)
	}
	return string(m[1])
}

// page is what every server of pages shows.
const page = `<!doctype html><title>a page</title><body>here</body>`

func servePage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	io.WriteString(w, page)
}

// pages serves a page, and returns its port.
func pages(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(servePage))
	t.Cleanup(s.Close)
	return portOf(s.URL)
}

// behind serves a page beside n, as a proxy in front of both does, and returns
// the port.
func behind(t *testing.T, n *node) string {
	t.Helper()
	target := &url.URL{Scheme: "http", Host: n.addrs["devices"]}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host
	}}
	mux := http.NewServeMux()
	mux.HandleFunc("/", servePage)
	mux.Handle("/ws", proxy)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return portOf(s.URL)
}

func portOf(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }

// browse starts a browser to which every name under example is this machine.
func browse(t *testing.T) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, chromedp.ExecPath("/usr/bin/chromium"), chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("host-resolver-rules", "MAP *.example 127.0.0.1"))
	ctx, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewContext(ctx)
	t.Cleanup(stop)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("the browser does not start: %v", err)
	}
	return ctx
}
