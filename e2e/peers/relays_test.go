package peers

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"reprise/bridge/pubnubtest"
)

// A relay is what is measured.
type relay interface {
	// start starts it on a directory of its own, again after a kill. The processes are
	// those that do its work.
	start(b testing.TB, dir string) []*exec.Cmd
	// publish publishes a number to a user's devices, and returns when that is
	// acknowledged.
	publish(user, n int) error
	// connect has a device hear from its cursor on, until the Closer is closed. It
	// returns when the device has its place in the log.
	connect(d *device) (io.Closer, error)
}

var (
	dialer = &net.Dialer{Timeout: time.Minute}
	web    = &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, MaxIdleConnsPerHost: 64}}
)

// post posts a body and wants a 2xx.
func post(to, kind, token string, body io.Reader) error {
	req, err := http.NewRequest(http.MethodPost, to, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", kind)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return ask(req)
}

// ask makes a request and wants a 2xx.
func ask(req *http.Request) error {
	resp, err := web.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s answers %d: %s", req.URL, resp.StatusCode, said)
	}
	return err
}

// freePort is a port of loopback that nobody listens on.
func freePort(b testing.TB) string {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// launch starts a process and waits until its address is listened on.
func launch(b testing.TB, dir, addr, program string, args ...string) *exec.Cmd {
	b.Helper()
	c := exec.Command(program, args...)
	c.Dir = dir
	out, err := os.OpenFile(filepath.Join(dir, filepath.Base(program)+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		b.Fatal(err)
	}
	defer out.Close()
	c.Stdout, c.Stderr = out, out
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Process.Kill(); c.Wait() }) // it may have been killed
	for until := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		nc, err := net.Dial("tcp", addr)
		if err == nil {
			nc.Close()
			return c
		}
		if time.Now().After(until) {
			b.Fatalf("%s does not listen at %s: %v; see %s", program, addr, err, out.Name())
		}
	}
}

// reprise is this relay, with PubNub's emulator in this process.
type reprise struct {
	program string
	pubnub  *pubnubtest.Server
	addr    string
	admin   string
}

func (r *reprise) start(b testing.TB, dir string) []*exec.Cmd {
	if r.pubnub == nil {
		s, err := pubnubtest.Start(pubnubtest.Config{QueueSize: 1 << 20})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(s.Close)
		r.pubnub, r.addr, r.admin = s, freePort(b), freePort(b)
	}
	p := launch(b, dir, r.addr, r.program, "serve", "--listen", r.addr, "--admin-listen", r.admin, "--data-dir", filepath.Join(dir, "log"),
		"--auth", "none", "--pubnub-origin", r.pubnub.Addr(), "--pubnub-tls=false", "--pubnub-subscribe-key", "demo", "--max-connections-per-user", "10000")
	for until := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		resp, err := web.Get("http://" + r.admin + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return []*exec.Cmd{p}
			}
		}
		if time.Now().After(until) {
			b.Fatalf("reprise is not ready: %v", err)
		}
	}
}

func userID(n int) string { return fmt.Sprintf("aaaaaaaa-aaaa-4aaa-8aaa-%012x", n) }

func (r *reprise) publish(user, n int) error {
	req, err := http.NewRequest(http.MethodGet, "http://"+r.pubnub.Addr()+"/publish/demo/demo/0/user."+userID(user)+".notifications/0/"+url.PathEscape(fmt.Sprintf(`{"n":%d}`, n)), nil)
	if err != nil {
		return err
	}
	return ask(req)
}

