package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"reprise/bridge/pubnubtest"
	"reprise/e2e"
)

// Load is how many there are, and how much they do.
type Load struct {
	Users, DevicesEach int
	PerSecond          int // events from publishers; devices send some of their own
}

// Usual is the load of the fault runs.
var Usual = Load{Users: 60, DevicesEach: 4, PerSecond: 40}

// caughtUpWithin is how long after the last heal the last device may be behind.
const caughtUpWithin = 30 * time.Second

// A Run lets a Schedule happen to a cluster under load.
type Run struct {
	// static after construction
	Schedule
	load    Load
	cluster *Cluster
	devices []*device
	log     func(format string, args ...any)
	backups map[int]backup // by shard, from before the first act
	clocks  [bridges]sync.Mutex

	others sync.RWMutex // held for writing by who can bear no fault beside it

	incomplete atomic.Int64 // welcomes that were not complete
	mended     atomic.Int64 // NATS servers that were started anew after a full disk
	lively     atomic.Bool  // devices leave by their own will, and send updates

	// guarded by strainMu
	strainMu sync.Mutex
	strains  map[*Link]int // how many acts are at it

	// guarded by mu
	mu        sync.Mutex
	publishes []*e2e.Publish
	eras      []era // that have ended, by shard and time
	faults    []string
	befallen  map[Kind]int
}

// An era is what a shard's log was until a backup was put in its place.
type era struct {
	shard  int
	last   string // stamp of the backup's last record
	logs   map[string][]e2e.Entry
	newest string          // stamp of the last record that was there
	gap    string          // and of the last gap that was noted; "" is none
	stored map[string]bool // events that the backup does not have, by user and frame with a blank stamp
	from   int64           // when the restore began, Unix ns
	until  int64           // when the backup was in its place
}

// A Report says what a run was and what was found.
type Report struct {
	Seed       uint64
	Faults     map[Kind]int // those that met something
	Lost       bool         // a NATS server was lost for good at the end
	Events     int
	Resumes    int           // connections that began with a cursor and were welcomed
	Mended     int64         // NATS servers that were started anew after a full disk
	Incomplete int64         // welcomes that were not complete
	CaughtUp   time.Duration // after the last heal
	Wrong      []string
}

// note is something that is worth a line in the log of the run.
func (r *Run) note(format string, args ...any) { r.log(format, args...) }

// wrong notes a broken promise.
func (r *Run) wrong(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, fmt.Sprintf(format, args...))
}

// Do starts a cluster in dir, lets s happen to it, and judges. Whatever goes wrong is
// in the report. The error says that the harness itself could not go on.
func Do(ctx context.Context, programs Programs, dir string, s Schedule, load Load, log func(format string, args ...any)) (Report, error) {
	r := &Run{
		Schedule: s, load: load, log: log, strains: make(map[*Link]int), backups: make(map[int]backup),
		befallen: make(map[Kind]int),
	}
	report := Report{Seed: s.Seed, Faults: r.befallen}
	queue := 100_000
	if s.ShortQueue {
		queue = 0 // as PubNub's
	}
	starting, cancel := context.WithTimeout(ctx, patience)
	shape := Whole
	shape.Forgetful = true
	c, err := Start(starting, programs, dir, shape, pubnubtest.Config{QueueSize: queue})
	cancel()
	defer c.Close()
	if err != nil {
		return report, fmt.Errorf("starting the cluster: %w", err)
	}
	r.cluster = c
	err = r.run(ctx, &report)
	r.mu.Lock()
	report.Wrong = append(report.Wrong, r.faults...)
	r.mu.Unlock()
	for _, p := range c.all() {
		for _, err := range []error{p.endedEarly(), p.said()} {
			if err != nil {
				report.Wrong = append(report.Wrong, err.Error())
			}
		}
	}
	report.Incomplete, report.Mended = r.incomplete.Load(), r.mended.Load()
	return report, err
}

