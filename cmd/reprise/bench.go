package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"reprise/edge/fleet"
)

const benchAbout = `
Loads a relay that runs already: publishes through PubNub, without keys to the
emulator of reprise dev, and connects devices to url. Many users need many tokens:
they are signed with auth-hmac-secret; without it the relay must have auth none.
Events have numbers: what is lost, doubled or out of order is counted. The relay's
max-handshakes-per-address may have to be raised.`

var benchExits = exits{"all events came, once and in order, or it was stopped", "it failed, or events were lost, doubled or out of order", misuse}

// bench is one run of a benchmark against a relay that runs already.
type bench struct {
	*call
	fleet *fleet.Fleet
	http  *http.Client // publishes

	run  uint32                    // makes this run's users unlike those of others
	sent map[string]*atomic.Int64  // events published, by user; static after users
	at   map[string][]atomic.Int64 // Unix ns at which each was begun, by user; likewise
	took latencies

	figures []figure
	bad     bool // something was lost, doubled or out of order
}

// figure is one line of the result.
type figure struct {
	name  string // of the JSON member
	value any
	unit  string
}

// latencies are of events that came live.
type latencies struct {
	mu  sync.Mutex
	all []time.Duration // guarded by mu
}

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, d)
}

// take returns what was added since the last time, sorted.
func (l *latencies) take() []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.all
	l.all = nil
	slices.Sort(all)
	return all
}

func runBench(ctx context.Context, c *call, what func(context.Context, *bench) error) error {
	b := &bench{call: c, run: uuid.New().ID(), sent: make(map[string]*atomic.Int64), at: make(map[string][]atomic.Int64)}
	if err := enoughFiles(c.cfg); err != nil {
		return err
	}
	config := fleet.Config{URL: c.cfg.url, Dialing: c.cfg.dialing, OnEvent: b.heard}
	if c.cfg.authHMACSecret.isSet() {
		config.Token = func(user string) (string, error) {
			cfg := *c.cfg
			cfg.user, cfg.expiresIn = user, time.Hour
			return signToken(&cfg, time.Now())
		}
	}
	var err error
	if b.fleet, err = fleet.New(config); err != nil {
		return err
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: publishers}
	defer transport.CloseIdleConnections()
	b.http = &http.Client{Timeout: 15 * time.Second, Transport: transport}
	if err := what(ctx, b); err != nil {
		if ctx.Err() != nil {
			return nil // it was stopped
		}
		return err
	}
	return b.report()
}

// filesBeside are the descriptors that a bench needs beside its sockets.
const filesBeside = 200

// enoughFiles says how many connections the limit of open files allows, where
// that is less than is asked for.
func enoughFiles(cfg *config) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return nil // the dials will tell
	}
	if most := int(limit.Cur) - filesBeside; cfg.connections > most {
		return usage("connections: %d is above %d, which is what the limit of open files allows (ulimit -n is %d)", cfg.connections, max(0, most), limit.Cur)
	}
	return nil
}

// userID is the i-th user of this run.
func (b *bench) userID(i int) string {
	return fmt.Sprintf("%08x-be9c-4000-8000-%012x", b.run, i)
}

// devices makes the devices of users, who will have at most so many events each.
func (b *bench) devices(first, users, each, events int) (all []*fleet.Device) {
	for i := first; i < first+users; i++ {
		user := b.userID(i)
		b.sent[user] = new(atomic.Int64)
		b.at[user] = make([]atomic.Int64, events+1)
		for n := range each {
			all = append(all, fleet.NewDevice(user, fmt.Sprintf("%08x-be9c-4000-9000-%012x", n, i), ""))
		}
	}
	return all
}

// heard takes an event that a device was sent.
func (b *bench) heard(d *fleet.Device, number int, live bool) {
	if at := b.at[d.User]; live && number < len(at) {
		if began := at[number].Load(); began != 0 {
			b.took.add(time.Duration(time.Now().UnixNano() - began))
		}
	}
}

// publishers is how many publish at a time.
const publishers = 32

// benchItem and benchPublisher are in the events of a bench.
const (
	benchItem      = "be9cbe9c-be9c-4be9-8be9-be9cbe9cbe9c"
	benchPublisher = "be9cbe9c-be9c-4be9-8be9-000000000000"
)

// publish publishes the next event of a user through PubNub.
func (b *bench) publish(ctx context.Context, user string) error {
	n := b.sent[user].Add(1)
	if at := b.at[user]; int(n) < len(at) {
		at[n].Store(time.Now().UnixNano())
	}
	payload := fmt.Sprintf(`{"type":"progress_update","content_id":%q,"position_seconds":%d,"duration_seconds":7200,"timestamp":"%d","device_id":%q}`,
		benchItem, n, time.Now().UnixMilli(), benchPublisher)
	if _, err := publisherOf(b.cfg).publish(ctx, b.http, "user."+user+".sync", payload); err != nil {
		return fmt.Errorf("publish to %w", err)
	}
	return nil
}

