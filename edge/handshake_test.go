package edge

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// handshake sends a request to /ws and returns the answer's status, body and
// headers. nil removes a header.
func (r *relay) handshake(method, query string, change map[string]string) (int, string, http.Header) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.url+"/ws?"+query, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	for k, v := range map[string]string{
		"Connection": "keep-alive, Upgrade", "Upgrade": "WebSocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
	} {
		req.Header.Set(k, v)
	}
	for k, v := range change {
		if k == "Host" {
			req.Host = v
		} else if v == "" {
			req.Header.Del(k)
		} else {
			req.Header.Set(k, v)
		}
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp.StatusCode, "", resp.Header
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(body), resp.Header
}

func wantRefusal(t *testing.T, name string, status int, body string, wantStatus int, wantCode string) {
	t.Helper()
	if status != wantStatus || !strings.HasPrefix(body, `{"error":{"code":"`+wantCode+`","message":"`) || !strings.HasSuffix(body, `"}}`) {
		t.Errorf("%s: handshake = %d %s, want %d %s", name, status, body, wantStatus, wantCode)
	}
}

func TestHandshakeWithoutTokens(t *testing.T) {
	t.Parallel()
	r := newRelay(t, Config{AllowedOrigins: []string{"https://app.example", "other.example:8443"}})
	good := "user_id=" + uuidA + "&device_id=" + uuidB
	for _, c := range []struct {
		name, query string
		header      map[string]string
		status      int
		code        string
	}{
		{"good", good, nil, 101, ""},
		{"unknown parameters", good + "&x=1&x=2&coalesce=1&snapshot=1", nil, 101, ""},
		{"escaped", strings.ReplaceAll(good, "-", "%2d") + "&since=late%73t", nil, 101, ""},
		{"no device", "user_id=" + uuidA, nil, 400, "device_id"},
		{"empty device", "user_id=" + uuidA + "&device_id=", nil, 400, "device_id"},
		{"two devices", good + "&device_id=" + uuidB, nil, 400, "device_id"},
		{"upper-case device", "user_id=" + uuidA + "&device_id=" + strings.ToUpper(uuidB), nil, 400, "device_id"},
		{"since empty", good + "&since=", nil, 400, "since"},
		{"since bare", good + "&since", nil, 400, "since"},
		{"since twice", good + "&since=latest&since=latest", nil, 400, "since"},
		{"since in upper case", good + "&since=019A3F2C8E410003", nil, 400, "since"},
		{"since LATEST", good + "&since=LATEST", nil, 400, "since"},
		{"since short", good + "&since=019a3f2c8e41000", nil, 400, "since"},
		{"since badly escaped", good + "&since=%zz", nil, 400, "since"},
		{"since with a semicolon", good + "&since=latest;x", nil, 400, "since"},
		{"no user", "device_id=" + uuidB, nil, 400, "user_id"},
		{"bad user", "device_id=" + uuidB + "&user_id=me", nil, 400, "user_id"},
		{"two users", good + "&user_id=" + uuidB, nil, 400, "user_id"},
		{"echo=2", good + "&echo=2", nil, 400, "echo"},
		{"echo empty", good + "&echo=", nil, 400, "echo"},
		{"echo twice", good + "&echo=1&echo=1", nil, 400, "echo"},
		{"same origin", good, map[string]string{"Origin": r.url}, 101, ""},
		{"listed origin", good, map[string]string{"Origin": "https://app.example"}, 101, ""},
		{"listed host", good, map[string]string{"Origin": "https://other.example:8443"}, 101, ""},
		{"listed origin, other scheme", good, map[string]string{"Origin": "http://app.example"}, 403, "origin"},
		{"other origin", good, map[string]string{"Origin": "https://evil.example"}, 403, "origin"},
		{"longer origin", good, map[string]string{"Origin": "https://app.example.evil"}, 403, "origin"},
		{"null origin", good, map[string]string{"Origin": "null"}, 403, "origin"},
		{"two origins", good, map[string]string{"Origin": r.url + ", null"}, 403, "origin"},
		{"a name that was made to lead here", good, map[string]string{"Origin": "http://evil.example", "Host": "evil.example"}, 403, "origin"},
		{"localhost", good, map[string]string{"Origin": "http://localhost:1", "Host": "localhost:1"}, 101, ""},
		{"a name, and no page", good, map[string]string{"Host": "relay.example"}, 101, ""},
		{"no upgrade", good, map[string]string{"Upgrade": "", "Connection": ""}, 426, "upgrade"},
		{"version 12", good, map[string]string{"Sec-WebSocket-Version": "12"}, 426, "upgrade"},
		{"short key", good, map[string]string{"Sec-WebSocket-Key": "AAAA"}, 426, "upgrade"},
		// In the order of the protocol.
		{"origin before device", "", map[string]string{"Origin": "null"}, 403, "origin"},
		{"device before since", "since=x&user_id=x&echo=x", nil, 400, "device_id"},
		{"since before user", "since=x&user_id=x&echo=x&device_id=" + uuidB, nil, 400, "since"},
		{"user before echo", "user_id=x&echo=x&device_id=" + uuidB, nil, 400, "user_id"},
		{"echo before upgrade", good + "&echo=x", map[string]string{"Upgrade": ""}, 400, "echo"},
	} {
		status, body, h := r.handshake("GET", c.query, c.header)
		if c.status == 101 {
			if status != 101 || h.Get("Sec-WebSocket-Extensions") != "" {
				t.Errorf("%s: handshake = %d %s %v, want 101 without extensions", c.name, status, body, h)
			}
			continue
		}
		wantRefusal(t, c.name, status, body, c.status, c.code)
		if ct := h.Get("Content-Type"); ct != "application/json" {
			t.Errorf("%s: Content-Type = %q, want application/json", c.name, ct)
		}
		if c.status == 426 && (h.Get("Upgrade") != "websocket" || h.Get("Sec-WebSocket-Version") != "13") {
			t.Errorf("%s: headers = %v, want Upgrade and the version", c.name, h)
		}
	}
	status, body, _ := r.handshake("POST", good, nil)
	wantRefusal(t, "POST", status, body, 426, "upgrade")
}

