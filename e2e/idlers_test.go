package e2e

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestIdlers has many sockets that ask for nothing, or for something as slowly as
// they can (slow loris): each is hung up on, and devices are served meanwhile.
func TestIdlers(t *testing.T) {
	t.Parallel()
	pubnub := emulator(t)
	relay := serve(t, pubnub.Addr(), "--max-connections", "4") // they are no connections
	head := "GET /ws?user_id=" + userNo(1) + "&device_id=" + deviceNo(1) + " HTTP/1.1\r\nHost: relay\r\n"
	var ended sync.WaitGroup
	for _, idler := range []struct{ name, at, slowly string }{
		{"says nothing", "", ""},
		{"sends a request line byte by byte", "", head},
		{"sends header lines without end", head, strings.Repeat("X-Slow: loris\r\n", 1000)},
		{"sends a body byte by byte", strings.Replace(head, "GET", "POST", 1) + "Content-Length: 100000\r\n\r\n", strings.Repeat("x", 1000)},
		{"stays after a refusal", head + "\r\n", ""},
	} {
		for range 20 {
			nc, err := net.Dial("tcp", relay.devices)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { nc.Close() })
			nc.SetDeadline(time.Now().Add(patience))
			io.WriteString(nc, idler.at)
			ended.Go(func() {
				if _, err := io.Copy(io.Discard, nc); err != nil && strings.Contains(err.Error(), "timeout") {
					t.Errorf("a socket that %s is open after %v, want it closed", idler.name, patience)
				}
				nc.Close()
			})
			ended.Go(func() {
				for i := range idler.slowly {
					if _, err := io.WriteString(nc, idler.slowly[i:i+1]); err != nil {
						return
					}
					time.Sleep(200 * time.Millisecond)
				}
			})
		}
	}
	run := newRun(t, relay)
	for i := range 4 {
		run.device(userNo(2), deviceNo(i)).connect("latest").caughtUp()
	}
	p := run.publisher(pubnub.Addr())
	for i := range 20 {
		p.publish(progress(userNo(2), deviceNo(9), i))
	}
	ended.Wait()
	run.judge(pubnub.Addr())
	if status, _, _ := relay.get("/readyz"); status != http.StatusOK {
		t.Errorf("GET /readyz = %d, want 200", status)
	}
}
