package peers

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	binaries = flag.String("bin", "", "where the programs are built, and kept; \"\" is nowhere")
	idle     = flag.Int("idle", 5000, "idle connections")
	users    = flag.Int("users", 1000, "users in a storm")
	missed   = flag.Int("missed", 20, "events that each misses")
	depth    = flag.Int("depth", 5000, "events that one device misses")
)

// built builds a program of another module.
func built(b *testing.B, dir, module, pkg string) string {
	b.Helper()
	name := filepath.Join(dir, filepath.Base(strings.TrimSuffix(pkg, "/v6")))
	if _, err := os.Stat(name); err == nil {
		return name
	}
	scratch := b.TempDir()
	for _, args := range [][]string{{"mod", "init", "scratch"}, {"get", pkg + module[strings.Index(module, "@"):]}, {"build", "-o", name, pkg}} {
		c := exec.Command("go", args...)
		c.Dir, c.Env = scratch, append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
		if out, err := c.CombinedOutput(); err != nil {
			b.Fatalf("go %v: %v\n%s", args, err, out)
		}
	}
	return name
}

// ours builds this relay.
func ours(b testing.TB, dir string) string {
	b.Helper()
	dir, err := filepath.Abs(dir) // it is built from elsewhere
	if err != nil {
		b.Fatal(err)
	}
	name := filepath.Join(dir, "reprise")
	c := exec.Command("go", "build", "-o", name, "./cmd/reprise")
	c.Dir = filepath.Join("..", "..")
	if out, err := c.CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, out)
	}
	return name
}

// TestReprise is the whole work, little of it, done by this relay: it loses nothing.
func TestReprise(t *testing.T) {
	r := &reprise{program: ours(t, t.TempDir())}
	got := measure(t, r, work{idle: 20, users: 10, missed: 5, depth: 600})
	if got.lost+got.doubled+got.told+got.deepLost+got.killLost > 0 || got.deepTold || got.killTold {
		t.Errorf("%+v, want nothing lost, and nobody told so", got)
	}
}

// BenchmarkPeers does the same work with each relay, and prints a table.
func BenchmarkPeers(b *testing.B) {
	dir := *binaries
	if dir == "" {
		dir = b.TempDir()
	}
	relays := []struct {
		name string
		relay
	}{
		{"Reprise", &reprise{program: ours(b, dir)}},
		{"Centrifugo 6.9.1, memory", &centrifugo{program: built(b, dir, "github.com/centrifugal/centrifugo/v6@v6.9.1", "github.com/centrifugal/centrifugo/v6")}},
		{"Mercure 0.20.0, Bolt", &mercure{program: built(b, dir, "github.com/dunglas/mercure@v0.20.0", "github.com/dunglas/mercure/cmd/mercure")}},
	}
	if redis, err := exec.LookPath("redis-server"); err == nil {
		relays = append(relays[:2:2], append([]struct {
			name string
			relay
		}{{"Centrifugo 6.9.1, Redis", &centrifugo{program: filepath.Join(dir, "centrifugo"), redis: redis}}}, relays[2:]...)...)
	}
	rows := []string{
		"|", "| ---",
		fmt.Sprintf("| %d idle connections: KiB each", *idle), "| making one: CPU µs",
		fmt.Sprintf("| %d devices that missed %d come back at once: the last has all after", *users, *missed), "| CPU µs a resume", "| events lost, come twice",
		fmt.Sprintf("| a device that missed %d: it has all after", *depth), "| events lost",
		"| the server is killed while a device is away: events lost",
	}
	for _, r := range relays {
		b.Run(r.name, func(b *testing.B) {
			for b.Loop() {
				m := measure(b, r.relay, work{*idle, *users, *missed, *depth})
				b.ReportMetric(m.memory/1024, "KiB/conn")
				b.ReportMetric(m.storm.Seconds(), "s-storm")
				b.ReportMetric(float64(m.resume.Microseconds()), "µs-cpu/resume")
				b.ReportMetric(float64(m.lost+m.deepLost+m.killLost), "lost")
				for i, cell := range []string{
					r.name, "---:",
					fmt.Sprintf("%.0f", m.memory/1024), fmt.Sprint(m.connect.Microseconds()),
					fmt.Sprintf("%.2f s", m.storm.Seconds()), fmt.Sprint(m.resume.Microseconds()), fmt.Sprintf("%s, %d", lost(m.lost, m.told > 0), m.doubled),
					fmt.Sprintf("%.2f s", m.deep.Seconds()), lost(m.deepLost, m.deepTold),
					lost(m.killLost, m.killTold),
				} {
					rows[i] += " | " + cell
				}
			}
			b.ReportMetric(0, "ns/op")
		})
	}
	fmt.Println(strings.Join(rows, " |\n") + " |")
}

// lost says how many events are, and whether devices were told.
func lost(n int, told bool) string {
	switch {
	case n > 0 && told:
		return fmt.Sprint(n, ", and it says so")
	case n > 0:
		return fmt.Sprint(n, ", silently")
	}
	return "0"
}

// work is how much of it is done.
type work struct{ idle, users, missed, depth int }

// measured is what came of it.
type measured struct {
	memory              float64 // bytes a connection
	connect             time.Duration
	storm, resume       time.Duration
	lost, doubled, told int
	deep                time.Duration
	deepLost            int
	deepTold            bool
	killLost            int
	killTold            bool
}