func TestHandshakeWithTokens(t *testing.T) {
	t.Parallel()
	r := newRelay(t, Config{Authenticate: func(token string) (Identity, error) {
		switch token {
		case "good":
			return Identity{User: uuidA, Device: "", Expires: time.Now().Add(time.Hour)}, nil
		case "pinned":
			return Identity{User: uuidA, Device: uuidB, Expires: time.Time{}}, nil
		case "pinned badly":
			return Identity{User: uuidA, Device: "tv", Expires: time.Time{}}, nil
		case "name":
			return Identity{User: "alice", Device: "", Expires: time.Time{}}, nil
		case "old":
			return Identity{User: uuidA, Device: "", Expires: time.Now().Add(-time.Second)}, nil
		}
		return Identity{}, errors.New("no")
	}})
	const device = "device_id=" + uuidB
	bearer := func(token string) map[string]string { return map[string]string{"Authorization": "Bearer " + token} }
	for _, c := range []struct {
		name, query string
		header      map[string]string
		status      int
		code        string
	}{
		{"good", device, bearer("good"), 101, ""},
		{"lower-case scheme", device, map[string]string{"Authorization": "bearer good"}, 101, ""},
		{"user_id is ignored", device + "&user_id=nobody", bearer("good"), 101, ""},
		{"pinned", device, bearer("pinned"), 101, ""},
		{"pinned, device left out", "", bearer("pinned"), 101, ""},
		{"pinned to another", "device_id=" + uuidA, bearer("pinned"), 400, "device_id"},
		{"pinned to no UUID", "", bearer("pinned badly"), 401, "unauthorized"},
		{"none", device, nil, 401, "unauthorized"},
		{"wrong", device, bearer("bad"), 401, "unauthorized"},
		{"expired", device, bearer("old"), 401, "unauthorized"},
		{"basic", device, map[string]string{"Authorization": "Basic good"}, 401, "unauthorized"},
		{"in the query", device + "&token=good", nil, 401, "unauthorized"},
		{"subject is no UUID", device, bearer("name"), 403, "user"},
		{"unauthorized before device", "", bearer("bad"), 401, "unauthorized"},
		{"user before device", "", bearer("name"), 403, "user"},
		{"origin before unauthorized", "", map[string]string{"Authorization": "Bearer bad", "Origin": "null"}, 403, "origin"},
	} {
		status, body, h := r.handshake("GET", c.query, c.header)
		if c.status == 101 {
			if status != 101 {
				t.Errorf("%s: handshake = %d %s, want 101", c.name, status, body)
			}
			continue
		}
		wantRefusal(t, c.name, status, body, c.status, c.code)
		if c.status == 401 && h.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s: WWW-Authenticate = %q, want Bearer", c.name, h.Get("WWW-Authenticate"))
		}
	}
	for _, c := range []struct{ offered, echoed string }{
		{"reprise.v1, bearer.good", "reprise.v1"},
		{"bearer.good,reprise.v1", "reprise.v1"},
		{"bearer.good", ""},
	} {
		status, body, h := r.handshake("GET", device, map[string]string{"Sec-WebSocket-Protocol": c.offered})
		if got := h.Get("Sec-WebSocket-Protocol"); status != 101 || got != c.echoed {
			t.Errorf("handshake offering %q = %d %s, echoed %q, want %q", c.offered, status, body, got, c.echoed)
		}
	}
	d := connect(t, r.url, device, dialing{offers: []string{"reprise.v1", "bearer.good"}})
	if w := d.want("welcome"); d.ws.Subprotocol() != "reprise.v1" {
		t.Errorf("Subprotocol() = %q after %s, want reprise.v1", d.ws.Subprotocol(), w.text)
	}
}

