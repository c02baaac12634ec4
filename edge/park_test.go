package edge

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"slices"
	"testing"

	"github.com/coder/websocket"
)

// masked is a frame as a device sends it, RFC 6455 section 5.3.
func masked(first byte, payload []byte) []byte {
	frame := appendFrame(nil, first&0x0f, payload)
	at := len(frame) - len(payload)
	frame[0], frame[1] = first, frame[1]|0x80
	key := []byte{1, 2, 3, 4}
	for i := range payload {
		frame[at+i] ^= key[i%4]
	}
	return slices.Insert(frame, at, key...)
}

// TestReaderResumes pins what parking relies on in the library: when its
// transport says between two messages that there is nothing, Reader returns that
// error, and the next call reads on, wherever the network has cut the bytes.
func TestReaderResumes(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	near, far := tcpPair(t)
	w := testWire(far)
	var err error
	if w.raw, err = far.(*net.TCPConn).SyscallConn(); err != nil {
		t.Fatal(err)
	}
	pings := 0
	ws := upgraded(t, w, &websocket.AcceptOptions{OnPingReceived: func(context.Context, []byte) bool { pings++; return false }})

	var sent [][]byte
	var stream []byte
	wantPings := 0
	for range 300 {
		body := bytes.Repeat([]byte{byte('a' + chance.IntN(26))}, []int{0, 1, 125, 126, 300, 70_000}[chance.IntN(6)])
		sent = append(sent, body)
		op := byte(opText)
		for parts := chance.IntN(3); parts > 0; parts-- { // fragments, and a ping between them
			cut := chance.IntN(len(body) + 1)
			stream = append(stream, masked(op, body[:cut])...)
			body, op = body[cut:], 0
			if chance.IntN(2) == 0 {
				stream = append(stream, masked(final|opPing, []byte("p"))...)
				wantPings++
			}
		}
		stream = append(stream, masked(final|op, body)...)
	}
	stream = append(stream, masked(final|opClose, binary.BigEndian.AppendUint16(nil, 1000))...)
	if _, _, err := ws.Reader(context.Background()); !errors.Is(err, errParked) {
		t.Fatalf("Reader() = %v before anything came, want %v", err, errParked)
	}
	chop := rand.New(rand.NewPCG(seed, 1))
	go func() {
		for len(stream) > 0 {
			n := min(len(stream), []int{1, 1, 2, 3, 7, 200, 10_000}[chop.IntN(7)])
			near.Write(stream[:n])
			stream = stream[n:]
			runtime.Gosched()
		}
	}()
	for i := 0; ; {
		_, r, err := ws.Reader(context.Background())
		if errors.Is(err, errParked) {
			runtime.Gosched()
			continue
		}
		if err != nil {
			if websocket.CloseStatus(err) != 1000 || i != len(sent) {
				t.Errorf("after %d of %d messages: %v", i, len(sent), err)
			}
			break
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, sent[i]) {
			t.Fatalf("message %d = %d bytes, %v, want %d", i, len(got), err, len(sent[i]))
		}
		i++
	}
	if pings != wantPings {
		t.Errorf("%d pings, want %d", pings, wantPings)
	}
}

// upgraded is the server's end of a WebSocket over w.
func upgraded(t *testing.T, w *wire, opts *websocket.AcceptOptions) *websocket.Conn {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, "/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="}}
	ws, err := websocket.Accept(&onWire{header: http.Header{}, w: w}, r, opts)
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(-1)
	t.Cleanup(func() { ws.CloseNow() })
	return ws
}

// onWire is the answer to a handshake that is upgraded to a wire.
type onWire struct {
	header http.Header
	w      *wire
}

func (o *onWire) Header() http.Header       { return o.header }
func (*onWire) Write(b []byte) (int, error) { return len(b), nil }
func (*onWire) WriteHeader(int)             {}
func (o *onWire) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return o.w, bufio.NewReadWriter(bufio.NewReaderSize(o.w, readBuffer), bufio.NewWriterSize(o.w, writeBuffer)), nil
}

// tcpPair is both ends of a connection on loopback.
func tcpPair(t *testing.T) (near, far net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if near, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// Devices of which nothing comes have no reader; what they send then is heard at
// once, and so is their end.
func TestQuietDevicesPark(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Log("no poller here: readers wait")
		return
	}
	r := newRelay(t, Config{})
	const devices = 50
	var all []*device
	for n := range devices {
		all = append(all, r.joined(uuidOf('b', n), uuidOf('a', n), ""))
	}
	for range 3 {
		r.await("every reader to park", func() bool {
			for _, c := range r.registry.all() {
				if c.reading.Load() != readerParked {
					return false
				}
			}
			return true
		})
		for _, d := range all {
			d.send(`{"type":"ping"}`)
		}
		for _, d := range all {
			d.want("pong")
		}
	}
	for _, d := range all[:devices/2] {
		d.ws.CloseNow()
	}
	r.await("those that have gone to be let go", func() bool { return r.registry.count() == devices/2 })
	for _, c := range r.registry.all() {
		c.close(codeResumeAgain, "")
	}
	for _, d := range all[devices/2:] {
		if code := d.closed(); code != codeResumeAgain {
			t.Errorf("a parked device was closed with %d, want %d", code, codeResumeAgain)
		}
	}
}
