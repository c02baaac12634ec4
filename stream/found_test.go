package stream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"reprise/hlc"
)

// Faults that a review found by breaking the package, each with the test that
// showed it.

// all is above every stamp: no floor spares the leader the question.
const all = ^hlc.Timestamp(0)

// lines collects log lines.
type lines struct {
	mu    sync.Mutex
	text  bytes.Buffer
	wrote chan struct{}
}

func newLines() (*lines, *slog.Logger) {
	l := &lines{wrote: make(chan struct{}, 1)}
	return l, slog.New(slog.NewTextHandler(l, nil))
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.wrote <- struct{}{}:
	default:
	}
	return l.text.Write(p)
}

// wait waits for a line that holds what.
func (l *lines) wait(t *testing.T, what string) {
	t.Helper()
	late := time.After(30 * time.Second)
	for {
		l.mu.Lock()
		text := l.text.String()
		l.mu.Unlock()
		if strings.Contains(text, what) {
			return
		}
		select {
		case <-l.wrote:
		case <-late:
			t.Fatalf("no line with %q within 30s in:\n%s", what, text)
		}
	}
}

func TestBatchWithAHoleIsRefused(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	w := acquire(t, l, 0)
	appendAll(t, w, alice, 0, 100)
	const whole = 101 // the events and the batch's end
	answers := make(chan *nats.Msg, whole)
	inbox := nats.NewInbox()
	sub, err := l.nc.ChanSubscribe(inbox, answers)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe()
	for _, lost := range []int{-1, 0, 50, 99} { // which of them a cut connection swallows
		req, err := json.Marshal(msgGet{Seq: 1, NextFor: subjectOf(0, alice), Batch: readBatch})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.nc.PublishRequest("$JS.API.DIRECT.GET."+eventsStream(0), inbox, req); err != nil {
			t.Fatal(err)
		}
		batch := make(chan *nats.Msg, whole)
		for i := range whole {
			if m := <-answers; i != lost {
				batch <- m
			}
		}
		var want error
		if lost >= 0 {
			want = errHole
		}
		if _, err := collect(t.Context(), eventsStream(0), batch, func(*nats.Msg) error { return nil }); !errors.Is(err, want) {
			t.Errorf("a batch without message %d = %v, want %v", lost, err, want)
		}
	}
}

func TestBusyShardWithoutMarkers(t *testing.T) {
	t.Parallel()
	l := openLog(t, func(c *Config) { c.MaxBytes = 1 << 20 })
	w := acquire(t, l, 0)
	f := follow(t, l, 0, FollowOptions{})
	f.next(t, KindStart)
	appendAll(t, w, bob, 0, 8000) // retention takes the take-over's markers
	f.reach(t, w.Stats().Last.Seq)
	upTo, _ := l.shards[0].position()
	chunk, err := l.Read(t.Context(), alice, Position{Hlc: upTo.Hlc - 1}, upTo)
	if err != nil && !errors.Is(err, ErrTrimmed) || len(chunk.Records) != 0 || chunk.Next != upTo {
		t.Errorf("Read of a user without events = %+v, %v", chunk, err)
	}
	if got := readAll(t, l, bob, upTo.Hlc-1); len(got) != 1 {
		t.Errorf("Read of the last event = %d events, want 1", len(got))
	}
}

func TestEverythingMissedWasTrimmed(t *testing.T) {
	t.Parallel()
	l := openLog(t, func(c *Config) { c.MaxBytes = 1 << 20 })
	w := acquire(t, l, 0)
	f := follow(t, l, 0, FollowOptions{})
	f.next(t, KindStart)
	appendAll(t, w, bob, 0, 1)
	since := f.next(t, KindEvent).Position
	appendAll(t, w, alice, 0, 100)
	f.events(t, 100)
	upTo, _ := l.shards[0].position()
	if _, reason, err := l.Resume(t.Context(), alice, since.Hlc, all); err != nil || reason != Complete {
		t.Fatalf("Resume = %q, %v", reason, err)
	}
	appendAll(t, w, bob, 1, 8000) // pushes all of alice's out
	if err := w.Gap(t.Context(), Gap{From: 1, To: 2, User: bob}); err != nil {
		t.Fatal(err)
	}
	if chunk, err := l.Read(t.Context(), alice, Position{Hlc: since.Hlc}, upTo); !errors.Is(err, ErrTrimmed) {
		t.Errorf("Read after everything was trimmed = %d events, %v, want %v", len(chunk.Records), err, ErrTrimmed)
	}
}

func TestCheckpointAheadOfLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func() *Log { return openLog(t, func(c *Config) { c.DataDir = dir }) }
	appendTo := func(from, to int, timetoken string) (last Position) {
		l := open()
		w := acquire(t, l, 0)
		appendAll(t, w, alice, from, to)
		last = w.Stats().Last
		if err := w.Save(t.Context(), timetoken, 1); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Close(t.Context()), l.Close()); err != nil {
			t.Fatal(err)
		}
		return last
	}
	before := appendTo(0, 10, "1000")
	backup := copyDir(t, dir)
	lost := appendTo(10, 60, "2000")
	// A power cut takes the stream's tail, and leaves the checkpoint.
	stream := filepath.Join("jetstream", "$G", "streams", eventsStream(0))
	if err := os.RemoveAll(filepath.Join(dir, stream)); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(dir, stream), os.DirFS(filepath.Join(backup, stream))); err != nil {
		t.Fatal(err)
	}
	l := open()
	acquire(t, l, 0)
	follow(t, l, 0, FollowOptions{}).next(t, KindStart)
	for since, want := range map[hlc.Timestamp]Reason{before.Hlc: UpstreamGap, lost.Hlc: StoreReset} {
		if _, got, err := l.Resume(t.Context(), alice, since, all); err != nil || got != want {
			t.Errorf("Resume(%s) = %q, %v, want %q", since, got, err, want)
		}
	}
}

func TestLostDirectoryIsNoticed(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	w := acquire(t, l, 0)
	appendAll(t, w, alice, 0, 1)
	old := w.Stats().Last
	l = openLog(t, nil) // another directory: everything is gone
	w = acquire(t, l, 0)
	follow(t, l, 0, FollowOptions{}).next(t, KindStart)
	appendAll(t, w, alice, 0, 1)
	for since, want := range map[hlc.Timestamp]Reason{hlc.Zero: Complete, 1: Complete, old.Hlc: StoreReset} {
		if _, got, err := l.Resume(t.Context(), alice, since, all); err != nil || got != want {
			t.Errorf("Resume(%s) = %q, %v, want %q", since, got, err, want)
		}
	}
}

func TestVoidThatWasNotHandedOutYet(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	w := acquire(t, l, 0)
	appendAll(t, w, alice, 0, 10)
	cursor := w.Stats().Last.Hlc + 1 // of a log that is not this one
	w.Close(context.Background())
	held, started, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		done <- l.Follow(ctx, 0, FollowOptions{}, func(r *Record) {
			if r.Kind == KindStart {
				close(started)
				<-held
			}
		})
	}()
	<-started
	acquire(t, l, 0)
	asked := make(chan Reason)
	go func() {
		_, reason, _ := l.Resume(t.Context(), alice, cursor, all)
		asked <- reason
	}()
	close(held)
	if got := <-asked; got != StoreReset {
		t.Errorf("Resume while the mark is under way = %q, want %q", got, StoreReset)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Follow() = %v", err)
	}
}

func TestGatherAsksOnceForMany(t *testing.T) {
	t.Parallel()
	asked := make(chan chan struct{}, 200)
	g := &gather[struct{}, int]{most: 1, timeout: time.Minute, ask: func(context.Context, []struct{}) (map[struct{}]int, error) {
		answer := make(chan struct{})
		asked <- answer
		<-answer
		return map[struct{}]int{{}: 7}, nil
	}}
	var callers sync.WaitGroup
	call := func() {
		callers.Go(func() {
			if v, err := g.do(context.Background(), struct{}{}); v != 7 || err != nil {
				t.Errorf("do() = %d, %v", v, err)
			}
		})
	}
	call()
	first := <-asked // the others come while it is under way
	for range 100 {
		call()
	}
	for n := 0; n < 1; {
		g.mu.Lock()
		if len(g.waiting) == 1 {
			n++
		}
		g.mu.Unlock()
	}
	close(first)
	go func() {
		for answer := range asked {
			close(answer)
		}
	}()
	callers.Wait()
	close(asked)
}

func TestWarmStartInTheMiddle(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	w := acquire(t, l, 0)
	appendAll(t, w, alice, 0, 50)
	want := w.Stats().Last
	appendAll(t, w, alice, 50, 60)
	next, err := l.leaderGet(t.Context(), eventsStream(0), msgGet{Seq: want.Seq + 1})
	if err != nil {
		t.Fatal(err)
	}
	at, err := l.before(t.Context(), l.shards[0], next.Time, w.Stats().Last)
	if err != nil || at != want {
		t.Fatalf("before(the time of event 50) = %v, %v, want %v", at, err, want)
	}
	// From there on nothing is taken for another log, nor for lost.
	f := &follower{log: l, shard: l.shards[0], at: at, fn: func(r *Record) { t.Errorf("a warm start handed out %+v", r) }}
	if err := f.check(t.Context()); err != nil {
		t.Errorf("check() = %v", err)
	}
}

