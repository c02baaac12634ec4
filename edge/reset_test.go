package edge

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"reprise/stream"
)

// A device's end resets the connection in each phase of it: nothing is left over,
// and others are served.
func TestResetInEveryPhase(t *testing.T) {
	t.Parallel()
	r := newRelay(t, Config{TailPerUser: 4, SlowTimeout: time.Hour})
	const missed = 400 // half a megabyte of frames: more than the kernel takes
	for n := range missed {
		r.padded(uuidA, n)
	}
	r.flush()
	other := r.joined(uuidB, uuidOf('b', 1), "")
	request := "GET /ws?user_id=" + uuidA + "&device_id=" + uuidOf('a', 1) + "&since=%s HTTP/1.1\r\nHost: edge\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
	upgraded := func(tcp *net.TCPConn, since string) *bufio.Reader {
		fmt.Fprintf(tcp, request, since)
		br := bufio.NewReader(tcp)
		if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("handshake = %+v, %v, want 101", resp, err)
		}
		return br
	}
	live := func(tcp *net.TCPConn) { upTo(t, upgraded(tcp, "latest"), `"type":"caught_up"`) }
	for n, phase := range []struct {
		name    string
		arrives func(tcp *net.TCPConn) // up to the phase
	}{
		{"before a byte", func(*net.TCPConn) {}},
		{"in the request line", func(tcp *net.TCPConn) { io.WriteString(tcp, request[:20]) }},
		{"in the header", func(tcp *net.TCPConn) { io.WriteString(tcp, request[:len(request)-30]) }},
		{"behind the request", func(tcp *net.TCPConn) { fmt.Fprintf(tcp, request, "latest") }},
		{"behind a request that is refused", func(tcp *net.TCPConn) { fmt.Fprintf(tcp, request, "nonsense") }},
		{"behind the upgrade", func(tcp *net.TCPConn) { upgraded(tcp, "earliest") }},
		{"in a replay", func(tcp *net.TCPConn) { upTo(t, upgraded(tcp, "earliest"), `"n":3,`) }},
		{"in a replay that it does not take", func(tcp *net.TCPConn) {
			upgraded(tcp, "earliest")
			stands := 0 // at so many looks in a row
			r.await("the writer to stand", func() bool {
				stands++
				if cs := r.connections(uuidA); len(cs) == 0 {
					stands = 0
				} else if cs[0].wire.mu.TryLock() {
					cs[0].wire.mu.Unlock()
					stands = 0
				}
				return stands == 5
			})
		}},
		{"while live", live},
		{"while parked", func(tcp *net.TCPConn) {
			live(tcp)
			r.await("the reader to park", func() bool {
				cs := r.connections(uuidA)
				return len(cs) == 1 && (r.poller == nil || cs[0].reading.Load() == readerParked)
			})
		}},
		{"in a frame's header", func(tcp *net.TCPConn) { live(tcp); tcp.Write([]byte{final | opText}) }},
		{"in a frame", func(tcp *net.TCPConn) { live(tcp); tcp.Write(append(maskedHeader(final|opText, 100), "half"...)) }},
		{"between the frames of a message", func(tcp *net.TCPConn) { live(tcp); tcp.Write(append(maskedHeader(opText, 4), "half"...)) }},
		{"behind its close frame", func(tcp *net.TCPConn) { live(tcp); tcp.Write(append(maskedHeader(final|opClose, 2), 3, 0xe8)) }},
		{"behind what the edge closes for", func(tcp *net.TCPConn) { live(tcp); tcp.Write(maskedHeader(final|0x2, 9)) }},
		{"behind an event", func(tcp *net.TCPConn) { live(tcp); r.publish(uuidA, "", missed); r.flush() }},
	} {
		nc, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		tcp := nc.(*net.TCPConn)
		tcp.SetReadBuffer(4 << 10)
		phase.arrives(tcp)
		tcp.SetLinger(0) // what is left to send goes, and a reset comes
		tcp.Close()
		r.publish(uuidB, "", n)
		if h := other.want("event"); h.N != n {
			t.Fatalf("%s: the other device got %d, want %d", phase.name, h.N, n)
		}
		r.await(phase.name, func() bool {
			return r.Stats().ActiveConnections == 1 && r.registry.admits(2) == admitsOne && r.wheelCount() == 1 && len(r.connections(uuidA)) == 0
		})
	}
}

// upTo reads until text has come.
func upTo(t *testing.T, r io.Reader, text string) {
	t.Helper()
	var got []byte
	for b := make([]byte, 512); ; {
		n, err := r.Read(b)
		if got = append(got, b[:n]...); strings.Contains(string(got), text) {
			return
		}
		if err != nil {
			t.Fatalf("%v before %s", err, text)
		}
	}
}

// padded appends an event of more than a KiB.
func (r *relay) padded(user string, n int) {
	r.t.Helper()
	frame := fmt.Sprintf(`{"type":"event","hlc":"0000000000000000","n":%d,"pad":"%s"}`, n, strings.Repeat("x", 1200))
	ev := stream.Event{ID: fmt.Sprint("pad:", n), User: user, Frame: []byte(frame), StampAt: strings.Index(frame, "0000000000000000")}
	if err := r.writer.Append(r.t.Context(), ev); err != nil {
		r.t.Fatal(err)
	}
}