// measure does all the work with r.
func measure(b testing.TB, r relay, w work) (m measured) {
	dir := b.TempDir()
	processes := r.start(b, dir)
	numbers := 0 // of devices so far
	fresh := func(user int) *device {
		numbers++
		return &device{user: user, name: fmt.Sprintf("dddddddd-dddd-4ddd-8ddd-%012x", numbers), missing: make(map[int]bool)}
	}
	all := func(devices []*device, do func(*device) error) {
		b.Helper()
		if err := parallel(devices, do); err != nil {
			b.Fatal(err)
		}
	}
	connect := func(d *device) (err error) {
		d.conn, err = r.connect(d)
		return err
	}
	cut := func(d *device) error { d.conn.Close(); return nil } // whatever it says: it is gone
	closing := func(devices []*device) { b.Cleanup(func() { _ = parallel(devices, cut) }) }

	// Idle.
	memory, cpu := resident(processes), cpuTime(processes)
	var idlers []*device
	for n := range w.idle {
		idlers = append(idlers, fresh(1_000_000+n))
	}
	all(idlers, connect)
	time.Sleep(3 * time.Second)
	m.memory = float64(resident(processes)-memory) / float64(w.idle)
	m.connect = (cpuTime(processes) - cpu) / time.Duration(w.idle)
	all(idlers, cut)

	// A storm. Each user has one who stays, and tells when all is there.
	var stay, leave []*device
	for n := range w.users {
		stay, leave = append(stay, fresh(n)), append(leave, fresh(n))
	}
	all(append(stay, leave...), connect)
	closing(stay)
	all(stay, func(d *device) error { return r.publish(d.user, 1) })
	all(append(stay, leave...), func(d *device) error { return arrives(d, 1) })
	all(leave, cut)
	time.Sleep(time.Second)
	all(stay, func(d *device) error {
		for n := range w.missed {
			if err := r.publish(d.user, 2+n); err != nil {
				return err
			}
		}
		return arrives(d, 1+w.missed)
	})
	time.Sleep(2 * time.Second)
	cpu = cpuTime(processes)
	began := time.Now()
	var mu sync.Mutex
	all(leave, func(d *device) error {
		if err := connect(d); err != nil {
			return err
		}
		last := d.await(1 + w.missed)
		mu.Lock()
		m.storm = max(m.storm, last.Sub(began))
		mu.Unlock()
		return nil
	})
	closing(leave)
	m.resume = (cpuTime(processes) - cpu) / time.Duration(w.users)
	for _, d := range leave {
		m.lost += d.lost(1 + w.missed)
		m.doubled += d.doubled
		if d.told {
			m.told++
		}
	}

	// Depth.
	deep, witness := fresh(2_000_000), fresh(2_000_000)
	pair := []*device{deep, witness}
	all(pair, connect)
	all(pair[:1], func(d *device) error { return r.publish(d.user, 1) })
	all(pair, func(d *device) error { return arrives(d, 1) })
	all(pair[:1], cut)
	for n := 2; n <= w.depth+1; n++ {
		if err := r.publish(deep.user, n); err != nil {
			b.Fatal(err)
		}
	}
	all(pair[1:], func(d *device) error { return arrives(d, w.depth+1) })
	began = time.Now()
	all(pair[:1], connect)
	m.deep = deep.await(w.depth + 1).Sub(began)
	m.deepLost, m.deepTold = deep.lost(w.depth+1), deep.told
	all(pair, cut)

	// A kill.
	killed, other := fresh(3_000_000), fresh(3_000_000)
	pair = []*device{killed, other}
	all(pair, connect)
	all(pair[:1], func(d *device) error { return r.publish(d.user, 1) })
	all(pair, func(d *device) error { return arrives(d, 1) })
	all(pair[:1], cut)
	for n := range w.missed {
		if err := r.publish(killed.user, 2+n); err != nil {
			b.Fatal(err)
		}
	}
	all(pair[1:], func(d *device) error { return arrives(d, 1+w.missed) })
	server := processes[len(processes)-1]
	server.Process.Kill()
	server.Wait()
	r.start(b, dir)
	all(pair[:1], connect)
	killed.await(1 + w.missed)
	m.killLost, m.killTold = killed.lost(1+w.missed), killed.told
	all(pair[:1], cut)
	return m
}

// arrives waits for a number that must come.
func arrives(d *device, n int) error {
	d.await(n)
	if lost := d.lost(n); lost > 0 {
		return fmt.Errorf("user %d: %d of %d events do not come to who is there", d.user, lost, n)
	}
	return nil
}

// atOnce is how many handshakes are under way at a time.
const atOnce = 256

func parallel(devices []*device, do func(*device) error) (err error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	var all sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for _, d := range devices {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			if ctx.Err() == nil {
				if err := do(d); err != nil {
					cancel(err)
				}
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// resident is the memory of processes in bytes.
func resident(processes []*exec.Cmd) (bytes int64) {
	for _, p := range processes {
		bytes += status(p.Process.Pid, "VmRSS:") << 10
	}
	return bytes
}

func status(pid int, field string) int64 {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == field {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n
		}
	}
	return 0
}

// cpuTime is what processes have used so far.
func cpuTime(processes []*exec.Cmd) (used time.Duration) {
	for _, p := range processes {
		text, err := os.ReadFile("/proc/" + strconv.Itoa(p.Process.Pid) + "/stat")
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		f := strings.Fields(rest)
		user, _ := strconv.ParseInt(f[11], 10, 64)
		system, _ := strconv.ParseInt(f[12], 10, 64)
		used += time.Duration(user+system) * 10 * time.Millisecond
	}
	return used
}
