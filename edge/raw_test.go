package edge

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"reprise/stream"
)

// raw is a device below WebSocket: it sends what it likes, and reads only when
// it is asked to.
type raw struct {
	t  testing.TB
	nc net.Conn
	r  *bufio.Reader
}

// raw connects and reads up to caught_up.
func (p *played) raw(user, device, more string) *raw {
	p.t.Helper()
	nc, err := p.pipes.dial(p.t.Context(), "", "")
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { nc.Close() })
	return newRaw(p.t, nc, "/ws?user_id="+user+"&device_id="+device+"&since=latest"+more)
}

func newRaw(t testing.TB, nc net.Conn, path string) *raw {
	t.Helper()
	r := &raw{t: t, nc: nc, r: bufio.NewReader(nc)}
	io.WriteString(nc, "GET "+path+" HTTP/1.1\r\nHost: edge\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
	resp, err := http.ReadResponse(r.r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("handshake = %+v, %v, want 101", resp, err)
	}
	for {
		op, payload := r.frame()
		if op != opText {
			t.Fatalf("frame = %x %q, want text", op, payload)
		}
		if len(payload) > 20 && string(payload[:20]) == `{"type":"caught_up",` {
			return r
		}
	}
}

// write sends one masked frame with the final bit.
func (r *raw) write(op byte, payload []byte) {
	r.bytes(append(maskedHeader(final|op, len(payload)), payload...))
}

func (r *raw) bytes(b []byte) { r.nc.Write(b) }

// maskedHeader is a client's header with a mask of zeros.
func maskedHeader(first byte, n int) []byte {
	h := []byte{first}
	switch {
	case n < 126:
		h = append(h, 0x80|byte(n))
	case n < 1<<16:
		h = binary.BigEndian.AppendUint16(append(h, 0x80|126), uint16(n))
	default:
		h = binary.BigEndian.AppendUint64(append(h, 0x80|127), uint64(n))
	}
	return append(h, 0, 0, 0, 0)
}

// frame reads one frame.
func (r *raw) frame() (op byte, payload []byte) {
	r.t.Helper()
	op, payload, err := r.tryFrame()
	if err != nil {
		r.t.Fatalf("frame() = %v, want a frame", err)
	}
	return op, payload
}

func (r *raw) tryFrame() (op byte, payload []byte, err error) {
	var h [10]byte
	if _, err = io.ReadFull(r.r, h[:2]); err != nil {
		return 0, nil, err
	}
	n := uint64(h[1] & 0x7f)
	switch n {
	case 126:
		_, err = io.ReadFull(r.r, h[2:4])
		n = uint64(binary.BigEndian.Uint16(h[2:]))
	case 127:
		_, err = io.ReadFull(r.r, h[2:10])
		n = binary.BigEndian.Uint64(h[2:])
	}
	if err != nil {
		return 0, nil, err
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(r.r, payload)
	return h[0] & 0x0f, payload, err
}

// closeCode reads up to the end and returns the code of the close frame; -1
// when the connection ended without one, in the middle of a frame or not.
func (r *raw) closeCode() int {
	r.t.Helper()
	code := -1
	for {
		op, payload, err := r.tryFrame()
		if err != nil {
			return code
		}
		if op == opClose && len(payload) >= 2 {
			code = int(binary.BigEndian.Uint16(payload))
		}
	}
}

// skip takes n bytes off the connection.
func (r *raw) skip(n int) { io.CopyN(io.Discard, r.nc, int64(n)) }

// authenticated connects with a token and waits until it is live.
func (p *played) authenticated(token, device string) *device {
	p.t.Helper()
	tr := &http.Transport{DialContext: p.pipes.dial, DisableKeepAlives: true}
	d := connect(p.t, "http://edge", "device_id="+device+"&since=latest",
		dialing{client: &http.Client{Transport: tr}, patience: time.Hour, header: http.Header{"Authorization": {"Bearer " + token}}})
	d.want("welcome")
	d.want("caught_up")
	return d
}

// openedAt is a connection of a device whose cursor the log's leader knows and
// this edge does not yet: it has been welcomed, and has nothing else.
func (p *played) openedAt(user, device string, cursor stream.Position) *raw {
	near, far := net.Pipe()
	c := &conn{server: p.Server, shard: p.shards[0], user: user, device: device, connected: time.Now(), welcomed: make(chan struct{}), gone: make(chan struct{})}
	c.wire = &wire{Conn: far, elapsed: p.elapsed, slow: p.cfg.SlowTimeout}
	c.runs = c.run
	c.tail = c.shard.reserve(user, device, p.cfg.MaxConnectionsPerUser)
	c.phase.Store(phaseReplaying)
	c.moveTo(cursor)
	c.shard.attach(c)
	c.wake()
	p.t.Cleanup(func() { near.Close(); far.Close() })
	return &raw{t: p.t, nc: near, r: bufio.NewReader(near)}
}

// What a device sends that is not WebSocket, or not text: each has its code,
// and the server goes on.
func TestBadFrames(t *testing.T) {
	text := []byte(`{"type":"ping"}`)
	for _, c := range []struct {
		name  string
		bytes []byte
		code  int
		bad   string
	}{
		{"binary", append(maskedHeader(final|0x2, 1), 'x'), codeUnsupported, "binary"},
		{"bad UTF-8", append(maskedHeader(final|opText, 1), 0xff), codeInvalidUTF8, "utf8"},
		{"cut UTF-8", append(maskedHeader(final|opText, 2), '"', 0xc3), codeInvalidUTF8, "utf8"},
		{"oversize", append(maskedHeader(final|opText, 32769), make([]byte, 32769)...), codeTooBig, "too_big"},
		{"oversize announced", maskedHeader(final|opText, 1<<40), codeTooBig, "too_big"},
		{"unmasked", append([]byte{final | opText, byte(len(text))}, text...), codeProtocolError, "protocol"},
		{"reserved bit", append(maskedHeader(final|0x40|opText, len(text)), text...), codeProtocolError, "protocol"},
		{"unknown opcode", maskedHeader(final|0x3, 0), codeProtocolError, "protocol"},
		{"continuation of nothing", maskedHeader(final, 0), codeProtocolError, "protocol"},
		{"fragmented ping", maskedHeader(opPing, 0), codeProtocolError, "protocol"},
		{"long ping", append(maskedHeader(final|opPing, 126), make([]byte, 126)...), codeProtocolError, "protocol"},
		{"new message in a message", append(append(maskedHeader(opText, 1), 'x'), maskedHeader(final|opText, 0)...), codeProtocolError, "protocol"},
		{"close frame of one byte", append(maskedHeader(final|opClose, 1), 3), codeProtocolError, "protocol"},
		{"close", append(maskedHeader(final|opClose, 2), 0x03, 0xe8), 1000, ""},
		{"hang-up", nil, -1, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := play(t, Config{})
				r := p.raw(uuidA, uuidOf('a', 1), "")
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					r.bytes(c.bytes)
					if c.name == "oversize announced" {
						r.bytes(make([]byte, 64<<10))
					}
				}()
				if c.bytes == nil {
					r.nc.Close()
				}
				if code := r.closeCode(); code != c.code {
					t.Errorf("close code = %d, want %d", code, c.code)
				}
				r.nc.Close()
				<-sent
				time.Sleep(3 * time.Second)
				synctest.Wait()
				st := p.Stats()
				if st.ActiveConnections != 0 || p.registry.seats != 0 {
					t.Errorf("Stats() = %+v with %d seats taken, want nobody", st, p.registry.seats)
				}
				if c.bad != "" && st.BadFrames[c.bad] != 1 {
					t.Errorf("BadFrames = %v, want one %s", st.BadFrames, c.bad)
				}
				p.joined(uuidA, uuidOf('a', 1), "")
			})
		})
	}
}

// Messages in fragments, with a ping between them, and byte by byte.
func TestFragments(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := play(t, Config{})
		r := p.raw(uuidA, uuidOf('a', 1), "")
		answers := make(chan string, 3)
		go func() {
			for range 3 {
				op, payload := r.frame()
				answers <- string(rune('0'+op)) + string(payload)
			}
		}()
		var b []byte
		b = append(append(b, maskedHeader(opText, 8)...), `{"type":`...)
		b = append(append(b, maskedHeader(final|opPing, 2)...), `hi`...)
		b = append(append(b, maskedHeader(0, 0)...), maskedHeader(final, 7)...)
		b = append(b, `"ping"}`...)
		for i := range b {
			r.bytes(b[i : i+1])
		}
		got := map[string]bool{<-answers: true, <-answers: true}
		if !got[":hi"] || !got[`1{"type":"pong"}`] {
			t.Errorf("answers = %v, want a pong of each kind", got)
		}
		r.write(opText, []byte(`{"type":"nonsense"}`))
		if a := <-answers; a != `1{"type":"error","code":"unknown_type","message":"type: unknown","temporary":false}` {
			t.Errorf("answer = %s, want unknown_type", a)
		}
	})
}