func TestFencesDoNotHideIds(t *testing.T) {
	t.Parallel()
	l := openLog(t, func(c *Config) { c.Duplicates = time.Second })
	w := acquire(t, l, 0)
	appendAll(t, w, alice, 0, 1)
	for range knownMost/window + 2 { // a crash loop
		w.Close(context.Background())
		w = acquire(t, l, 0)
	}
	appendAll(t, w, alice, 0, 1)
	if s := w.Stats(); s.Duplicates != 1 || s.Appended != 0 {
		t.Errorf("Stats() = %+v, want the duplicate dropped", s)
	}
}

func TestStaleSaveDoesNotDepose(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	old := acquire(t, l, 0)
	freeLease(t, l)
	w := acquire(t, l, 0)
	if err := old.Save(t.Context(), "1", 1); err != nil && !errors.Is(err, ErrDeposed) {
		t.Fatalf("Save of the old writer = %v", err)
	}
	if err := w.Save(t.Context(), "2", 1); err != nil {
		t.Errorf("Save of the rightful writer = %v", err)
	}
}

func TestRefusalsAreLogged(t *testing.T) {
	t.Parallel()
	said, logger := newLines()
	l := openLog(t, func(c *Config) { c.Logger = logger })
	w := acquire(t, l, 0)
	s, err := l.js.Stream(t.Context(), eventsStream(0))
	if err != nil {
		t.Fatal(err)
	}
	full := s.CachedInfo().Config
	full.Discard, full.MaxBytes = jetstream.DiscardNew, 256<<10
	if _, err := l.js.UpdateStream(t.Context(), full); err != nil {
		t.Fatal(err)
	}
	const n = 2000
	done := make(chan struct{})
	go func() {
		defer close(done)
		appendAll(t, w, alice, 0, n)
	}()
	said.wait(t, "appends are refused")
	full.MaxBytes = -1 // there is room again: it goes on by itself
	if _, err := l.js.UpdateStream(t.Context(), full); err != nil {
		t.Fatal(err)
	}
	<-done
	wantNumbers(t, stored(t, l, 0), n)
}

func TestSmallPayloadsAreRefusedAtOpen(t *testing.T) {
	t.Parallel()
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true, MaxPayload: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	defer ns.Shutdown()
	if !ns.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not start")
	}
	if _, err := Open(t.Context(), Config{URL: ns.ClientURL()}); err == nil || !strings.Contains(err.Error(), "max_payload is 65536") {
		t.Errorf("Open on a server for small payloads = %v", err)
	}
}

func TestForeignRecordStopsNobody(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	w := acquire(t, l, 0)
	f := follow(t, l, 0, FollowOptions{})
	f.next(t, KindStart)
	appendAll(t, w, alice, 0, 5)
	f.events(t, 5)
	if _, err := l.js.Publish(t.Context(), subjectOf(0, bob), []byte("hello")); err != nil {
		t.Fatal(err)
	}
	f.next(t, KindMarker)
	if err := w.Append(t.Context(), event(alice, 5)); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(t.Context()); !errors.Is(err, ErrDeposed) {
		t.Fatalf("Flush behind a foreign record = %v, want %v", err, ErrDeposed)
	}
	w = acquire(t, l, 0) // as a bridge does
	appendAll(t, w, alice, 5, 10)
	for n := 5; n < 10; n++ {
		if r := f.next(t, KindEvent, KindReset); r.Kind == KindReset || seen(&r) != n {
			t.Fatalf("behind a foreign record came %+v, want event %d", r, n)
		}
	}
}

func TestLeasesLost(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	for range 4 {
		acquire(t, l, 0).Close(context.Background())
	}
	s, err := l.js.Stream(t.Context(), "KV_"+leasesBucket)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := acquire(t, l, 0)
	if w.lease.epoch <= 4 {
		t.Errorf("epoch %d after four take-overs", w.lease.epoch)
	}
	appendAll(t, w, alice, 0, 5)
}

