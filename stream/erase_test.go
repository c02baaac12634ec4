package stream

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"reprise/hlc"
)

// inFiles counts how often text lies in files below dir.
func inFiles(t *testing.T, dir, text string) (n int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		n += bytes.Count(raw, []byte(text))
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return n
}

// TestErase has an edge follow while a user's events are erased from the middle
// and the end of the log.
func TestErase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := openLog(t, func(c *Config) { c.DataDir = dir })
	w := acquire(t, l, 0)
	late := "only alice has this in her events"
	appendAll(t, w, bob, 0, 5)
	appendAll(t, w, alice, 0, 300)
	appendAll(t, w, bob, 5, 10)
	ev := event(alice, 300)
	ev.Frame = append(ev.Frame, late...)
	if err := w.Append(t.Context(), ev); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	f := follow(t, l, 0, FollowOptions{Warm: time.Hour})
	f.next(t, KindCurrent)
	before, err := l.End(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}

	n, err := w.Erase(t.Context(), alice, math.MaxUint64)
	if err != nil || n != 301 {
		t.Errorf("Erase(alice) = %d, %v, want 301", n, err)
	}
	if n, err := w.Erase(t.Context(), alice, math.MaxUint64); err != nil || n != 0 {
		t.Errorf("Erase(alice) once more = %d, %v, want 0", n, err)
	}
	end, err := l.End(t.Context(), 0)
	if err != nil || end.Hlc <= before.Hlc {
		t.Errorf("End() = %v, %v, want a known end above %v", end, err, before)
	}
	for user, want := range map[string]int{alice: 0, bob: 10} {
		chunk, err := l.Read(t.Context(), user, Position{}, end)
		if err != nil || len(chunk.Records) != want {
			t.Errorf("Read(%s) = %d records, %v, want %d", user, len(chunk.Records), err, want)
		}
		// Nothing was cut, as far as anybody's cursor is concerned.
		if _, reason, err := l.Resume(t.Context(), user, before.Hlc, end.Hlc); err != nil || reason != Complete {
			t.Errorf("Resume(%s) = %q, %v, want complete", user, reason, err)
		}
	}
	// Those who follow see no loss, and what comes next.
	appendAll(t, w, bob, 10, 11)
	for {
		r := f.next(t, KindEvent, KindLost, KindReset, KindGap)
		if r.Kind != KindEvent {
			t.Fatalf("the edge got a record of kind %v, want none but events", r.Kind)
		}
		if r.User == bob && seen(&r) == 10 {
			break
		}
	}
	if n := inFiles(t, dir, late); n != 0 {
		t.Errorf("the text of an erased event lies %d times in the files, want none", n)
	}
	if n := inFiles(t, dir, `"data":{"n":7}`); n == 0 {
		t.Error("the text of bob's event does not lie in the files: the search would find nothing")
	}
}

const tablet = "d0000000-0000-4000-8000-000000000004"

// TestEraseWhatIsUnderWay erases events that were handed to the writer and are not
// stored yet.
func TestEraseWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	w := acquire(t, l, 0)
	const n = 2 * window
	for i := range n {
		if err := w.Append(t.Context(), event(alice, i)); err != nil {
			t.Fatal(err)
		}
	}
	if erased, err := w.Erase(t.Context(), alice, math.MaxUint64); err != nil || erased != n {
		t.Errorf("Erase(alice) = %d, %v, want %d", erased, err, n)
	}
}

