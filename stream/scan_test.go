package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"reprise/hlc"
)

func userOfScan(n int) string { return fmt.Sprintf("5ca00000-0000-4000-8000-%012x", n) }

// readEvents reads a user's events, chunk by chunk. As an edge does, it asks again
// when the log is out of reach.
func readEvents(t testing.TB, l *Log, user string, after, upTo Position, rest time.Duration) (got []int) {
	for at := after; ; time.Sleep(rest) {
		chunk, err := l.Read(t.Context(), user, at, upTo)
		if errors.Is(err, ErrTrimmed) || t.Context().Err() != nil {
			t.Errorf("Read(%s, %v) = %v, want nil", user, at, err)
			return got
		}
		if err != nil {
			continue
		}
		for i := range chunk.Records {
			got = append(got, seen(&chunk.Records[i]))
		}
		if at = chunk.Next; at == upTo {
			return got
		}
	}
}

// TestFarReads has one device and then many read far back: each gets all of its
// user's events, in order, and the many with few scans. The link is cut in the
// middle.
func TestFarReads(t *testing.T) {
	t.Parallel()
	const users, each = 24, 1000
	var logged syncBuffer
	l := openLog(t, listening)
	w := acquire(t, l, 0)
	for n := range each {
		for u := range users {
			if err := w.Append(t.Context(), event(userOfScan(u), n)); err != nil {
				t.Fatal(err)
			}
		}
	}
	appendAll(t, w, alice, 0, 10)
	upTo := w.Stats().Last
	link := newProxy(t, l.ClientURL())
	far := remote(t, link.url(), "edge", func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&logged, nil)) })
	check := func(user int, got []int) {
		if len(got) != each {
			t.Errorf("user %d has %d events, want %d", user, len(got), each)
			return
		}
		for n, have := range got {
			if have != n {
				t.Errorf("user %d has event %d as %d", user, n, have)
				return
			}
		}
	}
	check(0, readEvents(t, far, userOfScan(0), Position{}, upTo, 0))
	if got := logged.String(); strings.Contains(got, "scanned") {
		t.Errorf("log of one read = %s, want no scan for many", got)
	}
	if got := readEvents(t, far, alice, Position{}, upTo, 0); len(got) != 10 {
		t.Errorf("events at the end = %v, want 10", got)
	}
	var all sync.WaitGroup
	for u := range users {
		all.Go(func() {
			for round := range 2 {
				check(u, readEvents(t, far, userOfScan(u), Position{}, upTo, time.Duration(u*round)*time.Millisecond))
				if u == 0 && round == 0 {
					link.cut()
				}
			}
		})
	}
	all.Wait()
	if got := strings.Count(logged.String(), "scanned"); got == 0 || got > 8 {
		t.Errorf("scans for %d reads of %d users = %d, want 1 to 8:\n%s", 2*users, users, got, &logged)
	}
}

// syncBuffer is a buffer that many may write to.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// TestScansThatAreCut has every scan end after 50 records, as under a connection
// that is cut again and again: what each has read is not read again.
func TestScansThatAreCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const records, each = 1000, 50
		q := &scans{logger: slog.New(slog.DiscardHandler)}
		user := userOfScan(0)
		q.read = func(first uint64, _ string, take func(*Record) bool) error {
			for seq := first; seq < first+each && seq <= records; seq++ {
				if !take(&Record{Kind: KindEvent, User: user, Position: scanAt(int(seq))}) {
					return nil
				}
			}
			return errReconnected
		}
		at, upTo := Position{}, scanAt(records)
		for n := 0; at != upTo; n++ {
			chunk, err := q.do(t.Context(), &farRead{user: user, after: at, from: at.Seq + 1, upTo: upTo, last: records})
			if err != nil || n > 2*records/each {
				t.Fatalf("after %d reads at %v: %v, want all %d records by then", n, at, err, records)
			}
			for i, r := range chunk.Records {
				if r.Seq != at.Seq+uint64(i)+1 {
					t.Fatalf("record %d comes behind %d", r.Seq, at.Seq+uint64(i))
				}
			}
			at = chunk.Next
		}
		time.Sleep(2 * scanPatience)
	})
}

