package stream

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// TestAppendLate appends what a log has, hundreds of events ago, to a writer
// that never saw it, after the server's own window: nothing is stored twice.
func TestAppendLate(t *testing.T) {
	t.Parallel()
	l := openLog(t, func(c *Config) { c.Duplicates = 100 * time.Millisecond })
	began := time.Now().Add(-time.Second)
	w := acquire(t, l, 0)
	appendAll(t, w, alice, 0, 100)
	appendAll(t, w, bob, 0, 1500)
	if err := bookmark(t, w).Save(t.Context(), "17954373395308042", 1, nil); err != nil {
		t.Fatal(err) // the next writer remembers what lies behind it, and little more
	}
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := acquire(t, l, 0)
	var late []Event
	for n := 50; n < 110; n++ {
		ev := event(alice, n)
		if n == 60 { // history may write it otherwise
			ev.Frame = append(ev.Frame[:len(ev.Frame)-1], ` }`...)
		}
		late = append(late, ev)
	}
	for round, want := range []int{10, 0} {
		if got, err := next.AppendLate(t.Context(), alice, began, late); got != want || err != nil {
			t.Errorf("round %d: AppendLate(60 events, 50 of them stored) = %d, %v, want %d", round, got, err, want)
		}
	}
	if s := next.Stats(); s.Duplicates != 50+60 || s.Conflicts != 0 {
		t.Errorf("Stats() = %+v, want 110 duplicates and no conflicts", s)
	}
	kept, err := next.Since(t.Context(), alice, began)
	if err != nil || len(kept) != 110 {
		t.Fatalf("Since() = %d events, %v, want 110", len(kept), err)
	}
	for n, k := range kept {
		if want := event(alice, n).ID; k.ID != want {
			t.Errorf("event %d is %s, want %s", n, k.ID, want)
		}
	}
	if late, err := next.Since(t.Context(), alice, time.Now().Add(time.Minute)); len(late) != 0 || err != nil {
		t.Errorf("Since(in a minute) = %d events, %v", len(late), err)
	}
}

// TestAppendLateReads has a page after page with late events of the same users:
// the log of each is read once, and again when the writer has forgotten what it
// appended itself since.
func TestAppendLateReads(t *testing.T) {
	t.Parallel()
	const pages, users = 20, 10
	l := openLog(t, nil)
	began := time.Now().Add(-time.Second)
	w := acquire(t, l, 0)
	var reads atomic.Int64
	if _, err := l.nc.Subscribe("$JS.API.DIRECT.GET.>", func(*nats.Msg) { reads.Add(1) }); err != nil {
		t.Fatal(err)
	}
	late := func(user string, from, to, want int) {
		t.Helper()
		var events []Event
		for n := from; n < to; n++ {
			events = append(events, event(user, n))
		}
		if got, err := w.AppendLate(t.Context(), user, began, events); got != want || err != nil {
			t.Fatalf("AppendLate(%s, %d to %d) = %d, %v, want %d", user, from, to, got, err, want)
		}
	}
	count := func() int64 {
		t.Helper()
		if err := l.nc.Flush(); err != nil {
			t.Fatal(err)
		}
		return reads.Load()
	}
	for page := range pages {
		for u := range users {
			late(userN(u), page, page+2, 2-min(page, 1)) // one of them came with the page before
		}
	}
	first := count()
	if first > 3*users {
		t.Errorf("%d requests to read the log for %d pages of %d users, want a few for each user", first, pages, users)
	}
	appendAll(t, w, alice, 0, 10)
	appendAll(t, w, bob, 0, knownMost)
	late(userN(0), 0, pages+2, 1)
	late(alice, 0, 11, 1)
	if got := count(); got == first {
		t.Error("the log was not read again, although the writer remembers none of it")
	}
}

// TestAppendLateAtOnce appends late events of one user and of others at the same
// time: each is stored once.
func TestAppendLateAtOnce(t *testing.T) {
	t.Parallel()
	const n = 200
	l := openLog(t, nil)
	began := time.Now().Add(-time.Second)
	w := acquire(t, l, 0)
	var stored atomic.Int64
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for from := 0; from < n; from += 10 {
				var events []Event
				for i := from; i < from+10; i++ {
					events = append(events, event(userN(g/4), i))
				}
				got, err := w.AppendLate(t.Context(), userN(g/4), began, events)
				if err != nil {
					t.Errorf("AppendLate() = %v", err)
				}
				stored.Add(int64(got))
			}
		})
	}
	all.Wait()
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := w.Stats(); s.Appended != 2*n || stored.Load() != 2*n {
		t.Errorf("%d events were stored, by what is said %d, want %d", s.Appended, stored.Load(), 2*n)
	}
}

// TestLanesHaveBookmarksOfTheirOwn and the writer remembers the ids behind the
// oldest of them.
func TestLanesHaveBookmarksOfTheirOwn(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	w := acquire(t, l, 0)
	appendAll(t, w, alice, 0, 1)
	for i, lane := range []string{"a", "b"} {
		b, err := w.Bookmark(t.Context(), lane)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Save(t.Context(), fmt.Sprint(17954373395308040+i), 1, nil); err != nil {
			t.Fatal(err)
		}
		appendAll(t, w, alice, 1+2000*i, 1+2000*(i+1))
	}
	saved, err := w.checkpoints(t.Context())
	if err != nil || len(saved) != 2 || saved[0].Timetoken == saved[1].Timetoken {
		t.Fatalf("checkpoints() = %+v, %v, want two different ones", saved, err)
	}
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := acquire(t, l, 0)
	var all []Event
	for n := 1; n < 4001; n++ {
		all = append(all, event(alice, n))
	}
	if own, err := next.recall(t.Context(), all); len(own.unknown) != 0 || err != nil {
		t.Errorf("%d of 4,000 events behind a lane's bookmark are not remembered, %v", len(own.unknown), err)
	}
	if _, err := next.Bookmark(t.Context(), "a.b"); err == nil {
		t.Error("Bookmark(a.b) = nil, want an error")
	}
}

// TestAcquireWhen leaves alone a lease that was given back until it is willing.
func TestAcquireWhen(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	asked := make(chan bool)
	got := make(chan *Writer, 1)
	go func() {
		w, err := l.AcquireWhen(t.Context(), 0, func() bool { return <-asked })
		if err != nil {
			t.Errorf("AcquireWhen() = %v", err)
		}
		got <- w
	}()
	asked <- false
	asked <- false
	select {
	case <-got:
		t.Fatal("AcquireWhen() took a lease that it was not willing to take")
	default:
	}
	asked <- true
	if w := <-got; w != nil {
		w.Close(t.Context())
	}
}
