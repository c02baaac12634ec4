package edge

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func testWire(nc net.Conn) *wire {
	begin := time.Now()
	return &wire{Conn: nc, elapsed: func() time.Duration { return time.Since(begin) }, slow: 30 * time.Second}
}

// Batches of the writer, replies of the reader and pieces of frames of the
// library, all at once: what arrives is whole frames.
func TestWireKeepsFramesWhole(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	w := testWire(far)
	payload := func(kind byte, n int) []byte { return bytes.Repeat([]byte{kind}, n) }
	sizes := []int{0, 1, 125, 126, 300, 65535, 70000}
	const rounds = 60
	var wg sync.WaitGroup
	for _, kind := range []byte("ab") {
		wg.Go(func() {
			for n := range rounds {
				var batch []byte
				for i := range 1 + n%5 {
					batch = appendFrame(batch, opText, payload(kind, sizes[(n+i)%len(sizes)]))
				}
				if err := w.send(batch); err != nil {
					t.Errorf("send() = %v, want nil", err)
				}
			}
		})
	}
	wg.Go(func() {
		for n := range rounds {
			for frame := appendFrame(nil, opPong, payload('c', n%126)); len(frame) > 0; {
				piece := min(1+rand.IntN(7), len(frame))
				if _, err := w.Write(frame[:piece]); err != nil {
					t.Errorf("Write() = %v, want nil", err)
				}
				frame = frame[piece:]
			}
		}
	})
	go func() { wg.Wait(); far.Close() }()
	all, err := io.ReadAll(near)
	if err != nil {
		t.Fatal(err)
	}
	count := map[byte]int{}
	for len(all) > 0 {
		n, ok := frameLen(all)
		if !ok || n > len(all) {
			t.Fatalf("frameLen(%x) = %d, %v, want a frame", all[:min(len(all), 10)], n, ok)
		}
		body := all[2:n]
		switch all[1] {
		case 126:
			body = all[4:n]
		case 127:
			body = all[10:n]
		}
		if len(body) > 0 {
			count[body[0]]++
			if !bytes.Equal(body, payload(body[0], len(body))) {
				t.Fatal("a frame holds bytes of another")
			}
		}
		all = all[n:]
	}
	if count['a'] == 0 || count['a'] != count['b'] || count['c'] == 0 {
		t.Errorf("frames by sender = %v, want as many of a as of b, and some of c", count)
	}
}

// After a write that failed in the middle of a frame, only the rest of that
// frame and the leave are written: never a frame inside a frame.
func TestWireAfterASlowWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		w := testWire(far)
		two := appendFrame(appendFrame(nil, opText, []byte("first")), opText, []byte("second"))
		go near.Read(make([]byte, 3))
		if err := w.send(two); err != errSlow {
			t.Errorf("send() to who reads 3 bytes = %v, want errSlow", err)
		}
		if err := w.send(two); err != errSlow {
			t.Errorf("send() after that = %v, want errSlow", err)
		}
		if n, err := w.Write(two); n != len(two) || err != nil {
			t.Errorf("Write() of the library after that = %d, %v, want it swallowed", n, err)
		}
		w.hurry()
		rest := make(chan []byte)
		go func() { b, _ := io.ReadAll(near); rest <- b }()
		if err := w.sendLast(appendFrame(nil, opClose, appendClose(nil, codeSlow, ""))); err != nil {
			t.Errorf("sendLast() = %v, want nil", err)
		}
		if err := w.send(two); err != errClosed {
			t.Errorf("send() after the close frame = %v, want errClosed", err)
		}
		if _, err := w.Read(make([]byte, 1)); err == nil {
			t.Error("Read() a second after the close frame = nil, want a timeout")
		}
		far.Close()
		if got, want := <-rest, append([]byte("irst"), appendFrame(nil, opClose, []byte{0x0f, 0xa2})...); !bytes.Equal(got, want) {
			t.Errorf("written after the slow write = %q, want %q", got, want)
		}
	})
}

// hurry ends a write that is under way.
func TestWireHurry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		defer far.Close()
		w := testWire(far)
		ended := make(chan error)
		go func() { ended <- w.send(appendFrame(nil, opText, []byte("x"))) }()
		synctest.Wait()
		begin := time.Now()
		w.hurry()
		if err := <-ended; err != errSlow || time.Since(begin) != partingTime {
			t.Errorf("send() = %v after %v, want errSlow after %v", err, time.Since(begin), partingTime)
		}
		if err := w.sendLast(nil); err != nil && !errors.Is(err, errSlow) {
			t.Errorf("sendLast() = %v", err)
		}
	})
}

// What net/http read before the upgrade is not lost.
func TestWireServesEarlyBytes(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	defer near.Close()
	w := testWire(far)
	w.early = []byte("early")
	go func() { near.Write([]byte("late")); near.Close() }()
	got, err := io.ReadAll(w)
	if err != nil || string(got) != "earlylate" {
		t.Errorf("ReadAll() = %q, %v, want earlylate", got, err)
	}
}

// A device that sends its first frame with the handshake is heard.
func TestFrameInTheHandshakesPacket(t *testing.T) {
	t.Parallel()
	r := newRelay(t, Config{})
	d := net.Dialer{}
	nc, err := d.DialContext(context.Background(), "tcp", r.url[len("http://"):])
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(patience))
	ping := append(maskedHeader(final|opText, 15), `{"type":"ping"}`...)
	both := append([]byte("GET /ws?since=latest&user_id="+uuidA+"&device_id="+uuidB+" HTTP/1.1\r\nHost: edge\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"), ping...)
	if _, err := nc.Write(both); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for b := make([]byte, 4096); !bytes.Contains(got, []byte(`{"type":"pong"}`)); {
		n, err := nc.Read(b)
		if err != nil {
			t.Fatalf("Read() = %v after %q, want a pong", err, got)
		}
		got = append(got, b[:n]...)
	}
	if i := bytes.Index(got, []byte(`{"type":"welcome"`)); i < 0 || i > bytes.Index(got, []byte(`{"type":"pong"}`)) {
		t.Errorf("answers = %q, want the welcome before the pong", got)
	}
}