func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	r := newRelay(t, Config{MaxConnections: 4, MaxConnectionsPerUser: 3})
	var ds []*device
	for n := range 3 {
		ds = append(ds, r.joined(uuidA, uuidOf('a', n), ""))
	}
	status, body, h := r.handshake("GET", "user_id="+uuidA+"&device_id="+uuidB, map[string]string{"Origin": "null"})
	wantRefusal(t, "fourth of a user", status, body, 429, "too_many_connections")
	if h.Get("Retry-After") == "" {
		t.Error("Retry-After = none, want one")
	}
	r.joined(uuidA, uuidOf('a', 2), "") // in the place of its older one
	if code := ds[2].closed(); code != codeReplaced {
		t.Errorf("close code = %d, want %d", code, codeReplaced)
	}
	r.await("the replaced connection's end", func() bool { return r.registry.admits(4) == admitsOne })
	last := r.joined(uuidB, uuidOf('a', 1), "")
	status, body, h = r.handshake("GET", "user_id="+uuidOf('b', 1)+"&device_id=x", nil)
	wantRefusal(t, "fifth of all", status, body, 429, "too_many_connections")
	if h.Get("Retry-After") == "" {
		t.Error("Retry-After = none, want one")
	}
	last.ws.Close(websocket.StatusNormalClosure, "")
	r.await("room", func() bool { return r.registry.admits(4) == admitsOne })
	r.joined(uuidOf('b', 1), uuidOf('a', 1), "")
}

func TestNoHandshakeBeforeTheFeed(t *testing.T) {
	t.Parallel()
	l := openLog(t, streamConfig())
	s, err := New(Config{Log: l})
	if err != nil {
		t.Fatal(err)
	}
	if ready, reasons, _ := s.Ready(); ready || len(reasons) != 1 || reasons[0] != "starting" {
		t.Errorf("Ready() = %v, %v, want not, starting", ready, reasons)
	}
	_, rf := s.check(&http.Request{Method: "GET", URL: &url.URL{}, Header: http.Header{}})
	if rf != refuseStarting {
		t.Errorf("check() = %+v, want starting", rf)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	for !s.following() {
		if ctx.Err() != nil {
			t.Fatal("the feeds do not begin")
		}
	}
	if ready, reasons, warnings := s.Ready(); !ready {
		t.Errorf("Ready() = %v, %v, %v, want ready", ready, reasons, warnings)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run() = %v, want nil", err)
	}
	if err := s.Run(t.Context()); err == nil {
		t.Error("second Run() = nil, want an error")
	}
}

func TestNewSaysAllThatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := New(Config{TailBytes: -1, IdleTimeout: time.Second})
	for _, want := range []string{"no Log", "TailBytes is negative", "IdleTimeout 1s"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New() = %v, want %q in it", err, want)
		}
	}
}
