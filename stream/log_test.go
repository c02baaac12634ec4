package stream

import (
	"context"
	"fmt"
	"testing"
	"time"

	"reprise/hlc"
)

// openLog opens an embedded log in a directory of the test's own.
func openLog(t testing.TB, change func(*Config)) *Log {
	t.Helper()
	cfg := Config{DataDir: t.TempDir(), Node: "test"}
	if change != nil {
		change(&cfg)
	}
	l, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatalf("Open(%+v) = %v", cfg, err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("Close() = %v", err)
		}
	})
	return l
}

// acquire takes shard and closes the writer with the test.
func acquire(t testing.TB, l *Log, shard int) *Writer {
	t.Helper()
	w, err := l.Acquire(t.Context(), shard)
	if err != nil {
		t.Fatalf("Acquire(%d) = %v", shard, err)
	}
	t.Cleanup(func() { w.Close(context.Background()) })
	return w
}

const (
	alice = "a11ce000-0000-4000-8000-000000000001"
	bob   = "b0b00000-0000-4000-8000-000000000002"
)

// event makes the n-th event of user; equal arguments make equal events.
func event(user string, n int) Event {
	const head = `{"type":"notification","hlc":"`
	return Event{
		ID:      fmt.Sprintf("user.%s.notifications:%d", user, n),
		User:    user,
		Frame:   fmt.Appendf(nil, head+`0000000000000000","data":{"n":%d}}`, n),
		StampAt: len(head),
	}
}

// appendAll appends the events from..to-1 of user and waits until they are stored.
func appendAll(t testing.TB, w *Writer, user string, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		if err := w.Append(t.Context(), event(user, n)); err != nil {
			t.Fatalf("Append(%d) = %v", n, err)
		}
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatalf("Flush() = %v", err)
	}
}

// seen is the number in an event made by event, -1 where it is none.
func seen(r *Record) int {
	n := -1
	fmt.Sscanf(string(r.Frame[len(`{"type":"notification","hlc":"0000000000000000","data":{"n":`):]), "%d", &n)
	return n
}

// feed collects what Follow hands out.
type feed struct {
	records chan Record // sent to by Follow
}

// follow follows shard until the test ends.
func follow(t testing.TB, l *Log, shard int, opts FollowOptions) *feed {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	f := &feed{records: make(chan Record, 1<<20)}
	done := make(chan error, 1)
	go func() { done <- l.Follow(ctx, shard, opts, func(r *Record) { f.records <- *r }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Follow(%d) = %v", shard, err)
		}
	})
	return f
}

// next is the next record of one of kinds; others are passed over.
func (f *feed) next(t testing.TB, kinds ...Kind) Record {
	t.Helper()
	late := time.After(30 * time.Second)
	for {
		select {
		case r := <-f.records:
			for _, k := range kinds {
				if r.Kind == k {
					return r
				}
			}
		case <-late:
			t.Fatalf("no record of kind %v within 30s", kinds)
		}
	}
}

// reach waits until the feed has come to seq, whatever retention took before.
func (f *feed) reach(t testing.TB, seq uint64) {
	t.Helper()
	for f.next(t, KindEvent, KindMarker, KindGap, KindLost).Seq < seq {
	}
}

// events are the numbers of the next n events, which must have rising stamps.
func (f *feed) events(t testing.TB, n int) []int {
	t.Helper()
	var got []int
	var last hlc.Timestamp
	for range n {
		r := f.next(t, KindEvent)
		if r.Hlc <= last {
			t.Fatalf("stamp %s came after %s", r.Hlc, last)
		}
		last = r.Hlc
		got = append(got, seen(&r))
	}
	return got
}

// readAll reads all events of user after since, up to where shard is followed.
func readAll(t testing.TB, l *Log, user string, since hlc.Timestamp) []Record {
	t.Helper()
	upTo, _ := l.shards[l.Shard(user)].position()
	var all []Record
	for at := (Position{Hlc: since}); at != upTo; {
		chunk, err := l.Read(t.Context(), user, at, upTo)
		if err != nil {
			t.Fatalf("Read(%v, %v) = %v", at, upTo, err)
		}
		all = append(all, chunk.Records...)
		at = chunk.Next
	}
	return all
}

func TestAppendFollowRead(t *testing.T) {
	t.Parallel()
	for _, shards := range []int{1, 8} {
		t.Run(fmt.Sprint(shards), func(t *testing.T) {
			t.Parallel()
			l := openLog(t, func(c *Config) { c.Shards = shards })
			shard := l.Shard(alice)
			w := acquire(t, l, shard)
			f := follow(t, l, shard, FollowOptions{})
			f.next(t, KindStart)
			const n = 1500
			appendAll(t, w, alice, 0, n)
			for i, got := range f.events(t, n) {
				if got != i {
					t.Fatalf("event %d handed out as %d", i, got)
				}
			}
			all := readAll(t, l, alice, hlc.Zero)
			if len(all) != n {
				t.Fatalf("Read all = %d events, want %d", len(all), n)
			}
			for i := range all {
				if got := seen(&all[i]); got != i {
					t.Fatalf("Read all [%d] = %d", i, got)
				}
			}
			if got := readAll(t, l, alice, all[n-21].Hlc); len(got) != 20 || seen(&got[0]) != n-20 {
				t.Errorf("Read the last 20 = %d events", len(got))
			}
			if got := readAll(t, l, alice, all[n-1].Hlc); len(got) != 0 {
				t.Errorf("Read after the last = %d events, want 0", len(got))
			}
		})
	}
}