func (r *reprise) connect(d *device) (io.Closer, error) {
	since := d.cursor
	if since == "" {
		since = "latest"
	}
	ws, _, err := websocket.Dial(context.Background(), "ws://"+r.addr+"/ws?user_id="+userID(d.user)+"&device_id="+d.name+"&since="+since, &websocket.DialOptions{HTTPClient: web})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(1 << 24)
	placed := make(chan error, 1)
	go func() {
		for {
			_, text, err := ws.Read(context.Background())
			if err != nil {
				placed <- err // the channel has room for the first
				return
			}
			var f struct {
				Type, Hlc string
				Data      struct{ N int }
				Resume    struct {
					Since    string
					Complete bool
				}
			}
			if err := json.Unmarshal(text, &f); err != nil {
				continue
			}
			switch f.Type {
			case "welcome":
				if !f.Resume.Complete {
					d.incomplete()
				}
				d.at(f.Resume.Since)
				placed <- nil
				placed = make(chan error, 1)
			case "notification":
				d.heard(f.Data.N, f.Hlc)
			}
		}
	}()
	return closer(ws.CloseNow), <-placed
}

type closer func() error

func (c closer) Close() error { return c() }

// centrifugo is Centrifugo, with history that is recovered, in memory or in Redis.
type centrifugo struct {
	program, redis string // redis-server; "" is in memory
	addr, store    string
	up             bool
}

func (r *centrifugo) start(b testing.TB, dir string) (all []*exec.Cmd) {
	if r.addr == "" {
		r.addr, r.store = freePort(b), freePort(b)
	}
	engine := map[string]any{"type": "memory"}
	if r.redis != "" {
		engine = map[string]any{"type": "redis", "redis": map[string]any{"address": []string{"redis://" + r.store}}}
		if !r.up {
			host, port, _ := net.SplitHostPort(r.store)
			all = append(all, launch(b, dir, r.store, r.redis, "--bind", host, "--port", port, "--appendonly", "yes", "--dir", dir))
		}
	}
	r.up = true
	host, port, _ := net.SplitHostPort(r.addr)
	config, err := json.Marshal(map[string]any{
		"http_server": map[string]any{"address": host, "port": port},
		"log":         map[string]any{"level": "error"},
		"usage_stats": map[string]any{"disabled": true},
		"client":      map[string]any{"insecure": true, "allowed_origins": []string{"*"}, "recovery_max_publication_limit": 1_000_000, "queue_max_size": 64 << 20},
		"http_api":    map[string]any{"insecure": true},
		"websocket":   map[string]any{"read_buffer_size": 1024, "use_write_buffer_pool": true},
		"engine":      engine,
		"channel": map[string]any{"namespaces": []any{map[string]any{"name": "user", "history_size": 1_000_000, "history_ttl": "24h", "force_recovery": true,
			"allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true}}},
	})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), config, 0o644)
	}
	if err != nil {
		b.Fatal(err)
	}
	return append(all, launch(b, dir, r.addr, r.program, "-c", "config.json"))
}

func (r *centrifugo) publish(user, n int) error {
	return post("http://"+r.addr+"/api/publish", "application/json", "", strings.NewReader(fmt.Sprintf(`{"channel":"user:%d","data":{"n":%d}}`, user, n)))
}

// A centrifugo cursor is its epoch and its offset.
func (r *centrifugo) connect(d *device) (io.Closer, error) {
	ws, _, err := websocket.Dial(context.Background(), "ws://"+r.addr+"/connection/websocket", &websocket.DialOptions{HTTPClient: web})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(1 << 26)
	recover := ""
	epoch, offset, again := strings.Cut(d.cursor, " ")
	if again {
		recover = fmt.Sprintf(`,"recover":true,"epoch":%q,"offset":%s`, epoch, offset)
	}
	hello := fmt.Sprintf("{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"user:%d\"%s}}", d.user, recover)
	if err := ws.Write(context.Background(), websocket.MessageText, []byte(hello)); err != nil {
		return nil, err
	}
	type publication struct {
		Data   struct{ N int }
		Offset uint64
	}
	placed := make(chan error, 1)
	go func() {
		epoch := ""
		take := func(p publication) { d.heard(p.Data.N, fmt.Sprint(epoch, " ", p.Offset)) }
		for {
			_, text, err := ws.Read(context.Background())
			if err != nil {
				placed <- err
				return
			}
			for _, line := range bytes.Split(text, []byte("\n")) {
				if len(line) <= 2 { // a ping
					if ws.Write(context.Background(), websocket.MessageText, []byte("{}")) != nil {
						return
					}
					continue
				}
				var f struct {
					Error     *struct{ Message string }
					Push      struct{ Pub *publication }
					Subscribe *struct {
						Epoch        string
						Offset       uint64
						Recovered    bool
						Publications []publication
					}
				}
				if err := json.Unmarshal(line, &f); err != nil {
					continue
				}
				switch {
				case f.Error != nil:
					placed <- fmt.Errorf("centrifugo: %s", f.Error.Message)
					return
				case f.Subscribe != nil:
					epoch = f.Subscribe.Epoch
					if again && !f.Subscribe.Recovered {
						d.incomplete()
					}
					d.at(fmt.Sprint(epoch, " ", f.Subscribe.Offset))
					for _, p := range f.Subscribe.Publications {
						take(p)
					}
					placed <- nil
					placed = make(chan error, 1)
				case f.Push.Pub != nil:
					take(*f.Push.Pub)
				}
			}
		}
	}()
	return closer(ws.CloseNow), <-placed
}