func TestLeaseIsGivenBackWhenTheContextHasEnded(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	w := acquire(t, l, 0)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	w.Close(ended)
	if rec, _, err := l.readLease(t.Context(), "shard.0"); err != nil || rec.Holder != "" {
		t.Errorf("the lease after Close = %+v, %v, want it given back", rec, err)
	}
}

func TestMarksAreForgottenWithTheirRecords(t *testing.T) {
	t.Parallel()
	l := openLog(t, func(c *Config) { c.MaxBytes = 1 << 20 })
	w := acquire(t, l, 0)
	for range 10 {
		if err := w.Gap(t.Context(), Gap{From: 1, To: 2, User: alice}); err != nil {
			t.Fatal(err)
		}
	}
	s := l.shards[0]
	count := func() int {
		s.mu.RLock()
		defer s.mu.RUnlock()
		return len(s.gaps)
	}
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		if err := l.Follow(ctx, 0, FollowOptions{}, func(*Record) { cancel() }); err != nil {
			t.Fatal(err)
		}
		if count() != 10 {
			t.Fatalf("%d gaps are noted, want 10", count())
		}
	}
	f := follow(t, l, 0, FollowOptions{})
	f.next(t, KindStart)
	appendAll(t, w, bob, 0, 8000)
	f.reach(t, w.Stats().Last.Seq)
	if _, _, err := l.Resume(t.Context(), bob, hlc.Zero, all); err != nil {
		t.Fatal(err)
	}
	if count() != 0 {
		t.Errorf("%d gaps are noted after their markers were trimmed", count())
	}
}

func TestFollowWaitsOutAnOutage(t *testing.T) {
	t.Parallel()
	l := openLog(t, listening)
	w := acquire(t, l, 0)
	link := newProxy(t, l.ClientURL())
	edge := remote(t, link.url(), "edge", nil)
	link.pause()
	f := follow(t, edge, 0, FollowOptions{})
	outage := time.NewTimer(leaseTTL + 3*leaseRenew)
	<-outage.C
	link.resume()
	f.next(t, KindStart)
	appendAll(t, w, alice, 0, 5)
	f.events(t, 5)
}

func TestBackupRestoredUnderARunningWriter(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ns := runServer(t, dir, server.RANDOM_PORT)
	defer func() { ns.Shutdown() }()
	port := ns.Addr().(*net.TCPAddr).Port
	l := openLog(t, func(c *Config) { c.URL, c.DataDir = ns.ClientURL(), "" })
	w := acquire(t, l, 0)
	appendAll(t, w, alice, 0, 10)
	backup := copyDir(t, dir)
	f := follow(t, l, 0, FollowOptions{})
	f.next(t, KindStart)
	appendAll(t, w, alice, 10, 20)
	f.events(t, 10)
	lost := w.Stats().Last

	ns.Shutdown()
	ns.WaitForShutdown()
	ns = runServer(t, backup, port)
	<-w.Done() // it notices by itself, without an append
	if err := w.Err(); !errors.Is(err, ErrDeposed) {
		t.Fatalf("Err() on a restored log = %v, want %v", err, ErrDeposed)
	}
	f.next(t, KindReset)
	w = acquire(t, l, 0)
	appendAll(t, w, alice, 30, 31)
	f.next(t, KindEvent)
	if _, got, err := l.Resume(t.Context(), alice, lost.Hlc, all); err != nil || got != StoreReset {
		t.Errorf("Resume from between backup and restore = %q, %v, want %q", got, err, StoreReset)
	}
}

func TestHeldAppendsAreTold(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	w := acquire(t, l, 0)
	appendAll(t, w, alice, 0, 1)
	if d := l.Held(); d != 0 {
		t.Errorf("Held() while appends are stored = %v", d)
	}
	s, err := l.js.Stream(t.Context(), eventsStream(0))
	if err != nil {
		t.Fatal(err)
	}
	full := s.CachedInfo().Config
	full.Discard, full.MaxMsgs = jetstream.DiscardNew, 1
	if _, err := l.js.UpdateStream(t.Context(), full); err != nil {
		t.Fatal(err)
	}
	if err := w.Append(t.Context(), event(alice, 1)); err != nil {
		t.Fatal(err)
	}
	for n := 0; l.Held() == 0; n++ {
		if !retry(t.Context(), n) {
			t.Fatal("Held() stays 0 although nothing is stored")
		}
	}
	full.MaxMsgs = -1
	if _, err := l.js.UpdateStream(t.Context(), full); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := l.Held(); d != 0 {
		t.Errorf("Held() after it went on = %v", d)
	}
}
