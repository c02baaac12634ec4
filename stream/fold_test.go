package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"reprise/hlc"
)

// folded is an event that is state, the nth of a test.
func folded(user string, n int, frame string) Event {
	const head = `{"type":"`
	kind, rest, _ := strings.Cut(frame, "|")
	text := head + kind + `","hlc":"0000000000000000",` + rest + `}`
	return Event{ID: fmt.Sprintf("fold:%d", n), User: user, Frame: []byte(text), StampAt: len(head + kind + `","hlc":"`)}
}

// randomEvent is one of few things, so that they meet.
func randomEvent(r *rand.Rand) string {
	content, device := string(rune('a'+r.IntN(3))), string(rune('d'+r.IntN(2)))
	switch r.IntN(5) {
	case 0:
		return `notification|"data":{}`
	case 1, 2:
		return fmt.Sprintf(`watchlist_update|"content_id":%q,"action":%q,"unique_tag":"%d"`, content, [...]string{"add", "remove"}[r.IntN(2)], r.IntN(8))
	}
	return fmt.Sprintf(`progress_update|"content_id":%q,"position":%d,"device_id":%q,"timestamp":"%d"`, content, r.IntN(9), device, 1+r.IntN(20))
}

// fold runs a folder of shard 0 until stop is called, which waits for its end.
func fold(t testing.TB, l *Log) (f *Folder, stop func()) {
	t.Helper()
	f = l.NewFolder(0)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { f.Run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	t.Cleanup(stop)
	return f, stop
}

// awaitFold waits until everything that is in shard 0 was folded.
func awaitFold(t testing.TB, l *Log) foldRecord {
	t.Helper()
	end, err := l.End(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	var at foldRecord
	await(t, "fold up to the end", func() bool {
		at, _, err = l.readFold(t.Context(), 0)
		return err == nil && at.Seq >= end.Seq && at.Hlc >= end.Hlc
	})
	return at
}

// wantState compares the state that is kept of user with want.
func wantState(t testing.TB, l *Log, user string, want *State) {
	t.Helper()
	got, _, err := l.readState(t.Context(), stateKey(0, user))
	if err != nil {
		t.Fatal(err)
	}
	have, err1 := json.Marshal(got)
	need, err2 := json.Marshal(want)
	if err1 != nil || err2 != nil || string(have) != string(need) {
		t.Errorf("the state of %s is\n%s\nwant\n%s", user, have, need)
	}
}

// TestFoldIsTheWholeHistory folds while events are appended, some of them again, by
// folders that are stopped at any time and at times are two, and compares the states
// with the fold of everything that the log has.
func TestFoldIsTheWholeHistory(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	l := openLog(t, nil)
	w := acquire(t, l, 0)
	users := []string{alice, bob}
	var appended int
	for round := range 4 {
		_, stop := fold(t, l)
		other := func() {}
		if round%2 == 1 {
			_, other = fold(t, l)
		}
		for range 300 {
			n := appended
			if n > 0 && r.IntN(10) == 0 {
				n = r.IntN(appended) // again
			} else {
				appended++
			}
			once := rand.New(rand.NewPCG(seed, uint64(n)+1))
			if err := w.Append(t.Context(), folded(users[once.IntN(2)], n, randomEvent(once))); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Duration(r.IntN(int(foldSoon + foldSoon/2))))
		stop()
		other()
	}
	_, stop := fold(t, l)
	defer stop()
	if at := awaitFold(t, l); !at.Whole {
		t.Error("not everything was folded")
	}
	for _, user := range users {
		want := new(State)
		if _, err := w.each(t.Context(), user, 0, func(r *Record) {
			if err := want.Apply(r.Frame, r.Hlc); err != nil {
				t.Error(err)
			}
		}); err != nil {
			t.Fatal(err)
		}
		wantState(t, l, user, want)
	}
}

// appendFolded appends events of user, and returns their fold.
func appendFolded(t testing.TB, w *Writer, user string, first int, frames ...string) *State {
	t.Helper()
	s := new(State)
	for i, frame := range frames {
		ev := folded(user, first+i, frame)
		if err := w.Append(t.Context(), ev); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Apply(ev.Frame, w.Stats().Last.Hlc); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

const (
	addOne   = `watchlist_update|"content_id":"one","action":"add","unique_tag":"1"`
	watchOne = `progress_update|"content_id":"one","position":7,"device_id":"tv","timestamp":"5"`
	addTwo   = `watchlist_update|"content_id":"two","action":"add","unique_tag":"2"`
)

// cutBefore has retention take everything before seq.
func cutBefore(t testing.TB, l *Log, seq uint64) {
	t.Helper()
	s, err := l.js.Stream(t.Context(), eventsStream(0))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context(), jetstream.WithPurgeSequence(seq)); err != nil {
		t.Fatal(err)
	}
}

func TestSnapshot(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	w := acquire(t, l, 0)
	feed := follow(t, l, 0, FollowOptions{})
	feed.next(t, KindStart)
	if _, ok, err := l.Snapshot(t.Context(), alice); ok || err != nil {
		t.Fatalf("Snapshot before anything was folded = %v, %v", ok, err)
	}
	want := appendFolded(t, w, alice, 0, addOne, watchOne)
	_, stop := fold(t, l)
	at := awaitFold(t, l)
	check := func(what, user string, watchlist, progress string) {
		t.Helper()
		snap, ok, err := l.Snapshot(t.Context(), user)
		if !ok || err != nil || snap.Hlc < want.Hlc || snap.Gap != hlc.Zero || string(snap.Watchlist) != watchlist || string(snap.Progress) != progress {
			t.Errorf("%s: Snapshot(%s) = %+v, %v, %v", what, user, snap, ok, err)
		}
	}
	const watchlist, progress = `[{"content_id":"one","unique_tags":["1"]}]`, `[{"content_id":"one","position":7,"device_id":"tv","timestamp":"5"}]`
	check("whole log", alice, watchlist, progress)
	check("whole log", bob, "[]", "[]")
	cutBefore(t, l, at.Seq+1)
	check("everything cut", alice, watchlist, progress)
	stop()
	// More is cut than was folded.
	appendFolded(t, w, bob, 2, addOne, addTwo)
	cutBefore(t, l, w.Stats().Last.Seq)
	if _, ok, err := l.Snapshot(t.Context(), alice); ok || err != nil {
		t.Errorf("Snapshot after more was cut than was folded = %v, %v", ok, err)
	}
	_, stop = fold(t, l)
	defer stop()
	if at := awaitFold(t, l); at.Whole {
		t.Error("the fold says that it has everything")
	}
	if _, ok, err := l.Snapshot(t.Context(), alice); ok || err != nil {
		t.Errorf("Snapshot after events were lost to the fold = %v, %v", ok, err)
	}
}

func TestFoldOfAReplacedLog(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	w := acquire(t, l, 0)
	appendFolded(t, w, alice, 0, addOne, watchOne)
	fold(t, l)
	awaitFold(t, l)
	deleteLog(t, l)()
	w.Close(context.Background())
	w = acquire(t, l, 0)
	want := appendFolded(t, w, alice, 2, addTwo)
	if at := awaitFold(t, l); !at.Whole {
		t.Error("the fold of the new log is not whole")
	}
	wantState(t, l, alice, want)
}

func TestFoldNotesGaps(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	w := acquire(t, l, 0)
	follow(t, l, 0, FollowOptions{}).next(t, KindStart)
	appendFolded(t, w, alice, 0, addOne)
	before := w.Stats().Last.Hlc
	if err := w.Gap(t.Context(), Gap{From: before, To: before + 1, User: alice}); err != nil {
		t.Fatal(err)
	}
	noted := w.Stats().Last.Hlc
	fold(t, l)
	awaitFold(t, l)
	for user, want := range map[string]hlc.Timestamp{alice: noted, bob: hlc.Zero} {
		if snap, ok, err := l.Snapshot(t.Context(), user); !ok || err != nil || snap.Gap != want {
			t.Errorf("Snapshot(%s).Gap = %v, %v, %v, want %v", user, snap.Gap, ok, err, want)
		}
	}
	if err := w.Gap(t.Context(), Gap{From: before, To: before + 1}); err != nil {
		t.Fatal(err)
	}
	awaitFold(t, l)
	if snap, ok, err := l.Snapshot(t.Context(), bob); !ok || err != nil || snap.Gap != w.Stats().Last.Hlc {
		t.Errorf("Snapshot(bob).Gap = %v, %v, %v, want %v", snap.Gap, ok, err, w.Stats().Last.Hlc)
	}
}

func TestFoldForgets(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	w := acquire(t, l, 0)
	follow(t, l, 0, FollowOptions{}).next(t, KindStart)
	appendFolded(t, w, alice, 0, addOne, watchOne)
	f, _ := fold(t, l)
	awaitFold(t, l)
	appendFolded(t, w, alice, 2, addTwo) // of which the folder may or may not have heard
	before := w.Stats().Last.Hlc + 1
	if _, err := w.Erase(t.Context(), alice, before); err != nil {
		t.Fatal(err)
	}
	if err := f.Forget(t.Context(), alice, before); err != nil {
		t.Fatal(err)
	}
	awaitFold(t, l)
	wantState(t, l, alice, new(State))
	// The user comes back, and is told again to be forgotten as of then.
	want := appendFolded(t, w, alice, 3, watchOne)
	awaitFold(t, l)
	for range 2 {
		wantState(t, l, alice, want)
		if err := f.Forget(t.Context(), alice, before); err != nil {
			t.Fatal(err)
		}
	}
}

// A folder that was left behind, say by a pause, does not write what another one has
// seen forgotten.
func TestFolderLeftBehind(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	w := acquire(t, l, 0)
	feed := follow(t, l, 0, FollowOptions{})
	feed.next(t, KindStart)
	appendFolded(t, w, alice, 0, addOne)
	old := l.NewFolder(0)
	at, err := old.load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	old.next = newBatch(at)
	r := feed.next(t, KindEvent)
	old.take(&r)

	f, stop := fold(t, l)
	awaitFold(t, l)
	before := w.Stats().Last.Hlc + 1
	if _, err := w.Erase(t.Context(), alice, before); err != nil {
		t.Fatal(err)
	}
	if err := f.Forget(t.Context(), alice, before); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := old.flush(t.Context()); !errors.Is(err, errSwapped) {
		t.Errorf("flush of who was left behind = %v, want errSwapped", err)
	}
	wantState(t, l, alice, new(State))
}

// A bucket that acknowledged states and has lost them is not said to hold them: how far
// was folded is what it was, and the states are folded again.
func TestStatesThatWereRolledBack(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	w := acquire(t, l, 0)
	appendFolded(t, w, alice, 0, addOne)
	f, stop := fold(t, l)
	before := awaitFold(t, l)
	stop()
	want := appendFolded(t, w, alice, 1, addOne, addTwo)
	if _, err := f.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	now := foldRecord{Position: w.Stats().Last, Whole: true}
	if err := f.advance(t.Context(), now, math.MaxUint64); !errors.Is(err, errRolledBack) {
		t.Errorf("advance behind a state of a revision yet to come = %v, want errRolledBack", err)
	}
	if at, _, err := l.readFold(t.Context(), 0); err != nil || at != before {
		t.Errorf("afterwards it was folded to %+v, %v, want %+v", at, err, before)
	}
	_, stop = fold(t, l)
	defer stop()
	awaitFold(t, l)
	wantState(t, l, alice, want)
}

// The bound of a state holds for its text, whatever has to be escaped in it.
func TestSizeOfAState(t *testing.T) {
	t.Parallel()
	for _, tag := range []string{"plain", "\u0001\u0002", `"\`, "\u2028\u2029", "ü€😀", "<&>", ""} {
		var s State
		for n := range 100 {
			s.add(tag+fmt.Sprint(n%10), strings.Repeat(tag, 20)+fmt.Sprint(n))
			s.remove(tag+"gone", tag+fmt.Sprint(n))
			s.watched(progress{tag + fmt.Sprint(n), math.MaxUint64, new(uint64), tag, tag})
		}
		text, err := s.MarshalJSON()
		if err != nil || len(text) > s.size() || s.size() > 3*len(text) {
			t.Errorf("size() with %q = %d, want %d or a little more (%v)", tag, s.size(), len(text), err)
		}
	}
}

func TestTooMuchState(t *testing.T) {
	t.Parallel()
	var s State
	apply := func(frame string, n int) {
		for i := range n {
			if err := s.Apply(fmt.Appendf(nil, frame, i), hlc.Timestamp(i+1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	apply(`{"type":"watchlist_update","content_id":"c","action":"add","unique_tag":"%d"}`, 10)
	apply(`{"type":"watchlist_update","content_id":"c","action":"remove","unique_tag":"gone %d"}`, 100)
	if !s.shrink(500) || s.full || len(s.live["c"]) != 10 || s.removed != nil {
		t.Errorf("shrink took %v and left %d tags, want only the removed ones to go", s.removed, len(s.live["c"]))
	}
	apply(`{"type":"watchlist_update","content_id":"%d","action":"add","unique_tag":"1"}`, 100)
	if !s.shrink(500) || !s.full || s.live != nil {
		t.Errorf("shrink left %d contents of a state that is too large", len(s.live))
	}
	again := s
	apply(`{"type":"progress_update","content_id":"%d","position":1}`, 200)
	if again.Hlc == s.Hlc || s.progress != nil {
		t.Errorf("a state that was given up has %d positions at %v", len(s.progress), s.Hlc)
	}
}

func TestFoldingWaitsForMany(t *testing.T) {
	t.Parallel()
	now := time.Now()
	many := make(map[string]*State)
	for n := range foldFew + 1 {
		many[fmt.Sprint(n)] = new(State)
	}
	for _, tt := range []struct {
		what string
		b    batch
		want bool
	}{
		{"few users", batch{began: now}, true},
		{"many users", batch{began: now, users: many}, false},
		{"many users for long", batch{began: now.Add(-foldLate), users: many}, true},
		{"much", batch{began: now, users: many, bytes: foldBytes}, true},
		{"another log", batch{began: now, users: many, reset: true}, true},
	} {
		if got := tt.b.due(); got != tt.want {
			t.Errorf("%s: due() = %v, want %v", tt.what, got, tt.want)
		}
	}
}
