package deploy

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// most is the exposure, of 100, that systemd-analyze may find in the unit.
const most = 15

func TestUnit(t *testing.T) {
	t.Parallel()
	text := string(read(t, files+"/reprise.service"))
	installed := strings.Replace(text, "/usr/local/bin/reprise", binary, 1)
	if installed == text {
		t.Fatal("the unit does not start /usr/local/bin/reprise")
	}
	unit := write(t, filepath.Join(t.TempDir(), "reprise.service"), installed)
	if code, out := run(t, "systemd-analyze", "verify", "--man=no", unit); code != 0 || strings.Contains(out, "reprise.service") {
		t.Errorf("systemd-analyze verify = %d\n%s", code, out)
	}
	code, out := run(t, "systemd-analyze", "security", "--offline=true", "--threshold="+strconv.Itoa(most), unit)
	if code != 0 {
		t.Errorf("systemd-analyze security = %d, want an exposure of %d at most\n%s", code, most, out)
	}
	t.Logf("%s", out[strings.LastIndex(strings.TrimSpace(out), "\n")+1:])

	// What these tools do not take is found.
	broken := write(t, filepath.Join(t.TempDir(), "reprise.service"), strings.Replace(installed, "ProtectSystem=strict", "ProtectSystem=mostly\nPrivateDivices=yes", 1))
	if _, out := run(t, "systemd-analyze", "verify", "--man=no", broken); !strings.Contains(out, "mostly") || !strings.Contains(out, "PrivateDivices") {
		t.Errorf("systemd-analyze verify of a broken unit said %q, want both mistakes", out)
	}

	// The time to stop is longer than a drain and its grace.
	stop := regexp.MustCompile(`(?m)^TimeoutStopSec=(\S+)$`).FindStringSubmatch(text)
	if stop == nil {
		t.Fatal("the unit has no TimeoutStopSec")
	}
	if d, err := time.ParseDuration(stop[1]); err != nil || d < 30*time.Second {
		t.Errorf("TimeoutStopSec = %v, %v, want more than the drain of 20 s, 5 s of grace and some", d, err)
	}
	startsAsUnit(t, text)
}

// startsAsUnit has the program read its settings as the unit gives them: its
// arguments, its variables, the README's file, and no credentials but those that
// are loaded.
func startsAsUnit(t *testing.T, text string) {
	t.Helper()
	dir := t.TempDir()
	for _, m := range regexp.MustCompile(`(?m)^LoadCredential=([^:]+):/etc/reprise/`).FindAllStringSubmatch(text, -1) {
		write(t, filepath.Join(dir, m[1]), "a secret of thirty-two bytes ....")
	}
	start := regexp.MustCompile(`(?m)^ExecStart=\S+ serve (.*)$`).FindStringSubmatch(text)
	if start == nil {
		t.Fatal("the unit does not start reprise serve")
	}
	file := write(t, filepath.Join(dir, "reprise.yaml"), "listen: :8080\n")
	args := strings.Fields(strings.Replace(start[1], "/etc/reprise/reprise.yaml", file, 1))
	cmd := exec.Command(binary, append([]string{"check", "--print"}, args...)...)
	cmd.Env = []string{}
	for _, m := range regexp.MustCompile(`(?m)^Environment=(.*)$`).FindAllStringSubmatch(text, -1) {
		cmd.Env = append(cmd.Env, strings.ReplaceAll(m[1], "%d", dir))
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("reprise %v: %v\n%s", cmd.Args[1:], err, out)
	}
	// An unknown variable is only warned about, and a secret is printed as hidden.
	if strings.Contains(string(out), "unknown") {
		t.Errorf("the unit has a variable that the program does not know:\n%s", out)
	}
	for _, want := range []string{"auth-hmac-secret", "pubnub-subscribe-key", "pubnub-publish-key"} {
		if !regexp.MustCompile(`(?m)^` + want + ` +\[redacted\]`).Match(out) {
			t.Errorf("the unit gives the program no %s:\n%s", want, out)
		}
	}
}