func (r *Run) run(ctx context.Context, report *Report) error {
	ctx, cancel := context.WithCancel(ctx)
	var everybody sync.WaitGroup
	defer everybody.Wait()
	defer cancel()
	// Whom the log does not know when PubNub drops an event nobody can ask for.
	for u := range r.load.Users {
		r.publish(userNo(u), "hello "+strconv.Itoa(u))
	}
	for u := range r.load.Users {
		for i := range r.load.DevicesEach {
			d := newDevice(r, userNo(u), deviceNo(u*r.load.DevicesEach+i))
			d.echo = i%2 == 0
			r.devices = append(r.devices, d)
			everybody.Go(func() { d.live(ctx) })
		}
	}
	if err := r.settle(ctx); err != nil {
		return fmt.Errorf("before the first fault: %w", err)
	}
	for _, a := range r.Acts {
		if shard := a.A % shards; a.Kind == RestoreBackup {
			b, err := r.cluster.takeBackup(ctx, eventsStream(shard))
			if err != nil {
				return err
			}
			r.backups[shard] = b
		}
	}

	r.lively.Store(true)
	publishing, stop := context.WithCancel(ctx)
	defer stop()
	var flow sync.WaitGroup
	flow.Go(func() { r.keepPublishing(publishing) })
	if err := r.suffer(ctx); err != nil {
		return err
	}
	if err := r.lose(ctx); err != nil {
		return err
	}
	report.Lost = r.Lost > 0
	healed := time.Now()
	stop()
	flow.Wait()
	r.lively.Store(false)
	for u := range r.load.Users {
		r.publish(userNo(u), "the end "+strconv.Itoa(u))
	}
	if err := r.settle(ctx); err != nil {
		r.wrong("not caught up within %v of the last heal: %v", caughtUpWithin, err)
	}
	report.CaughtUp = time.Since(healed)
	r.useful(ctx)
	report.Events = len(r.publishes)
	return r.judge(ctx, report)
}

// lose kills the NATS server that is to be lost for good, once all have had everything
// for five seconds: of three, two may not be missing at a time, and a replica that
// cannot catch up (README, "On a cluster") looks whole between two attempts.
func (r *Run) lose(ctx context.Context) error {
	if r.Lost == 0 {
		return nil
	}
	whole, cancel := context.WithTimeout(ctx, patience/2)
	defer cancel()
	for since := time.Now(); time.Since(since) < 5*time.Second; {
		for _, p := range r.cluster.Nodes {
			if p.isWhole(whole) {
				continue
			}
			since = time.Now()
			if err := p.awaitWhole(whole); err != nil {
				r.note("no NATS server is lost for good: %v", err)
				r.Lost = 0
				return ctx.Err()
			}
		}
		sleep(whole, 50*time.Millisecond)
	}
	return r.cluster.Nodes[r.Lost-1].stop(syscall.SIGKILL)
}

// suffer lets all acts happen, each at its time, and returns when all are healed.
func (r *Run) suffer(ctx context.Context) error {
	began := time.Now()
	var all sync.WaitGroup
	errs := make(chan error, len(r.Acts))
	for _, a := range r.Acts {
		all.Go(func() {
			sleep(ctx, time.Until(began.Add(a.At)))
			switch err := r.befall(ctx, a); {
			case errors.Is(err, errMissed):
				r.note("%s met nothing", a.Kind)
			case err != nil:
				errs <- fmt.Errorf("%s: %w", a.Kind, err)
			default:
				r.mu.Lock()
				r.befallen[a.Kind]++
				r.mu.Unlock()
			}
		})
	}
	all.Wait()
	close(errs)
	var found []error
	for err := range errs {
		found = append(found, err)
	}
	return errors.Join(found...)
}

// publisher is who publishes something, as far as its order is to be kept.
func (r *Run) publisher(name string) string {
	if !r.ShortQueue {
		return name
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return name + " " + strconv.Itoa(len(r.publishes)) // what PubNub's queue drops comes later
}

func (r *Run) record(p *e2e.Publish) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.publishes = append(r.publishes, p)
}

// confirm notes that p must become an event.
func (r *Run) confirm(p *e2e.Publish, timetoken string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p.Timetoken = timetoken
}

// publish publishes a notification.
func (r *Run) publish(user, text string) {
	channel := "user." + user + ".notifications"
	p := &e2e.Publish{User: user, Publisher: r.publisher("of " + user), Channel: channel, Fate: e2e.Event, Sent: time.Now().UnixNano(),
		Frame: `{"type":"notification","hlc":"` + noStamp + `","data":{"text":"` + text + `"}}`}
	r.record(p)
	r.confirm(p, strconv.FormatInt(r.cluster.PubNub.Publish(channel, []byte(`{"text":"`+text+`"}`)), 10))
}