// publishAll publishes each events of users from first on, at publish-rate; one
// user's are published one after the other.
func (b *bench) publishAll(ctx context.Context, first, users, each int, done *atomic.Int64) error {
	g, ctx := errgroup.WithContext(ctx)
	pace := rate.NewLimiter(b.cfg.publishRate, publishers)
	var next atomic.Int64
	for range publishers {
		g.Go(func() error {
			for i := int(next.Add(1)) - 1; i < users; i = int(next.Add(1)) - 1 {
				for range each {
					if err := pace.Wait(ctx); err != nil {
						return err
					}
					if err := b.publish(ctx, b.userID(first+i)); err != nil {
						return err
					}
					done.Add(1)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// flow publishes events at the rate that is set, to one user after the other, until ctx
// ends, which is no error.
func (b *bench) flow(ctx context.Context, first, users int, done *atomic.Int64) error {
	turns := make([]sync.Mutex, users) // one user's events go one after the other
	g, work := errgroup.WithContext(context.WithoutCancel(ctx))
	g.SetLimit(publishers)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	began, sent := time.Now(), 0
	for {
		for due := int(time.Since(began).Seconds() * float64(b.cfg.rate)); sent < due && ctx.Err() == nil && work.Err() == nil; sent++ {
			i := sent % users
			g.Go(func() error {
				turns[i].Lock()
				defer turns[i].Unlock()
				defer done.Add(1)
				return b.publish(work, b.userID(first+i))
			})
		}
		select {
		case <-tick.C:
		case <-work.Done():
			return g.Wait()
		case <-ctx.Done():
			return g.Wait()
		}
	}
}

// judge waits until devices have everything that was published, or nothing comes
// any more, and notes what is wrong.
func (b *bench) judge(ctx context.Context, devices []*fleet.Device) {
	published := func(user string) int { return int(b.sent[user].Load()) }
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	moved := time.Now()
	var v fleet.Verdict
	var incomplete int
	for before := -1; ; before = v.Events {
		if v, incomplete = fleet.Judge(devices, published); v.Lost == 0 {
			break
		}
		if v.Events != before {
			moved = time.Now()
		} else if waited := time.Since(moved); waited > judgeMost || waited > judgeFor && !b.comparing(ctx) {
			break
		}
		select {
		case <-tick.C:
			continue
		case <-ctx.Done():
		}
		break
	}
	b.bad = v.Bad()
	b.note("received", v.Events, "events")
	b.note("lost", v.Lost, "events")
	b.note("doubled", v.Doubled, "events")
	b.note("misordered", v.Misordered, "events")
	b.note("late", v.Late, "events, filled in from PubNub's history")
	b.note("incomplete", incomplete, "devices")
	if refused := b.fleet.Refused(); refused > 0 {
		b.note("refused_handshakes", refused, "made again")
	}
	if n, err := b.fleet.Lost(); n > 0 {
		b.note("lost_connections", n, fmt.Sprintf("the last: %v", err))
	}
}

// judgeFor is for how long nothing must have come for what has not to be lost, and
// judgeMost while the relay reads PubNub's history for what its queue has dropped.
const (
	judgeFor  = 30 * time.Second
	judgeMost = 10 * time.Minute
)

// comparing reports whether the relay says that it reads history.
func (b *bench) comparing(ctx context.Context) bool {
	response, err := b.askAdmin(ctx, http.MethodGet, "/readyz", nil)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	return err == nil && bytes.Contains(body, []byte("history_compared"))
}

func (b *bench) note(name string, value any, unit string) {
	b.figures = append(b.figures, figure{name, value, unit})
}

// noteTimes notes percentiles of times, which are sorted.
func (b *bench) noteTimes(name string, all []time.Duration) {
	if len(all) == 0 {
		return
	}
	for _, p := range []struct {
		name string
		part float64
	}{{"p50", 0.5}, {"p95", 0.95}, {"p99", 0.99}, {"max", 1}} {
		i := min(int(p.part*float64(len(all))), len(all)-1)
		b.note(name+"_ms_"+p.name, round(all[i].Seconds()*1e3), "ms")
	}
}

// round leaves three digits behind the point.
func round(v float64) float64 { return float64(int64(v*1e3+0.5)) / 1e3 }

// report prints the figures.
func (b *bench) report() error {
	if b.cfg.json {
		var line bytes.Buffer
		for i, f := range b.figures {
			value, err := json.Marshal(f.value)
			if err != nil {
				return err
			}
			fmt.Fprintf(&line, "%c%q:%s", "{,"[min(i, 1)], f.name, value)
		}
		b.printf("%s}\n", line.Bytes())
	} else {
		for _, f := range b.figures {
			b.printf("%-26s %12v  %s\n", f.name, f.value, f.unit)
		}
	}
	if b.bad {
		return fmt.Errorf("events were lost, doubled or out of order")
	}
	return nil
}

// progress shows a line that is written over again and again while work runs,
// where standard error is a terminal.
func (b *bench) progress(line func() string) (stop func()) {
	if !isTerminal(b.err) {
		return func() {}
	}
	end := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				fmt.Fprintf(b.err, "\r\x1b[K%s", line())
			case <-end:
				fmt.Fprint(b.err, "\r\x1b[K")
				return
			}
		}
	})
	return func() { close(end); writing.Wait() }
}

// environment notes where the figures come from.
func (b *bench) environment() {
	b.note("cpus", runtime.NumCPU(), "of this machine")
}
