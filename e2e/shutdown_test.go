package e2e

import (
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/coder/websocket"
)

// TestDrain ends a relay with SIGTERM while devices are connected: they are told
// to come back, the exit code is 0, and nothing is missing after the next start.
func TestDrain(t *testing.T) {
	t.Parallel()
	pubnub := emulator(t)
	relay := serve(t, pubnub.Addr(), "--drain", "500ms")
	run := newRun(t, relay)
	p := run.publisher(pubnub.Addr())
	var devices []*device
	var conns []*conn
	for i := range 5 {
		d := run.device(userNo(1), deviceNo(i))
		devices, conns = append(devices, d), append(conns, d.connect("latest"))
		conns[i].caughtUp()
	}
	for i := range 100 {
		p.publish(progress(userNo(1), deviceNo(9), i))
	}
	relay.proc.signal(syscall.SIGTERM)
	for i := range 20 {
		p.publish(progress(userNo(1), deviceNo(9), 100+i))
	}
	for _, c := range conns {
		c.lost()
		if c.closed != websocket.StatusServiceRestart {
			t.Errorf("a drained device is closed with %d, want 1012", c.closed)
		}
		if f := c.frames(); last(f).Type != "reconnect" {
			t.Errorf("the last frame before the close is %s, want reconnect", f[len(f)-1].Text)
		}
	}
	if got := relay.proc.exit(t); got != 0 {
		t.Errorf("exit code after SIGTERM = %d, want 0", got)
	}
	relay.start()
	for _, d := range devices {
		d.connect("cursor").caughtUp()
	}
	run.judge(pubnub.Addr())
}

// TestSecondSignal ends a relay that drains for an hour.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	pubnub := emulator(t)
	relay := serve(t, pubnub.Addr(), "--drain", "1h")
	run := newRun(t, relay)
	// The drain lasts as long as somebody is to be let go.
	var conns []*conn
	for i := range 3 {
		conns = append(conns, run.device(userNo(1), deviceNo(i)).connect("latest"))
		conns[i].caughtUp()
	}
	relay.proc.signal(syscall.SIGTERM)
	relay.await("drain", func() bool {
		status, _, body := relay.get("/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(body, `"draining"`)
	})
	relay.proc.signal(syscall.SIGTERM)
	if got := relay.proc.exit(t); got != 1 {
		t.Errorf("exit code after a second SIGTERM = %d, want 1", got)
	}
	atOnce := 0
	for _, c := range conns {
		c.lost()
		if c.closed == websocket.StatusGoingAway {
			atOnce++
		}
	}
	if atOnce < 2 { // one may have been let go before
		t.Errorf("%d of 3 devices were closed with 1001, want those that were left", atOnce)
	}
}

// TestDataDirIsLocked starts a second relay on the first one's data.
func TestDataDirIsLocked(t *testing.T) {
	t.Parallel()
	pubnub := emulator(t)
	relay := serve(t, pubnub.Addr())
	run := newRun(t, relay)
	second := launch(t, relay.args...)
	if got := second.exit(t); got != 1 {
		t.Errorf("exit code of the second = %d, want 1", got)
	}
	if said := second.said(); !strings.Contains(said, "in use by another process") && !strings.Contains(said, "locked") {
		t.Errorf("the second says %q, want that the directory is in use", said)
	}
	run.device(userNo(1), deviceNo(1)).connect("latest").caughtUp()
	run.judge(pubnub.Addr())
	if status, _, _ := relay.get("/healthz"); status != http.StatusOK {
		t.Errorf("GET /healthz of the first = %d, want 200", status)
	}
}