func (r *Run) keepPublishing(ctx context.Context) {
	tick := time.NewTicker(time.Second / time.Duration(r.load.PerSecond))
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.publish(userNo(rand.IntN(r.load.Users)), strconv.Itoa(n))
		}
	}
}

// settle waits until the log has what was confirmed, and every device is connected
// and has been sent what the log has.
func (r *Run) settle(ctx context.Context) (last error) {
	ctx, cancel := context.WithTimeout(ctx, caughtUpWithin)
	defer cancel()
	for n := 1; ; n++ {
		if last = r.behind(ctx); last == nil || !sleep(ctx, 250*time.Millisecond) {
			return last
		}
		if n%16 == 0 {
			r.note("not yet: %v", last)
		}
	}
}

// behind says what is not yet where it belongs.
func (r *Run) behind(ctx context.Context) error {
	records, err := r.cluster.records(ctx)
	if err != nil {
		return err
	}
	return r.behindOn(records)
}

// behindOn says what of the log's records is not yet where it belongs, and what is not
// in them.
func (r *Run) behindOn(records []e2e.Record) error {
	logs := e2e.LogsOf(records)
	stored := make(map[string]bool)
	for user, log := range logs {
		for _, e := range log {
			stored[user+e2e.Blank(e.Frame)] = true
		}
	}
	missing, example := 0, ""
	r.mu.Lock()
	for _, p := range r.publishes {
		if p.Timetoken != "" && !stored[p.User+p.Frame] && !r.replaced(p) {
			missing++
			example = fmt.Sprintf("%s of shard %d, sent at %v", p.Frame, e2e.ShardOf(p.User, shards), time.Unix(0, p.Sent).Format("15:04:05.000"))
		}
	}
	r.mu.Unlock()
	if missing > 0 {
		return fmt.Errorf("the log lacks %d events, one of them %s", missing, example)
	}
	away, lacking := 0, 0
	for _, d := range r.devices {
		n, connected := d.lacks(logs[d.user])
		if !connected {
			away++
			example = d.id
		}
		if n > 0 {
			lacking++
			example = d.id
		}
	}
	if away+lacking > 0 {
		return fmt.Errorf("%d devices are not connected and caught up, %d lack events or an answer, one of them %s", away, lacking, example)
	}
	return nil
}

// replaced reports whether p was in a log in whose place a backup was put. Called with
// mu held.
func (r *Run) replaced(p *e2e.Publish) bool {
	for _, e := range r.eras {
		if e.stored[p.User+p.Frame] {
			return true
		}
	}
	return false
}

// records reads all shards.
func (c *Cluster) records(ctx context.Context) (all []e2e.Record, err error) {
	for shard := range c.Shape.Shards {
		some, err := c.recordsOf(ctx, shard)
		if err != nil {
			return nil, fmt.Errorf("reading shard %d: %w", shard, err)
		}
		all = append(all, some...)
	}
	return all, nil
}

// recordsOf reads what a shard has. What it has read once it does not read again.
func (c *Cluster) recordsOf(ctx context.Context, shard int) ([]e2e.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	read := &c.read[shard]
	read.mu.Lock()
	defer read.mu.Unlock()
	s, err := c.js.Stream(ctx, eventsStream(shard))
	if err != nil {
		return nil, err
	}
	last := s.CachedInfo().State.LastSeq
	if read.next == 0 {
		read.next = 1
	}
	if read.next > last {
		return read.records, nil
	}
	for read.next <= last {
		before := read.next
		err := c.direct(ctx, eventsStream(shard), read.next, func(m *nats.Msg) error {
			one, seq, err := recordOf(shard, m)
			if err != nil {
				return err
			}
			if seq != read.next {
				return fmt.Errorf("record %d came where %d was due", seq, read.next)
			}
			read.records = append(read.records, one)
			read.next++
			return nil
		})
		if read.next == before && !sleep(ctx, 50*time.Millisecond) { // that replica lags, or is gone
			return nil, fmt.Errorf("%d records are left: %w", last-read.next+1, err)
		}
	}
	return read.records, nil
}