// mercure is the hub of Mercure with its Bolt history.
type mercure struct {
	program, addr string
}

const mercureKey = "a key of enough bytes for HS256, one would think"

func (r *mercure) start(b testing.TB, dir string) []*exec.Cmd {
	if r.addr == "" {
		r.addr = freePort(b)
	}
	return []*exec.Cmd{launch(b, dir, r.addr, r.program, "--addr", r.addr, "--jwt-key", mercureKey, "--allow-anonymous",
		"--transport-url", "bolt://history.db?size=0", "--write-timeout", "0s", "--dispatch-timeout", "0s", "--heartbeat-interval", "25s")}
}

func topic(user int) string { return "https://example.com/users/" + fmt.Sprint(user) }

// mercureToken lets its bearer publish.
func mercureToken() string {
	part := base64.RawURLEncoding.EncodeToString
	text := part([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + part([]byte(`{"mercure":{"publish":["*"]}}`))
	mac := hmac.New(sha256.New, []byte(mercureKey))
	mac.Write([]byte(text))
	return text + "." + part(mac.Sum(nil))
}

func (r *mercure) publish(user, n int) error {
	form := url.Values{"topic": {topic(user)}, "data": {fmt.Sprintf(`{"n":%d}`, n)}}
	return post("http://"+r.addr+"/.well-known/mercure", "application/x-www-form-urlencoded", mercureToken(), strings.NewReader(form.Encode()))
}

// The hub closes a connection of which more than 1,000 updates wait. A browser's
// EventSource comes back then, and so does this.
func (r *mercure) connect(d *device) (io.Closer, error) {
	ctx, cut := context.WithCancel(context.Background())
	ended, err := r.listen(ctx, d)
	if err != nil {
		cut()
		return nil, err
	}
	go func() {
		for <-ended; ctx.Err() == nil; <-ended {
			if ended, err = r.listen(ctx, d); err != nil {
				return
			}
		}
	}()
	return closer(func() error { cut(); return nil }), nil
}

// listen lives through one connection, to its end.
func (r *mercure) listen(ctx context.Context, d *device) (ended chan struct{}, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.addr+"/.well-known/mercure?topic="+url.QueryEscape(topic(d.user)), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/event-stream")
	d.mu.Lock()
	asked := d.cursor
	d.mu.Unlock()
	if asked != "" {
		req.Header.Set("Last-Event-ID", asked)
	}
	resp, err := web.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("mercure answers %d", resp.StatusCode)
	}
	if asked != "" && resp.Header.Get("Last-Event-ID") != asked {
		d.incomplete()
	}
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		id := ""
		for lines.Scan() {
			field, value, _ := strings.Cut(lines.Text(), ": ")
			switch field {
			case "id":
				id = value
			case "data":
				var x struct{ N int }
				if json.Unmarshal([]byte(value), &x) == nil {
					d.heard(x.N, id)
				}
			}
		}
	}()
	return ended, nil
}
