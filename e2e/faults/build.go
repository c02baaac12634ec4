package faults

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Programs are the binaries that a cluster runs.
type Programs struct {
	Reprise string // whose wall clock is off by what the file WRONG_CLOCK says
	Nats    string
}

// What is laid over the sources of Go's package time and of the program: a wall
// clock that can be set while a process runs, in everything that is linked in. The
// monotonic clock is left alone, as a clock that jumps leaves it.
var (
	//go:embed testdata/offset.go.txt
	offsetSource []byte
	//go:embed testdata/wrongclock.go.txt
	wrongClockSource []byte
)

// nowHead is how time.Now begins.
const nowHead = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"

// Build builds the programs of the module at root into dir.
func Build(root, dir string) (Programs, error) {
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return Programs{}, fmt.Errorf("go env: %w", err)
	}
	timeDir := filepath.Join(strings.TrimSpace(string(goroot)), "src", "time")
	source, err := os.ReadFile(filepath.Join(timeDir, "time.go"))
	if err != nil {
		return Programs{}, err
	}
	if strings.Count(string(source), nowHead) != 1 {
		return Programs{}, fmt.Errorf("%s: time.Now does not begin as expected", timeDir)
	}
	source = []byte(strings.Replace(string(source), nowHead, nowHead+"\tsec, nsec = shifted(sec, nsec)\n", 1))
	replace := make(map[string]string)
	for _, f := range []struct {
		path string
		text []byte
	}{
		{filepath.Join(timeDir, "time.go"), source},
		{filepath.Join(timeDir, "offset.go"), offsetSource},
		{filepath.Join(root, "cmd", "reprise", "wrongclock.go"), wrongClockSource},
	} {
		replace[f.path] = filepath.Join(dir, filepath.Base(f.path))
		if err := os.WriteFile(replace[f.path], f.text, 0o644); err != nil {
			return Programs{}, err
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return Programs{}, err
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o644); err != nil {
		return Programs{}, err
	}
	p := Programs{Reprise: filepath.Join(dir, "reprise"), Nats: filepath.Join(dir, "nats-server")}
	for _, args := range [][]string{
		{"build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", p.Reprise, "./cmd/reprise"},
		{"build", "-o", p.Nats, "github.com/nats-io/nats-server/v2"},
	} {
		cmd := exec.Command("go", args...)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			return Programs{}, fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return p, nil
}