// direct calls fn for up to a thousand messages of a stream from seq on, as some replica
// has them.
func (c *Cluster) direct(ctx context.Context, stream string, seq uint64, fn func(*nats.Msg) error) error {
	inbox := nats.NewInbox()
	sub, err := c.nc.SubscribeSync(inbox)
	if err != nil {
		return err
	}
	defer sub.Unsubscribe()
	if err := c.nc.PublishRequest("$JS.API.DIRECT.GET."+stream, inbox, fmt.Appendf(nil, `{"seq":%d,"next_by_subj":">","batch":1000}`, seq)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return err
		}
		switch status := m.Header.Get("Status"); {
		case status == "204": // the end of the batch
			return nil
		case status != "" || len(m.Header) == 0:
			return fmt.Errorf("direct get: %s %s", status, m.Header.Get("Description"))
		}
		if err := fn(m); err != nil {
			return err
		}
	}
}

// readShard is what was read of a shard.
type readShard struct {
	mu      sync.Mutex
	records []e2e.Record
	next    uint64 // sequence of the next one; 0 is the first
}

// forget lets a shard be read anew.
func (s *readShard) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records, s.next = nil, 0
}

func recordOf(shard int, m *nats.Msg) (one e2e.Record, seq uint64, err error) {
	h := func(key string) string {
		if v := m.Header[key]; len(v) > 0 {
			return v[0]
		}
		return ""
	}
	if seq, err = strconv.ParseUint(h("Nats-Sequence"), 10, 64); err != nil {
		return one, 0, fmt.Errorf("Nats-Sequence: %w", err)
	}
	stored, err := time.Parse(time.RFC3339Nano, h("Nats-Time-Stamp"))
	if err != nil {
		return one, 0, fmt.Errorf("record %d: Nats-Time-Stamp: %w", seq, err)
	}
	one = e2e.Record{Shard: shard, User: strings.TrimPrefix(h("Nats-Subject"), fmt.Sprintf("reprise.ev.%d.", shard)), ID: h("Nats-Msg-Id"),
		Hlc: h("Reprise-Hlc"), Gap: h("Reprise-Gap-From") != "", Frame: string(m.Data), Stored: stored.UnixNano()}
	if one.User == "_" {
		one.User = ""
	}
	if one.Writer, err = strconv.ParseUint(h("Reprise-Writer"), 10, 64); err != nil {
		return one, 0, fmt.Errorf("record %d: Reprise-Writer: %w", seq, err)
	}
	return one, seq, nil
}

// useful looks whether everything does its work again, with nobody's help: it is ready,
// each edge relays and each bridge writes.
func (r *Run) useful(ctx context.Context) {
	c := r.cluster
	try := func(what string, do func(ctx context.Context) error) {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		for {
			err := do(ctx)
			if err == nil {
				return
			}
			if !sleep(ctx, time.Second) {
				r.wrong("%s %v after the last heal: %v", what, patience, err)
				return
			}
		}
	}
	for i, p := range c.all() {
		if i == r.Lost-1 {
			continue
		}
		try(p.Name+" is not ready", func(ctx context.Context) error {
			if code := status(ctx, p.ready); code != http.StatusOK {
				return fmt.Errorf("it answers %d", code)
			}
			return nil
		})
	}
	for i, p := range c.Edges {
		d := newDevice(r, userNo(i), deviceNo(r.load.Users*r.load.DevicesEach+i))
		d.edge = p.Name
		try(p.Name+" does not relay", func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			go d.live(ctx)
			for range 100 {
				if _, current := d.lacks(nil); current {
					return nil
				}
				sleep(ctx, 50*time.Millisecond)
			}
			return errors.New("nobody is caught up there")
		})
	}
	for _, p := range c.Bridges {
		try(p.Name+" writes nothing", func(ctx context.Context) error {
			n, err := metric(ctx, p, "reprise_bridge_shards")
			if err == nil && n == 0 {
				err = errors.New("it has no shard")
			}
			return err
		})
	}
}

// insist tries until it succeeds or ctx ends: the cluster may be coming to itself. A
// question that is lost while a leader changes costs one attempt, not all of them.
func (r *Run) insist(ctx context.Context, what string, do func(context.Context) error) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, patience/4)
		err := do(attempt)
		cancel()
		if err == nil {
			return nil
		}
		r.note("%s: %v", what, err)
		if !sleep(ctx, 500*time.Millisecond) {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
}

// Root is the directory of the program's module.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}
