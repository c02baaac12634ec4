package deploy

import (
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
	// The settings are ones that the program takes.
	for _, m := range regexp.MustCompile(`(?m)^Environment=(REPRISE_\w+)=`).FindAllStringSubmatch(text, -1) {
		if _, help := run(t, binary, "help", "serve"); !strings.Contains(help, strings.TrimSuffix(m[1], "_FILE")) {
			t.Errorf("the unit sets %s, which reprise serve does not know", m[1])
		}
	}
}
