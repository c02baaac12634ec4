package edge

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"reprise/hlc"
	"reprise/stream"
)

func streamConfig() stream.Config { return stream.Config{Node: "edge-1"} }

// tcp connects below WebSocket, with a small receive buffer, and reads up to
// caught_up.
func (r *relay) tcp(user, device string) (*raw, *net.TCPConn) {
	r.t.Helper()
	d := net.Dialer{}
	nc, err := d.DialContext(r.t.Context(), "tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { nc.Close() })
	tcp := nc.(*net.TCPConn)
	tcp.SetReadBuffer(4 << 10)
	return newRaw(r.t, nc, "/ws?user_id="+user+"&device_id="+device+"&since=latest"), tcp
}

// However a connection ends, it leaves the registry, its user, the wheel and
// its seat.
func TestEveryEndIsCleanedUp(t *testing.T) {
	t.Parallel()
	r := newRelay(t, Config{})
	for _, c := range []struct {
		name string
		end  func(raw *raw, tcp *net.TCPConn)
		code string
	}{
		{"close frame", func(raw *raw, _ *net.TCPConn) { raw.write(opClose, []byte{0x03, 0xe8}) }, "device"},
		{"hang-up", func(_ *raw, tcp *net.TCPConn) { tcp.Close() }, "cut"},
		{"half-close", func(_ *raw, tcp *net.TCPConn) { tcp.CloseWrite() }, "cut"},
		{"reset", func(_ *raw, tcp *net.TCPConn) { tcp.SetLinger(0); tcp.Close() }, "cut"},
		{"hang-up in a frame", func(raw *raw, tcp *net.TCPConn) { raw.bytes([]byte{final | opText, 0x85, 0}); tcp.Close() }, "cut"},
		{"binary", func(raw *raw, _ *net.TCPConn) { raw.write(0x2, nil) }, "1003"},
		{"bad UTF-8", func(raw *raw, _ *net.TCPConn) { raw.write(opText, []byte{0xff}) }, "1007"},
		{"oversize", func(raw *raw, _ *net.TCPConn) { raw.write(opText, make([]byte, 40000)) }, "1009"},
		{"unmasked", func(raw *raw, _ *net.TCPConn) { raw.bytes([]byte{final | opText, 0}) }, "1002"},
		{"replaced", func(raw *raw, _ *net.TCPConn) {
			newer := r.joined(uuidA, uuidOf('a', 1), "")
			raw.closeCode()
			newer.ws.CloseNow()
		}, "4509"},
		{"gap", func(*raw, *net.TCPConn) {
			if err := r.writer.Gap(t.Context(), stream.Gap{User: uuidA}); err != nil {
				t.Error(err)
			}
		}, "4000"},
	} {
		before := r.Stats().ConnectionsClosed[c.code]
		raw, tcp := r.tcp(uuidA, uuidOf('a', 1))
		if got := r.Stats(); got.ActiveConnections != 1 || got.ActiveUsers != 1 {
			t.Errorf("%s: Stats() = %+v, want one connection", c.name, got)
		}
		c.end(raw, tcp)
		r.await(c.name, func() bool {
			st := r.Stats()
			return st.ActiveConnections == 0 && st.ActiveUsers == 0 && st.ConnectionsClosed[c.code] > before && r.registry.admits(1) == admitsOne
		})
		if on := r.wheelCount(); on != 0 {
			t.Errorf("%s: connections on the wheel = %d, want none", c.name, on)
		}
		if n := len(r.connections(uuidA)); n != 0 {
			t.Errorf("%s: connections of the user = %d, want none", c.name, n)
		}
	}
}

func (r *relay) wheelCount() (n int) {
	r.wheel.mu.Lock()
	defer r.wheel.mu.Unlock()
	for _, c := range r.wheel.slots {
		for ; c != nil; c = c.next {
			n++
		}
	}
	return n
}

func TestRegistryByUserAndByConnection(t *testing.T) {
	t.Parallel()
	r := newRelay(t, Config{})
	a1, a2, b := r.joined(uuidA, uuidOf('a', 1), ""), r.joined(uuidA, uuidOf('a', 2), ""), r.joined(uuidB, uuidOf('a', 1), "")
	if n, m := len(r.connections(uuidA)), len(r.connections(uuidB)); n != 2 || m != 1 {
		t.Errorf("connections() = %d and %d, want 2 and 1", n, m)
	}
	for _, c := range r.connections(uuidA) {
		if got := r.registry.find(c.id); got != c {
			t.Errorf("find(%s) = %p, want %p", c.id, got, c)
		}
	}
	if n := r.Notify(uuidA); n != 2 {
		t.Errorf("Notify() = %d, want 2", n)
	}
	r.Broadcast([]byte(`{"type":"announcement","data":{"n":1}}`))
	for _, d := range []*device{a1, a2, b} {
		d.want("announcement")
	}
	var infos []map[string]any
	r.get("/v1/users/"+uuidA+"/connections", &infos)
	if len(infos) != 2 || infos[0]["node"] != "edge" || infos[0]["remote"] != "127.0.0.1" {
		t.Errorf("/connections = %v, want two", infos)
	}
	for _, key := range []string{"connection_id", "device_id", "node", "connected_at", "cursor", "remote"} {
		if _, ok := infos[0][key]; !ok {
			t.Errorf("/connections = %v, want %s", infos[0], key)
		}
	}
	r.get("/v1/users/"+uuidOf('e', 1)+"/connections", &infos)
	if len(infos) != 0 {
		t.Errorf("/connections of nobody = %v, want none", infos)
	}
}

func (r *relay) get(path string, into any) *http.Response {
	r.t.Helper()
	resp, err := http.Get(r.url + path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	if s, ok := into.(*string); ok {
		*s = string(body)
	} else if err := json.Unmarshal(body, into); err != nil {
		r.t.Fatalf("%s = %s: %v", path, body, err)
	}
	return resp
}

func TestAdmin(t *testing.T) {
	t.Parallel()
	r := newRelay(t, Config{Node: "edge-7", TailPerUser: 1000}) // what is read from the log has no latency
	d := r.joined(uuidA, uuidOf('a', 1), "")
	for n := range 700 {
		r.publish(uuidA, "", n)
	}
	for range 700 {
		d.want("event")
	}
	r.flush()
	r.await("the count of what the device has", func() bool { return r.Stats().BroadcastLatency.Samples == 700 })
	var text string
	r.get("/v1/stats", &text)
	if want := `{"active_connections":1,"active_users":1,"messages_relayed":700,"broadcast_latency_ms":{"p50":`; !strings.HasPrefix(text, want) {
		t.Errorf("/v1/stats = %s, want it to begin with %s", text, want)
	}
	var st Stats
	r.get("/v1/stats", &st)
	if l := st.BroadcastLatency; l.Samples != 700 || l.P50 <= 0 || l.P95 < l.P50 || l.P99 < l.P95 || l.Average <= 0 {
		t.Errorf("broadcast_latency_ms = %+v, want 700 rising samples", l)
	}
	var lines []string
	path := "/v1/users/" + uuidA + "/events"
	for next := path; ; {
		resp := r.get(next, &text)
		if ct := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || ct != "application/x-ndjson" {
			t.Fatalf("%s = %d %s, want ndjson", next, resp.StatusCode, ct)
		}
		if text != "" {
			lines = append(lines, strings.Split(strings.TrimSuffix(text, "\n"), "\n")...)
		}
		next = path + "?since=" + resp.Header.Get("Reprise-Next")
		if resp.Header.Get("Reprise-More") == "" {
			break
		}
	}
	if len(lines) != 700 {
		t.Errorf("events = %d lines, want 700", len(lines))
	}
	for n, line := range lines {
		if !strings.HasSuffix(line, fmt.Sprintf(`"n":%d}`, n)) {
			t.Fatalf("line %d = %s", n, line)
		}
	}
	for path, status := range map[string]int{
		"/v1/users/me/events": 400, path + "?since=latest": 400, path + "?since=x": 400,
		"/v1/users/" + uuidB + "/events": 200, "/v1/users/me/connections": 400, "/v1/users/" + uuidA: 405,
	} {
		if resp := r.get(path, &text); resp.StatusCode != status {
			t.Errorf("%s = %d %s, want %d", path, resp.StatusCode, text, status)
		}
	}
}

// A device that stops reading is closed with 4002; the others are unhurt, and
// when it comes back it is read to from the log.
func TestSlowDeviceOverTCP(t *testing.T) {
	t.Parallel()
	r := newRelay(t, Config{SlowTimeout: 300 * time.Millisecond, TailPerUser: 64})
	r.tcp(uuidA, uuidOf('a', 1)) // reads no more
	fast := r.joined(uuidA, uuidOf('a', 2), "")
	pad := strings.Repeat("x", 8<<10)
	n := 0
	r.await("the slow device's end", func() bool {
		ev := stream.Event{ID: fmt.Sprint("pad:", n), User: uuidA, Frame: fmt.Appendf(nil, `{"type":"event","hlc":"%s","n":%d,"pad":"%s"}`, hlc.Zero, n, pad)}
		ev.StampAt = strings.Index(string(ev.Frame), `0000000000000000`)
		if err := r.writer.Append(t.Context(), ev); err != nil {
			t.Fatal(err)
		}
		if h := fast.want("event"); h.N != n {
			t.Fatalf("the other device got %d, want %d", h.N, n)
		}
		n++
		return r.Stats().ConnectionsClosed["4002"] == 1
	})
	if got := r.Stats(); got.ActiveConnections != 1 || got.TailBytes > 64*(8<<10+512) {
		t.Errorf("Stats() = %+v, want one connection and a bounded tail", got)
	}
	back := r.connect(uuidA, uuidOf('a', 1), "&since=earliest")
	back.want("welcome")
	events, _ := back.until("caught_up")
	wantRun(t, events, 0, n, "")
}

func TestDrainOverTCP(t *testing.T) {
	t.Parallel()
	r := newRelay(t, Config{})
	const devices = 40
	var ds []*device
	for n := range devices {
		ds = append(ds, r.joined(uuidOf('b', n), uuidOf('a', n), ""))
	}
	done := make(chan error, 1)
	go func() { done <- r.Drain(t.Context(), 500*time.Millisecond) }()
	r.await("the drain", func() bool { return r.registry.refusing() })
	status, body, h := r.handshake("GET", "", nil)
	wantRefusal(t, "while draining", status, body, 503, "draining")
	if h.Get("Retry-After") == "" {
		t.Error("Retry-After = none, want one")
	}
	if ready, reasons, _ := r.Ready(); ready || reasons[0] != "draining" {
		t.Errorf("Ready() = %v, %v, want draining", ready, reasons)
	}
	for _, d := range ds {
		if h := d.want("reconnect"); h.AfterMS < 100 || h.AfterMS > 1500 {
			t.Errorf("reconnect = %s, want 100 to 1500 ms", h.text)
		}
		if code := d.closed(); code != codeRestart {
			t.Errorf("close code = %d, want %d", code, codeRestart)
		}
	}
	if err := <-done; err != nil {
		t.Errorf("Drain() = %v, want nil", err)
	}
	if err := <-r.ended; err != nil {
		t.Errorf("Run() = %v, want nil after the drain", err)
	}
	r.ended <- nil
}

func TestEndOfTheProcess(t *testing.T) {
	t.Parallel()
	r := newRelay(t, Config{})
	d := r.joined(uuidA, uuidOf('a', 1), "")
	r.tcp(uuidA, uuidOf('a', 2)) // answers nothing
	begin := time.Now()
	r.stop()
	if code := d.closed(); code != websocket.StatusGoingAway {
		t.Errorf("close code = %d, want 1001", code)
	}
	if err := <-r.ended; err != nil {
		t.Errorf("Run() = %v, want nil", err)
	}
	r.ended <- nil
	if took := time.Since(begin); took > 2*partingTime+time.Second {
		t.Errorf("Run() ended after %v, want at most %v", took, 2*partingTime)
	}
}

// Many connections of a few devices that come, go and are replaced while events
// flow: nothing is left over. Run with the race detector.
func TestComingAndGoing(t *testing.T) {
	t.Parallel()
	r := newRelay(t, Config{TailPerUser: 4, TailLinger: time.Millisecond, TailBytes: 2000})
	var stop atomic.Bool
	published := make(chan struct{})
	go func() {
		defer close(published)
		for n := 0; !stop.Load(); n++ {
			if r.tryAppend(stream.Event{User: []string{uuidA, uuidB}[n%2]}, n) != nil {
				return
			}
		}
	}()
	done := make(chan struct{})
	for worker := range 8 {
		go func() {
			defer func() { done <- struct{}{} }()
			for n := range 25 {
				user := []string{uuidA, uuidB}[worker%2]
				d := connect(t, r.url, "user_id="+user+"&device_id="+uuidOf('a', n%3)+"&since=latest", dialing{})
				last := ""
				for h := range d.frames {
					if h.Type == "event" {
						if h.Hlc <= last {
							t.Errorf("hlc %s after %s, want rising", h.Hlc, last)
						}
						last = h.Hlc
						if h.N%5 == worker%5 {
							break
						}
					}
				}
				d.ws.CloseNow()
			}
		}()
	}
	for range 8 {
		<-done
	}
	stop.Store(true)
	<-published
	r.await("everybody's end", func() bool { return r.Stats().ActiveConnections == 0 && r.registry.admits(1) == admitsOne })
	r.await("the tails' end", func() bool {
		sh := r.shards[0]
		sh.mu.Lock()
		defer sh.mu.Unlock()
		return len(sh.users) == 0 && len(sh.leaving) == 0 && r.budget.used.Load() == 0
	})
}