func TestFootprintAndEraseRest(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	w := acquire(t, l, 0)
	for _, user := range []string{alice, bob} {
		appendAll(t, w, user, 0, 3)
		register(t, l, user)
		l.Seen(user, "tv")
		for _, device := range []string{phone, tablet} {
			if err := l.SaveCursor(t.Context(), user, device, hlc.New(5, 0)); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Submit(t.Context(), Update{ID: "u1", User: user, Device: phone, Channel: "user." + user + ".sync", Body: []byte(`{}`)}); err != nil {
			t.Fatal(err)
		}
		for _, d := range []DeadLetter{
			{ID: "user." + user + ".sync:1", Reason: "bad_id", Channel: "user." + user + ".sync", Raw: []byte("x")},
			{ID: outboxID(user, phone, "u0"), Reason: "bad_value", Channel: "elsewhere", Raw: []byte("y")},
		} {
			if _, err := l.Bury(t.Context(), d); err != nil {
				t.Fatal(err)
			}
		}
		present(t, l, user, 1)
	}
	look := func(user string) Footprint {
		t.Helper()
		f, err := l.Footprint(t.Context(), user)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	full := func(f Footprint) bool {
		return f.Events == 3 && f.First != 0 && f.Last > f.First && len(f.Cursors) == 2 && f.Cursors[phone] == hlc.New(5, 0) && f.Outbox == 1 && f.Dead == 2 && f.Registered
	}
	if f := look(alice); !full(f) {
		t.Fatalf("Footprint(alice) = %+v, want 3 events, 2 cursors, an update, 2 dead letters, registered", f)
	}
	if _, err := w.Erase(t.Context(), alice, math.MaxUint64); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := errors.Join(l.EraseRest(t.Context(), alice), l.EraseDevices(t.Context(), alice)); err != nil {
			t.Fatal(err)
		}
	}
	if f := look(alice); f.Events != 0 || f.First != 0 || len(f.Cursors) != 0 || f.Outbox != 0 || f.Dead != 0 || f.Registered {
		t.Errorf("Footprint(alice) after all was erased = %+v, want nothing", f)
	}
	present(t, l, alice, 0)
	if f := look(bob); !full(f) {
		t.Errorf("Footprint(bob) = %+v, want what it was", f)
	}
	present(t, l, bob, 1)
	// She may come back.
	register(t, l, alice)
	appendAll(t, w, alice, 10, 11)
	if f := look(alice); f.Events != 1 || !f.Registered {
		t.Errorf("Footprint(alice) after she came back = %+v, want one event, registered", f)
	}
}

func TestOrders(t *testing.T) {
	t.Parallel()
	l := openLog(t, func(c *Config) { c.Shards = 4 })
	at := time.UnixMilli(time.Now().UnixMilli())
	command := func(user string, o Order) {
		t.Helper()
		if err := l.Command(t.Context(), user, o); err != nil {
			t.Fatal(err)
		}
	}
	command(alice, Order{At: at, RevokedBefore: at})
	orders := make(chan Order, 100)
	ctx, cancel := context.WithCancel(context.Background())
	done, current := make(chan error, 1), make(chan struct{})
	go func() { done <- l.FollowOrders(ctx, func(o Order) { orders <- o }, func() { close(current) }) }()
	next := func() Order {
		t.Helper()
		select {
		case o := <-orders:
			return o
		case <-time.After(30 * time.Second):
			t.Fatal("no order came")
			return Order{}
		}
	}
	if o := next(); o.User != KeyOf(alice) || !o.At.Equal(at) || !o.RevokedBefore.Equal(at) || !o.ForgottenBefore.IsZero() {
		t.Errorf("order = %+v, want alice's", o)
	}
	<-current
	command(bob, Order{At: at, ForgottenBefore: at})
	if o := next(); o.User != KeyOf(bob) || !o.ForgottenBefore.Equal(at) {
		t.Errorf("order = %+v, want bob's", o)
	}
	// A later one takes nothing back, and an earlier one changes nothing.
	command(alice, Order{At: at.Add(time.Second)})
	if o := next(); !o.At.Equal(at.Add(time.Second)) || !o.RevokedBefore.Equal(at) {
		t.Errorf("order = %+v, want the revocation kept", o)
	}
	command(alice, Order{At: at, RevokedBefore: at.Add(-time.Hour)})
	if o, err := l.OrderOf(t.Context(), alice); err != nil || !o.RevokedBefore.Equal(at) || !o.At.Equal(at.Add(time.Second)) {
		t.Errorf("OrderOf(alice) = %+v, %v, want the newest of each", o, err)
	}
	if o, err := l.OrderOf(t.Context(), userN(7)); err != nil || o != (Order{}) {
		t.Errorf("OrderOf(nobody) = %+v, %v, want none", o, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("FollowOrders() = %v, want nil", err)
	}
	// Nothing names a user; and what is too old goes.
	old := userN(9)
	command(old, Order{At: at.Add(-orderLife)})
	state, err := l.state(t.Context(), kvStream(stateBucket))
	if err != nil || state.Messages != 3 {
		t.Fatalf("the bucket has %d orders, %v, want 3", state.Messages, err)
	}
	ctx, cancel = context.WithCancel(context.Background())
	go func() { done <- l.FollowOrders(ctx, func(o Order) { orders <- o }, cancel) }()
	if err := <-done; err != nil {
		t.Errorf("FollowOrders() = %v, want nil", err)
	}
	if state, err := l.state(t.Context(), kvStream(stateBucket)); err != nil || state.Messages != 2 {
		t.Errorf("the bucket has %d orders, %v, want 2: the old one is deleted", state.Messages, err)
	}
	if n := inFiles(t, l.cfg.DataDir, alice); n != 0 {
		t.Errorf("alice's id lies %d times in the files, want none", n)
	}
	if n := inFiles(t, l.cfg.DataDir, strings.TrimPrefix(orderKey(0, KeyOf(alice)), "order.0.")); n == 0 {
		t.Error("her key does not lie in the files: the search would find nothing")
	}
}

func TestAskEdges(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	if answers, silent, err := l.AskEdges(t.Context(), []byte("who")); err != nil || len(answers) != 0 || len(silent) != 0 {
		t.Errorf("AskEdges() without edges = %v, %v, %v, want none", answers, silent, err)
	}
	f := follow(t, l, 0, FollowOptions{})
	f.next(t, KindStart)
	w := acquire(t, l, 0)
	appendAll(t, w, alice, 0, 1)
	f.next(t, KindEvent) // by now there is a consumer
	if answers, silent, err := l.AskEdges(t.Context(), []byte("who")); err != nil || len(answers) != 0 || len(silent) != 1 || silent[0] != "test" {
		t.Errorf("AskEdges() of one that says nothing = %v, %v, %v, want test silent", answers, silent, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- l.AnswerEdges(ctx, func(request []byte) []byte { return append([]byte("I, "), request...) })
	}()
	for {
		answers, silent, err := l.AskEdges(t.Context(), []byte("who"))
		if err != nil {
			t.Fatal(err)
		}
		if len(silent) == 0 {
			if string(answers["test"]) != "I, who" {
				t.Errorf("AskEdges() = %q, want the edge's answer", answers)
			}
			break
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("AnswerEdges() = %v, want nil", err)
	}
}
