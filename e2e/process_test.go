package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for the next thing that must come.
const patience = 60 * time.Second

// buildDir is where the program under test lies.
var buildDir string

// binary builds the program at the first use, with the race detector if the
// tests are, and returns its path.
var binary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(buildDir, "reprise")
	args := []string{"build", "-o", path}
	if underRace() {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "reprise/cmd/reprise")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// underRace reports whether this test binary was built with the race detector.
func underRace() bool {
	info, _ := debug.ReadBuildInfo()
	for _, s := range info.Settings {
		if s.Key == "-race" {
			return s.Value == "true"
		}
	}
	return false
}

func TestMain(m *testing.M) {
	var err error
	if buildDir, err = os.MkdirTemp("", "reprise-e2e-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(buildDir)
	os.Exit(code)
}

// A process is one run of the program.
type process struct {
	cmd    *exec.Cmd
	what   string        // the command
	exited chan struct{} // closed when it has ended and its output is read

	mu     sync.Mutex
	stderr []string          // guarded by mu; lines
	stdout []string          // guarded by mu; lines
	addrs  map[string]string // guarded by mu; what listens where
	news   chan struct{}     // guarded by mu; closed and replaced at each line
}

// launch starts the program. It is killed at the latest when the test ends.
func launch(t testing.TB, args ...string) *process {
	t.Helper()
	return launchBy(t, nil, args...)
}

// launchBy starts the program by another one, which must become it.
func launchBy(t testing.TB, by []string, args ...string) *process {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatalf("building the program: %v", err)
	}
	command := append(append(slices.Clone(by), path), args...)
	p := &process{
		what: args[0], cmd: exec.Command(command[0], command[1:]...), exited: make(chan struct{}),
		addrs: make(map[string]string), news: make(chan struct{}),
	}
	p.cmd.Env = append(os.Environ(), "GORACE=halt_on_error=1")
	var read sync.WaitGroup
	pipe := func(take func(line []byte)) io.WriteCloser {
		from, to := io.Pipe()
		read.Go(func() { p.read(from, take) })
		return to
	}
	out, log := pipe(p.takeOut), pipe(p.takeLog)
	p.cmd.Stdout, p.cmd.Stderr = out, log
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("starting %v: %v", args, err)
	}
	go func() {
		p.cmd.Wait() // how it ended is in ProcessState
		out.Close()
		log.Close()
		read.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.kill()
		said := p.said()
		for _, bad := range []string{"WARNING: DATA RACE", "panic: ", "fatal error: "} {
			if strings.Contains(said, bad) {
				t.Errorf("reprise %s had a %q", args[0], bad)
			}
		}
		if t.Failed() {
			t.Logf("reprise %s said last:\n%s", args[0], said[max(0, len(said)-20_000):])
		}
	})
	return p
}

// read gives take each line that the process writes.
func (p *process) read(r io.Reader, take func(line []byte)) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.mu.Lock()
		take(lines.Bytes())
		close(p.news)
		p.news = make(chan struct{})
		p.mu.Unlock()
	}
}

func (p *process) takeOut(line []byte) { p.stdout = append(p.stdout, string(line)) }

// takeLog learns from a log line what listens where.
func (p *process) takeLog(line []byte) {
	p.stderr = append(p.stderr, string(line))
	var said struct{ Msg, What, Addr string }
	if json.Unmarshal(line, &said) == nil && said.Msg == "listening" {
		p.addrs[said.What] = said.Addr
	}
}

// await waits until done, which is called under the lock, says so. An error
// says that the process has ended before, or that it took too long.
func (p *process) await(what string, done func() bool) error {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		p.mu.Lock()
		ok, news := done(), p.news
		p.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-news:
		case <-timeout.C:
			return fmt.Errorf("no %s within %v", what, patience)
		case <-p.exited:
			p.mu.Lock()
			defer p.mu.Unlock()
			if done() {
				return nil
			}
			return fmt.Errorf("ended with %d before %s:\n%s", p.cmd.ProcessState.ExitCode(), what, strings.Join(p.stderr, "\n"))
		}
	}
}

// address waits until what listens and returns where.
func (p *process) address(t testing.TB, what string) string {
	t.Helper()
	var addr string
	if err := p.await(what, func() bool { addr = p.addrs[what]; return addr != "" }); err != nil {
		t.Fatalf("reprise %s: %v", p.what, err)
	}
	return addr
}

// printed waits until done is content with the lines on standard output.
func (p *process) printed(t testing.TB, what string, done func(lines []string) bool) {
	t.Helper()
	if err := p.await(what, func() bool { return done(p.stdout) }); err != nil {
		t.Fatalf("reprise %s: %v", p.what, err)
	}
}

// signal sends s to the process.
func (p *process) signal(s syscall.Signal) { p.cmd.Process.Signal(s) } // one that has ended needs none

// kill ends the process with SIGKILL and waits until it is gone.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.exited
}

// dump ends the process and logs what it said last, with where each goroutine was.
func (p *process) dump(t testing.TB) {
	t.Helper()
	p.signal(syscall.SIGQUIT)
	<-p.exited
	said := p.said()
	t.Logf("reprise %s hangs:\n%s", p.what, said[max(0, len(said)-200_000):])
}

// killed reports whether the process was ended by SIGKILL, and by nothing before.
func (p *process) killed() bool {
	status, _ := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return status.Signaled() && status.Signal() == syscall.SIGKILL
}

// runs lets the process run for d. It reports whether it is still running then.
func (p *process) runs(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.exited:
		return false
	}
}

// exit waits until the process has ended by itself and returns its exit code.
func (p *process) exit(t testing.TB) int {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		t.Fatalf("%v has not ended in time", p.cmd.Args)
	}
	return p.cmd.ProcessState.ExitCode()
}

// said is what the process has logged so far.
func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.stderr, "\n")
}

// within is a context for what must come while the test runs.
func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}
