package stream

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"reprise/hlc"
)

// The traps of the design, each a test. Every one was shown red by putting the
// trap back: the changes that do so are kept beside the project's tasks.

// stored is the whole shard as the server has it, checked for the invariant
// that stamps rise with the sequence, and that no id is there twice.
func stored(t testing.TB, l *Log, shard int) []Record {
	t.Helper()
	c, err := l.js.OrderedConsumer(t.Context(), eventsStream(shard), jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	state, err := l.info(t.Context(), shard)
	if err != nil {
		t.Fatal(err)
	}
	it, err := c.Messages()
	if err != nil {
		t.Fatal(err)
	}
	defer it.Stop()
	var all []Record
	ids := make(map[string]uint64)
	var last hlc.Timestamp
	for seq := uint64(0); seq < state.Last; {
		m, err := it.Next(jetstream.NextMaxWait(30 * time.Second))
		if err != nil {
			t.Fatal(err)
		}
		d, err := deliveryOf(m.Reply())
		if err != nil {
			t.Fatal(err)
		}
		r := Record{Position: Position{Seq: d.seq}}
		if err := parseRecord(&r, m.Subject(), m.Headers(), m.Data()); err != nil {
			t.Fatalf("record %d: %v", r.Seq, err)
		}
		if r.Hlc <= last {
			t.Fatalf("record %d has stamp %s after %s", r.Seq, r.Hlc, last)
		}
		if id := header(m.Headers(), headerMsgID); id != "" {
			if at, twice := ids[id]; twice {
				t.Fatalf("id %s is stored at %d and %d", id, at, r.Seq)
			}
			ids[id] = r.Seq
		}
		last, seq = r.Hlc, r.Seq
		all = append(all, r)
	}
	return all
}

// wantNumbers checks that the events in records are exactly 0..n-1 in order.
func wantNumbers(t testing.TB, records []Record, n int) {
	t.Helper()
	var got []int
	for i := range records {
		if records[i].Kind == KindEvent {
			got = append(got, seen(&records[i]))
		}
	}
	want := make([]int, n)
	for i := range want {
		want[i] = i
	}
	if !slices.Equal(got, want) {
		t.Fatalf("stored %d events, want %d in order: %v", len(got), n, got[:min(len(got), 300)])
	}
}

// remote opens a second log, of another node, on the server of l.
func remote(t testing.TB, url, node string, change func(*Config)) *Log {
	t.Helper()
	return openLog(t, func(c *Config) {
		c.URL, c.Node = url, node
		if change != nil {
			change(c)
		}
	})
}

// runServer starts a server of its own, as an external one is. Whoever calls it
// shuts it down.
func runServer(t testing.TB, dir string, port int) *server.Server {
	t.Helper()
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	if !ns.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not start")
	}
	return ns
}

func listening(c *Config) { c.Listen = "127.0.0.1:0" }

func TestTrapPausedWriterWithFullPipeline(t *testing.T) {
	t.Parallel()
	l := openLog(t, listening)
	link := newProxy(t, l.ClientURL())
	zombie := acquire(t, remote(t, link.url(), "zombie", nil), 0)
	appendAll(t, zombie, alice, 0, 10)

	link.pause()
	for n := 10; n < 10+window; n++ {
		if err := zombie.Append(t.Context(), event(alice, n)); err != nil {
			t.Fatalf("Append(%d) = %v", n, err)
		}
	}
	// The lease runs out, here and now: a slow machine must not make the pause
	// so long that the connection is given up, and what is held back with it.
	freeLease(t, l)
	successor := acquire(t, l, 0)
	appendAll(t, successor, alice, 10, 110)
	link.resume()
	select {
	case <-zombie.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the paused writer goes on after the take-over")
	}
	if err := zombie.Err(); !errors.Is(err, ErrDeposed) {
		t.Errorf("Err() of the paused writer = %v, want %v", err, ErrDeposed)
	}
	// What it sent before it knew has reached the server, all of it.
	if err := zombie.nc.FlushTimeout(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	appendAll(t, successor, alice, 110, 10+window)
	wantNumbers(t, stored(t, l, 0), 10+window)
}

func TestTrapClockAtTakeOver(t *testing.T) {
	t.Parallel()
	for name, wall := range map[string][2]time.Duration{
		"an hour back":    {0, -time.Hour},
		"90 s ahead":      {90 * time.Second, 0},
		"jumps 10 min on": {0, 10 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			open := func(offset time.Duration) *Log {
				return openLog(t, func(c *Config) {
					c.DataDir = dir
					c.Wall = func() time.Time { return time.Now().Add(offset) }
				})
			}
			first := open(wall[0])
			w := acquire(t, first, 0)
			appendAll(t, w, alice, 0, 100)
			// A crash: the lease is not given back, the ceiling not lowered.
			w.fail(ErrClosed)
			<-w.Done()
			if err := first.Close(); err != nil {
				t.Fatal(err)
			}
			second := open(wall[1])
			w = acquire(t, second, 0)
			appendAll(t, w, alice, 100, 200)
			wantNumbers(t, stored(t, second, 0), 200)
		})
	}
}

