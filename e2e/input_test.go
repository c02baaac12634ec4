package e2e

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// TestBadHandshakes asks for connections that must be refused, each with the
// documented answer, and finds the relay unharmed.
func TestBadHandshakes(t *testing.T) {
	t.Parallel()
	pubnub := emulator(t)
	relay := serve(t, pubnub.Addr())
	run := newRun(t, relay)
	good := run.device(userNo(1), deviceNo(1)).connect("latest")
	good.caughtUp()
	ids := "user_id=" + userNo(1) + "&device_id=" + deviceNo(2)
	const stamp = "019a3f2c8e410003"
	counts := make(map[string]float64)
	for _, tt := range []struct {
		name, query string
		status      int
		code        string
	}{
		{"no device", "user_id=" + userNo(1), 400, "device_id"},
		{"empty device", "user_id=" + userNo(1) + "&device_id=", 400, "device_id"},
		{"device in upper case", "user_id=" + userNo(1) + "&device_id=" + strings.ToUpper(deviceNo(2)), 400, "device_id"},
		{"device in braces", "user_id=" + userNo(1) + "&device_id={" + deviceNo(2) + "}", 400, "device_id"},
		{"device without hyphens", "user_id=" + userNo(1) + "&device_id=" + strings.ReplaceAll(deviceNo(2), "-", ""), 400, "device_id"},
		{"device twice", ids + "&device_id=" + deviceNo(3), 400, "device_id"},
		{"no user", "device_id=" + deviceNo(2), 400, "user_id"},
		{"user is a name", "user_id=alice&device_id=" + deviceNo(2), 400, "user_id"},
		{"empty since", ids + "&since=", 400, "since"},
		{"since twice", ids + "&since=" + stamp + "&since=" + stamp, 400, "since"},
		{"since in upper case", ids + "&since=" + strings.ToUpper(stamp), 400, "since"},
		{"LATEST", ids + "&since=LATEST", 400, "since"},
		{"since too short", ids + "&since=" + stamp[1:], 400, "since"},
		{"since too long", ids + "&since=0" + stamp, 400, "since"},
		{"since with a sign", ids + "&since=%2b19a3f2c8e410003", 400, "since"},
		{"since with a null", ids + "&since=019a3f2c8e41000%00", 400, "since"},
		{"since not UTF-8", ids + "&since=%ff%fe", 400, "since"},
		{"since escaped badly", ids + "&since=%zz", 400, "since"},
		{"echo is neither", ids + "&echo=2", 400, "echo"},
		{"empty echo", ids + "&echo=", 400, "echo"},
		{"device before since before user", "device_id=x&since=x&user_id=x&echo=x", 400, "device_id"},
		{"since before user", "device_id=" + deviceNo(2) + "&since=x&user_id=x&echo=x", 400, "since"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, resp, err := websocket.Dial(within(t), "ws://"+relay.devices+"/ws?"+tt.query, nil)
			if err == nil || resp == nil {
				t.Fatalf("Dial(%s) = %v, want a refusal", tt.query, err)
			}
			body, err := io.ReadAll(resp.Body) // the library keeps its beginning
			if err != nil {
				t.Fatalf("Dial(%s): %v", tt.query, err)
			}
			if want := `{"error":{"code":"` + tt.code + `","message":"`; resp.StatusCode != tt.status || !bytes.HasPrefix(body, []byte(want)) {
				t.Errorf("Dial(%s) = %d %s, want %d %s…", tt.query, resp.StatusCode, body, tt.status, want)
			}
			counts[tt.code]++
		})
	}
	for name, bad := range map[string]func(*http.Request){
		"no upgrade":      func(*http.Request) {},
		"POST":            func(r *http.Request) { r.Method = http.MethodPost; upgradeHeaders(r) },
		"version 8":       func(r *http.Request) { upgradeHeaders(r); r.Header.Set("Sec-WebSocket-Version", "8") },
		"no key":          func(r *http.Request) { upgradeHeaders(r); r.Header.Del("Sec-WebSocket-Key") },
		"another upgrade": func(r *http.Request) { upgradeHeaders(r); r.Header.Set("Upgrade", "h2c") },
	} {
		req, err := http.NewRequestWithContext(within(t), http.MethodGet, "http://"+relay.devices+"/ws?"+ids, nil)
		if err != nil {
			t.Fatal(err)
		}
		bad(req)
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusUpgradeRequired {
			t.Errorf("%s = %d, want 426", name, resp.StatusCode)
		}
	}
	for code, n := range counts {
		if got := relay.metric(`reprise_handshakes_refused_total{code="` + code + `"`); got != n {
			t.Errorf("handshakes refused for %s = %v, want %v", code, got, n)
		}
	}
	run.judge(pubnub.Addr())
}

