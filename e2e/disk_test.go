package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// smallDisk starts a relay on a disk of its own of 64 MiB, in a mount namespace,
// and returns the disk's directory as this process sees it.
func smallDisk(t *testing.T, origin string, args ...string) (r *relay, dir string) {
	t.Helper()
	data := t.TempDir()
	by := []string{"unshare", "-m"}
	if os.Geteuid() != 0 {
		by = []string{"unshare", "-rm"}
	}
	r = &relay{t: t, by: append(by, "sh", "-c", `mount -t tmpfs -o size=64m tmpfs "$0" && exec "$@"`, data),
		args: append([]string{"serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir", data, "--auth", "none",
			"--pubnub-subscribe-key", "demo", "--pubnub-publish-key", "demo", "--pubnub-origin", origin, "--pubnub-tls=false",
			"--log-format", "json", "--data-reserve", "16MiB"}, args...)}
	r.start()
	r.awaitPoll()
	return r, filepath.Join("/proc", fmt.Sprint(r.proc.cmd.Process.Pid), "root", data)
}

// fillDisk writes a file until only so much is left on the disk; 0 is until nothing
// more can be written.
func fillDisk(t *testing.T, dir string, leave int64) (ballast string) {
	t.Helper()
	ballast = filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	chunk := make([]byte, 64<<10)
	for {
		var s syscall.Statfs_t
		if err := syscall.Statfs(dir, &s); err != nil {
			t.Fatal(err)
		}
		if leave > 0 && int64(s.Bavail)*s.Bsize <= leave {
			return ballast
		}
		if _, err := f.Write(chunk); errors.Is(err, syscall.ENOSPC) {
			return ballast
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// warned waits until /readyz, which must stay good, warns of what or does not.
func (r *relay) warned(what string, is bool) {
	r.t.Helper()
	r.await(fmt.Sprintf("the warning %s: %v", what, is), func() bool {
		response, err := http.Get("http://" + r.admin + "/readyz")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK {
			r.t.Errorf("GET /readyz = %d %s, %v, want 200", response.StatusCode, body, err)
		}
		return strings.Contains(string(body), `"`+what+`"`) == is
	})
}

// deviceWith connects a device of user, publishes n events and waits until it has
// them.
func (r *run) deviceWith(p *publisher, user string, n int) *conn {
	r.t.Helper()
	c := r.device(user, deviceNo(1)).connect("latest")
	c.caughtUp()
	for i := range n {
		p.publish(notice(user, fmt.Sprint("before ", i)))
	}
	c.await("what was published before", notice(user, fmt.Sprint("before ", n-1)).arrived())
	return c
}

// TestDiskFills fills the disk under a relay up to its reserve. The bridge takes
// nothing more, the edge goes on, and with room all that was published comes.
func TestDiskFills(t *testing.T) {
	t.Parallel()
	pubnub := emulator(t)
	relay, dir := smallDisk(t, pubnub.Addr())
	run := newRun(t, relay)
	p := run.publisher(pubnub.Addr())
	user := userNo(1)
	before := run.deviceWith(p, user, 100)
	run.awaitLog(user, 100)

	ballast := fillDisk(t, dir, 8<<20)
	relay.warned("disk_full", true)
	for n := range 50 {
		p.publish(notice(user, fmt.Sprint("meanwhile ", n)))
	}
	// The edge serves who comes, and says to who sends that there is no room.
	during := run.device(user, deviceNo(2)).connect("earliest")
	if got := during.caughtUp(); got.Replayed != 100 {
		t.Errorf("a device that came while the disk was full had %d events replayed, want 100", got.Replayed)
	}
	during.send(progressUpdate(1))
	if answer := during.answered(1); !strings.Contains(answer, `"outbox_full"`) || !strings.Contains(answer, `"temporary":true`) {
		t.Errorf("the answer to an update is %s, want outbox_full, for now", answer)
	}
	if n := len(relay.log(user)); n > 101 {
		t.Errorf("the log has %d events, want no more than one that was on its way", n)
	}

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	relay.warned("disk_full", false)
	for _, c := range []*conn{before, during} {
		c.await("what was published meanwhile", notice(user, "meanwhile 49").arrived())
	}
	run.judge(pubnub.Addr())
}

// TestDiskFullToTheLastByte has somebody else fill the disk at one go, so that
// what the relay writes fails: its events, or, when the reserve kept those away in
// time, only its leases. With room it goes on, without a restart by anybody, and
// what it had not stored is asked of PubNub again.
func TestDiskFullToTheLastByte(t *testing.T) {
	t.Parallel()
	for name, while := range map[string]func(publish func()){
		"while events come": func(publish func()) { publish() },
		"while none come":   func(func()) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pubnub := emulator(t)
			relay, dir := smallDisk(t, pubnub.Addr())
			run := newRun(t, relay)
			p := run.publisher(pubnub.Addr())
			user := userNo(1)
			run.deviceWith(p, user, 20)
			ballast := fillDisk(t, dir, 0)
			publish := func() {
				for n := range 50 {
					p.publish(notice(user, fmt.Sprint("meanwhile ", n)))
				}
			}
			while(publish)
			relay.warned("disk_full", true)
			// By now the server has met the full disk, if only with a lease.
			relay.await("the server's complaint", func() bool { return strings.Contains(relay.proc.said(), "no space left on device") })
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
			relay.warned("disk_full", false)
			if name == "while none come" {
				publish()
			}
			late := run.device(user, deviceNo(2)).connect("earliest")
			late.await("what was published meanwhile", notice(user, "meanwhile 49").arrived())
			for n := range 10 {
				p.publish(notice(user, fmt.Sprint("after ", n)))
			}
			late.await("what was published after", notice(user, "after 9").arrived())
			if n := len(relay.log(user)); n != 80 {
				t.Errorf("the log has %d events, want 80, each once", n)
			}
		})
	}
}
