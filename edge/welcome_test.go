package edge

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestNothingComesBeforeTheWelcome sends a frame right behind the handshake, in one
// piece with it: the answer to it comes after the welcome.
func TestNothingComesBeforeTheWelcome(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := play(t, Config{})
		for n := range 300 {
			nc, err := p.pipes.dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			r := &raw{t: t, nc: nc, r: bufio.NewReader(nc)}
			const eager = `{"type":"ping"}`
			go io.WriteString(nc, "GET /ws?user_id="+uuidA+"&device_id="+uuidOf('a', n)+"&since=latest HTTP/1.1\r\nHost: edge\r\nConnection: Upgrade\r\n"+
				"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"+string(maskedHeader(final|opText, len(eager)))+eager)
			if resp, err := http.ReadResponse(r.r, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
				t.Fatalf("handshake = %+v, %v, want 101", resp, err)
			}
			if _, first := r.frame(); !strings.HasPrefix(string(first), `{"type":"welcome",`) {
				t.Fatalf("connection %d: the first frame is %s, want the welcome", n, first)
			}
			nc.Close()
		}
	})
}