func TestTrapExpiredStream(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func(offset time.Duration) *Log {
		return openLog(t, func(c *Config) {
			c.DataDir, c.MaxAge = dir, time.Second
			c.Wall = func() time.Time { return time.Now().Add(offset) }
		})
	}
	l := open(90 * time.Second)
	w := acquire(t, l, 0)
	appendAll(t, w, alice, 0, 10)
	last := w.Stats().Last
	w.fail(ErrClosed)
	<-w.Done()
	for n := 0; ; n++ {
		state, err := l.info(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if state.Messages == 0 {
			if state.Last != last.Seq {
				t.Fatalf("an expired stream ends at %d, want %d", state.Last, last.Seq)
			}
			break
		}
		if !retry(t.Context(), n) {
			t.Fatal("the stream does not expire")
		}
	}
	if at, err := l.End(t.Context(), 0); err != nil || at.Seq != last.Seq || at.Hlc < last.Hlc {
		t.Errorf("End of an expired stream = %v, %v, want %d and a stamp not below %s", at, err, last.Seq, last.Hlc)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(0)
	w = acquire(t, l, 0)
	f := follow(t, l, 0, FollowOptions{})
	f.next(t, KindStart)
	appendAll(t, w, alice, 10, 11)
	if at := w.Stats().Last; at.Hlc <= last.Hlc || at.Seq <= last.Seq {
		t.Errorf("the first event is at %v after the log's last %v had expired", at, last)
	}
	if _, reason, err := l.Resume(t.Context(), alice, last.Hlc-1, hlc.Timestamp(math.MaxUint64)); err != nil || reason != Trimmed {
		t.Errorf("Resume from before the expiry = %q, %v, want %q", reason, err, Trimmed)
	}
}

func TestTrapDuplicateInsidePipeline(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	w := acquire(t, l, 0)
	appendAll(t, w, bob, 0, 1)
	other := event(bob, 1)
	appendAll(t, w, bob, 1, 2)
	appendAll(t, w, alice, 0, knownMost) // the writer has forgotten bob's ids
	for n := knownMost; n < knownMost+400; n++ {
		switch n {
		case knownMost + 100:
			if err := w.Append(t.Context(), event(bob, 0)); err != nil {
				t.Fatal(err)
			}
		case knownMost + 150:
			other = event(bob, 2)
			other.ID = event(bob, 1).ID // a known id with other bytes
			if err := w.Append(t.Context(), other); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Append(t.Context(), event(alice, n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	var ofAlice, ofBob []Record
	for _, r := range stored(t, l, 0) {
		switch r.User {
		case alice:
			ofAlice = append(ofAlice, r)
		case bob:
			ofBob = append(ofBob, r)
		}
	}
	wantNumbers(t, ofAlice, knownMost+400)
	wantNumbers(t, ofBob, 3)
	if s := w.Stats(); s.Duplicates != 1 || s.Conflicts != 1 || s.Appended != knownMost+400+3 {
		t.Errorf("Stats() = %+v, want 1 duplicate, 1 conflict, %d appended", s, knownMost+403)
	}
}

func TestTrapConnectionCutDuringDelivery(t *testing.T) {
	t.Parallel()
	l := openLog(t, listening)
	w := acquire(t, l, 0)
	link := newProxy(t, l.ClientURL())
	edge := remote(t, link.url(), "edge", nil)
	f := follow(t, edge, 0, FollowOptions{})
	f.next(t, KindStart)
	const n = 20_000
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for at := 0; at < n; at += 2000 {
		link.cutAfter(10_000 + rnd.IntN(400_000))
		appendAll(t, w, alice, at, at+2000)
	}
	link.cutAfter(0)
	for i, got := range f.events(t, n) {
		if got != i {
			t.Fatalf("event %d handed out as %d", i, got)
		}
	}
}

func TestTrapConnectionCutDuringAppends(t *testing.T) {
	t.Parallel()
	l := openLog(t, listening)
	link := newProxy(t, l.ClientURL())
	w := acquire(t, remote(t, link.url(), "bridge", nil), 0)
	const n = 20_000
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	for at := 0; at < n; at += 2000 {
		link.cutAfter(1_000 + rnd.IntN(100_000)) // acknowledgements
		appendAll(t, w, alice, at, at+2000)
	}
	link.cutAfter(0)
	wantNumbers(t, stored(t, l, 0), n)
	if s := w.Stats(); s.Appended != n || s.Duplicates != 0 {
		t.Errorf("Stats() = %+v, want %d appended and no duplicate", s, n)
	}
}

func TestTrapBridgeClockAheadOfServer(t *testing.T) {
	t.Parallel()
	l := openLog(t, func(c *Config) {
		listening(c)
		c.Wall = func() time.Time { return time.Now().Add(40 * time.Second) }
	})
	w := acquire(t, l, 0)
	const n = 5000
	appendAll(t, w, alice, 0, n)
	all := stored(t, l, 0)
	events := all[len(all)-n:]

	edge := remote(t, l.ClientURL(), "edge", nil) // knows no points of the log
	f := follow(t, edge, 0, FollowOptions{})
	f.next(t, KindStart)
	for _, from := range []int{1, 700, 2500, 4200, n - 2} {
		got := readAll(t, edge, alice, events[from].Hlc)
		if len(got) != n-1-from || seen(&got[0]) != from+1 {
			t.Errorf("Read after event %d = %d events, want %d", from, len(got), n-1-from)
		}
	}
}

func TestTrapFirstEventReadTooEarly(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	w := acquire(t, l, 0)
	appendAll(t, w, bob, 0, 10)
	at := w.Stats().Last
	// This process knows of one record more than the replica that will answer.
	upTo := Position{Seq: at.Seq + 1, Hlc: math.MaxUint64}
	type answer struct {
		chunk Chunk
		err   error
	}
	asked := make(chan answer)
	go func() {
		chunk, err := l.Read(t.Context(), alice, Position{Hlc: at.Hlc}, upTo)
		asked <- answer{chunk, err}
	}()
	early := time.NewTimer(300 * time.Millisecond)
	select {
	case a := <-asked:
		t.Fatalf("Read before the replica has the first event = %+v, %v", a.chunk, a.err)
	case <-early.C:
	}
	appendAll(t, w, alice, 0, 1)
	if a := <-asked; a.err != nil || len(a.chunk.Records) != 1 || a.chunk.Next != upTo {
		t.Errorf("Read of a first event = %+v, %v", a.chunk, a.err)
	}
}

func TestTrapRetentionOvertakesReplay(t *testing.T) {
	t.Parallel()
	l := openLog(t, func(c *Config) { c.MaxBytes = 1 << 20 })
	w := acquire(t, l, 0)
	f := follow(t, l, 0, FollowOptions{})
	f.next(t, KindStart)
	const n = 2000
	appendAll(t, w, alice, 0, n)
	f.events(t, n)
	upTo, _ := l.shards[0].position()
	if _, reason, err := l.Resume(t.Context(), alice, hlc.Zero, upTo.Hlc); err != nil || reason != Complete {
		t.Fatalf("Resume before anything was cut = %q, %v", reason, err)
	}
	chunk, err := l.Read(t.Context(), alice, Position{}, upTo)
	if err != nil || len(chunk.Records) != readBatch {
		t.Fatalf("first Read = %d events, %v", len(chunk.Records), err)
	}
	appendAll(t, w, bob, 0, 3000) // pushes alice's out
	chunk, err = l.Read(t.Context(), alice, chunk.Next, upTo)
	if !errors.Is(err, ErrTrimmed) {
		t.Errorf("Read behind retention = %d events up to %v, %v, want %v", len(chunk.Records), chunk.Next, err, ErrTrimmed)
	}
	if _, reason, err := l.Resume(t.Context(), alice, hlc.Zero, upTo.Hlc); err != nil || reason != Trimmed {
		t.Errorf("Resume after the cut = %q, %v, want %q", reason, err, Trimmed)
	}
}

// copyDir is a backup of a log's files.
func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

func TestTrapRestoredBackup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func(dir string) *Log { return openLog(t, func(c *Config) { c.DataDir = dir }) }
	appendTo := func(dir string, from, to int) (last Position) {
		l := open(dir)
		w := acquire(t, l, 0)
		appendAll(t, w, alice, from, to)
		last = w.Stats().Last
		if err := w.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return last
	}
	kept := appendTo(dir, 0, 100)
	backup := copyDir(t, dir)
	lost := appendTo(dir, 100, 150)

	l := open(backup)
	w := acquire(t, l, 0)
	f := follow(t, l, 0, FollowOptions{})
	f.next(t, KindStart)
	appendAll(t, w, alice, 200, 201)
	f.next(t, KindEvent)
	for _, c := range []struct {
		name  string
		since hlc.Timestamp
		want  Reason
	}{
		{"before the backup", kept.Hlc, Complete},
		{"between backup and restore", lost.Hlc, StoreReset},
		{"after the restore", w.Stats().Last.Hlc, Complete},
		{"of the future", w.Stats().Last.Hlc + 1, FutureCursor},
	} {
		if _, got, err := l.Resume(t.Context(), alice, c.since, hlc.Timestamp(math.MaxUint64)); err != nil || got != c.want {
			t.Errorf("Resume(%s) = %q, %v, want %q", c.name, got, err, c.want)
		}
	}
}