// TestScansAtRandom has readers of a log in memory come, read at their own pace,
// give up and come back, while scans stumble: each gets what lies in its stretch,
// once and in order.
func TestScansAtRandom(t *testing.T) {
	for round := range 25 {
		seed := rand.Uint64()
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			users := 1 + rnd.IntN(20)
			records := make([]Record, 1+rnd.IntN(30_000))
			newest := map[string]uint64{}
			for i := range records {
				u := userOfScan(min(rnd.IntN(users), rnd.IntN(users))) // some have more
				records[i] = Record{Kind: KindEvent, User: u, Position: scanAt(i + 1), Frame: make([]byte, rnd.IntN(5000))}
				newest[u] = uint64(i + 1)
			}
			stumbles := rnd.IntN(4)
			var mu sync.Mutex
			intn := func(n int) int { mu.Lock(); defer mu.Unlock(); return rnd.IntN(n) }
			q := &scans{logger: slog.New(slog.DiscardHandler)}
			q.read = func(first uint64, user string, take func(*Record) bool) error {
				for i := range records[min(first-1, uint64(len(records))):] {
					r := records[int(first)-1+i]
					if intn(300) == 0 {
						time.Sleep(30 * time.Millisecond)
					}
					if stumbles > 0 && intn(20_000) == 0 {
						return errors.New("stumbled")
					}
					if (user == "" || r.User == user) && !take(&r) {
						return nil
					}
				}
				return nil
			}
			var all sync.WaitGroup
			for n := range 1 + intn(60) {
				user, slow := userOfScan(intn(users)), time.Duration(intn(200))*time.Millisecond
				from := intn(len(records))
				upTo := scanAt(from + 1 + intn(len(records)-from))
				wait, patient := time.Duration(intn(4000))*time.Millisecond, intn(3) > 0
				all.Go(func() {
					time.Sleep(wait)
					at, got := scanAt(from), []uint64{}
					for at != upTo && newest[user] > at.Seq { // Read asks for no others
						limit := time.Hour
						if !patient {
							limit = 20 * time.Second
						}
						ctx, cancel := context.WithTimeout(t.Context(), limit)
						chunk, err := q.do(ctx, &farRead{user: user, after: at, from: at.Seq + 1, upTo: upTo, last: min(newest[user], upTo.Seq)})
						cancel()
						if err != nil {
							time.Sleep(slow)
							continue
						}
						for _, r := range chunk.Records {
							got = append(got, r.Seq)
						}
						if chunk.Next.Seq < at.Seq || chunk.Next.Seq > upTo.Seq || len(chunk.Records) > readBatch {
							t.Errorf("seed %d: chunk of %d records from %v to %v, want up to %v", seed, len(chunk.Records), at, chunk.Next, upTo)
							return
						}
						at = chunk.Next
						time.Sleep(slow)
					}
					var want []uint64
					for _, r := range records[from:upTo.Seq] {
						if r.User == user {
							want = append(want, r.Seq)
						}
					}
					if fmt.Sprint(got) != fmt.Sprint(append([]uint64{}, want...)) {
						t.Errorf("seed %d: reader %d from %d to %d got %d records, want %d", seed, n, from, upTo.Seq, len(got), len(want))
					}
				})
			}
			all.Wait()
			time.Sleep(2 * scanPatience)
			synctest.Wait()
			q.mu.Lock()
			defer q.mu.Unlock()
			if len(q.open)+len(q.waiting)+q.lone != 0 || q.many {
				t.Errorf("seed %d: left at the end: %d scans, %d waiting", seed, len(q.open), len(q.waiting))
			}
		})
		if t.Failed() {
			t.Fatalf("round %d, seed %d", round, seed)
		}
	}
}

func scanAt(n int) Position { return Position{Seq: uint64(n), Hlc: hlc.Timestamp(n)} }
