package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A Process is a program of the cluster over all its starts. Its output goes to a
// file.
type Process struct {
	// static after construction
	Name  string
	log   string
	args  []string
	env   []string
	ready string // URL that answers 200 once it serves

	// busy is held by who does something to the process that it has to come back
	// from: what happens to one process happens in turn.
	busy sync.Mutex

	mu     sync.Mutex
	cmd    *exec.Cmd     // guarded by mu
	exited chan struct{} // guarded by mu; closed when cmd has ended
	wanted bool          // guarded by mu: it must not end by itself
	early  error         // guarded by mu: it did
}

// start starts the program, and does not wait until it serves.
func (p *Process) start() error {
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(os.Environ(), p.env...)
	// In the group of the harness it would be continued, if it was paused, when who began
	// the harness ends and leaves the group an orphan.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", p.Name, err)
	}
	exited := make(chan struct{})
	p.mu.Lock()
	p.cmd, p.exited, p.wanted = cmd, exited, true
	p.mu.Unlock()
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.cmd == cmd && p.wanted {
			p.early = fmt.Errorf("%s ended by itself: %v", p.Name, err)
		}
		close(exited)
	}()
	return nil
}

// Signal sends s to the process.
func (p *Process) Signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		p.cmd.Process.Signal(s) // one that has ended needs none
	}
}

// stop ends the process by s, SIGKILL if that takes too long, and waits until it
// is gone.
func (p *Process) stop(s syscall.Signal) (how error) {
	p.mu.Lock()
	cmd, exited := p.cmd, p.exited
	p.wanted = false
	p.mu.Unlock()
	if cmd == nil {
		return nil
	}
	cmd.Process.Signal(syscall.SIGCONT)
	cmd.Process.Signal(s)
	select {
	case <-exited:
	case <-time.After(30 * time.Second):
		how = fmt.Errorf("%s did not end within 30 s of %v: what it hung at is in its log", p.Name, s)
		cmd.Process.Signal(syscall.SIGQUIT)
		<-exited
	}
	return how
}

// endedEarly says whether the process has ended without having been told to.
func (p *Process) endedEarly() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.early
}

// awaitReady waits until the process serves.
func (p *Process) awaitReady(ctx context.Context) error { return p.await(ctx, p.ready) }

// awaitWhole waits until a NATS server has what it has to have of every stream and
// consumer, as an operator does before the next one is taken down.
func (p *Process) awaitWhole(ctx context.Context) error { return p.await(ctx, p.whole()) }

func (p *Process) isWhole(ctx context.Context) bool { return status(ctx, p.whole()) == http.StatusOK }

func (p *Process) whole() string { return strings.TrimSuffix(p.ready, jsEnabledOnly) }

func (p *Process) await(ctx context.Context, url string) error {
	for {
		if status(ctx, url) == http.StatusOK {
			return nil
		}
		if err := p.endedEarly(); err != nil {
			return err
		}
		if !sleep(ctx, 50*time.Millisecond) {
			return fmt.Errorf("%s is not ready: %w", p.Name, context.Cause(ctx))
		}
	}
}

// jsEnabledOnly has a NATS server not look at its streams and consumers.
const jsEnabledOnly = "?js-enabled-only=true"

// status asks url; 0 is no answer within two seconds.
func status(ctx context.Context, url string) int {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// metric is the sum of a metric's series, as the process itself tells.
func metric(ctx context.Context, p *Process, name string) (sum float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(p.ready, "/readyz")+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	found := false
	for line := range strings.Lines(string(page)) {
		line = strings.TrimSpace(line)
		at := strings.LastIndexByte(line, ' ')
		if base, _, _ := strings.Cut(line[:max(at, 0)], "{"); base != name {
			continue
		}
		n, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", line, err)
		}
		sum, found = sum+n, true
	}
	if !found {
		return 0, fmt.Errorf("%s has no metric %s", p.Name, name)
	}
	return sum, nil
}

// said looks for what no process may say.
func (p *Process) said() error {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err
	}
	for _, bad := range []string{"WARNING: DATA RACE", "panic: ", "fatal error: "} {
		if i := bytes.Index(text, []byte(bad)); i >= 0 {
			return errors.New(p.Name + " said: " + string(text[i:min(len(text), i+2000)]))
		}
	}
	return nil
}

// sleep waits for d. It is false when ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