func upgradeHeaders(r *http.Request) {
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Sec-WebSocket-Version", "13")
	r.Header.Set("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
}

// TestBadFrames sends what a device must not send. The connection stays, with an
// error, or is closed with the documented code; the relay is unharmed, and a
// counter has moved.
func TestBadFrames(t *testing.T) {
	t.Parallel()
	pubnub := emulator(t)
	relay := serve(t, pubnub.Addr())
	run := newRun(t, relay)
	user := userNo(1)
	good := run.device(user, deviceNo(1)).connect("latest")
	good.caughtUp()
	p := run.publisher(pubnub.Addr())
	const id = "eeeeeeee-eeee-4eee-8eee-eeeeeeeeeeee"
	text := websocket.MessageText
	for i, tt := range []struct {
		name    string
		kind    websocket.MessageType
		payload string
		code    string               // of the error; "" if the connection is closed
		closed  websocket.StatusCode // or this
		counted string
	}{
		{"no JSON", text, `{"type":`, "bad_json", 0, "bad_json"},
		{"nothing", text, ``, "bad_json", 0, "bad_json"},
		{"two values", text, `{"type":"ping"}{"type":"ping"}`, "bad_json", 0, "bad_json"},
		{"an array", text, `["ping"]`, "bad_json", 0, "bad_json"},
		{"null", text, `null`, "bad_json", 0, "bad_json"},
		{"a thousand levels", text, strings.Repeat("[", 10_000), "bad_json", 0, "bad_json"},
		{"unknown type", text, `{"type":"hello"}`, "unknown_type", 0, "unknown_type"},
		{"a server's type", text, `{"type":"welcome"}`, "unknown_type", 0, "unknown_type"},
		{"ack without a stamp", text, `{"type":"ack"}`, "bad_field", 0, "bad_field"},
		{"ack in upper case", text, `{"type":"ack","hlc":"019A3F2C8E410003"}`, "bad_field", 0, "bad_field"},
		{"ack of what was never sent", text, `{"type":"ack","hlc":"ffffffffffffffff"}`, "bad_field", 0, "bad_field"},
		{"update without an id", text, `{"type":"progress_update","content_id":"` + content + `","position_seconds":1}`, "bad_field", 0, "bad_field"},
		{"negative position", text, `{"type":"progress_update","id":"` + id + `","content_id":"` + content + `","position_seconds":-1}`, "bad_field", 0, "bad_field"},
		{"expired command", text, `{"type":"device_command","id":"` + id + `","target_device_id":"` + deviceNo(2) + `","command_type":"pause","expires_at":1}`, "expired", 0, "expired"},
		{"not UTF-8", text, "{\"type\":\"ping\",\"x\":\"\xff\xfe\"}", "", websocket.StatusInvalidFramePayloadData, "utf8"},
		{"half a character", text, "{\"type\":\"ping\",\"x\":\"\xe2\x82\"}", "", websocket.StatusInvalidFramePayloadData, "utf8"},
		{"binary", websocket.MessageBinary, `{"type":"ping"}`, "", websocket.StatusUnsupportedData, "binary"},
		{"oversize", text, `{"type":"ping","x":"` + strings.Repeat("x", 33<<10) + `"}`, "", websocket.StatusMessageTooBig, "too_big"},
		{"oversize by far", text, strings.Repeat("x", 1<<20), "", websocket.StatusMessageTooBig, "too_big"},
	} {
		series := `reprise_frames_bad_total{reason="` + tt.counted + `"`
		before := relay.metric(series)
		c := run.device(user, deviceNo(100+i)).connect("latest")
		c.caughtUp()
		// A close may come while an oversize message is still being written.
		if err := c.ws.Write(within(t), tt.kind, []byte(tt.payload)); err != nil && tt.closed == 0 {
			t.Errorf("%s: write: %v", tt.name, err)
		}
		if tt.closed != 0 {
			c.lost()
			if c.closed != tt.closed {
				t.Errorf("%s closes with %d, want %d", tt.name, c.closed, tt.closed)
			}
		} else {
			c.await("an error", ofType("error", 1))
			frames := c.frames()
			if got := frames[len(frames)-1].Text; !strings.Contains(got, `"code":"`+tt.code+`"`) || !strings.Contains(got, `"temporary":false`) {
				t.Errorf("%s is answered %s, want the error %s", tt.name, got, tt.code)
			}
			m := progress(user, deviceNo(9), i)
			p.publish(m)
			c.await("an event after the error", m.arrived())
		}
		if got := relay.metric(series); got != before+1 {
			t.Errorf("%s: %s} = %v, want %v", tt.name, series, got, before+1)
		}
		c.cut()
	}
	run.judge(pubnub.Addr())
}

// TestBrokenProtocol writes bytes that are no WebSocket frames, and frames that
// RFC 6455 forbids, each on a connection of its own.
func TestBrokenProtocol(t *testing.T) {
	t.Parallel()
	pubnub := emulator(t)
	relay := serve(t, pubnub.Addr())
	run := newRun(t, relay)
	good := run.device(userNo(1), deviceNo(1)).connect("latest")
	good.caughtUp()
	for name, raw := range map[string]string{
		"an unmasked frame":             "\x81\x02{}",
		"a reserved bit":                "\xc1\x80\x00\x00\x00\x00",
		"a reserved opcode":             "\x83\x80\x00\x00\x00\x00",
		"a ping of 126 bytes":           "\x89\xfe\x00\x7e\x00\x00\x00\x00" + strings.Repeat("x", 126),
		"a ping in pieces":              "\x09\x80\x00\x00\x00\x00",
		"a continuation of nothing":     "\x80\x80\x00\x00\x00\x00",
		"a length of 2^63":              "\x81\xff\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		"a close of one byte":           "\x88\x81\x00\x00\x00\x00x",
		"bytes that are nothing at all": strings.Repeat("\xff", 64),
		"half a frame, then nothing":    "\x81\xfe\x10\x00\x00\x00",
	} {
		conn, err := (&net.Dialer{}).DialContext(within(t), "tcp", relay.devices)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		stop := context.AfterFunc(within(t), func() { conn.Close() })
		io.WriteString(conn, "GET /ws?user_id="+userNo(2)+"&device_id="+deviceNo(2)+" HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\n"+
			"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"+raw)
		conn.(*net.TCPConn).CloseWrite()
		answer, err := io.ReadAll(conn)
		if !bytes.HasPrefix(answer, []byte("HTTP/1.1 101 ")) {
			t.Errorf("%s: the answer begins %.60q (%v), want 101", name, answer, err)
		}
		if !stop() {
			t.Errorf("%s: the connection was not ended in time", name)
		}
		conn.Close()
	}
	if got := relay.metric(`reprise_frames_bad_total{reason="protocol"`); got == 0 {
		t.Errorf("frames counted as protocol = %v, want some", got)
	}
	run.judge(pubnub.Addr())
}
