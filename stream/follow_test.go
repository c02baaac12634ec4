package stream

import (
	"context"
	"testing"
	"time"

	"reprise/hlc"
)

func TestFollowWarmStartsBack(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	w := acquire(t, l, 0)
	appendAll(t, w, alice, 0, 50)
	f := follow(t, l, 0, FollowOptions{Warm: time.Hour})
	if start := f.next(t, KindStart); start.Seq != 0 || !start.Warm {
		t.Errorf("start = %+v, want the beginning, and warm", start)
	}
	for i, got := range f.events(t, 50) {
		if got != i {
			t.Fatalf("event %d handed out as %d", i, got)
		}
	}
	if current := f.next(t, KindCurrent); current.Seq != w.Stats().Last.Seq {
		t.Errorf("current = %v, want %v", current.Position, w.Stats().Last)
	}
	appendAll(t, w, alice, 50, 51)
	if got := f.events(t, 1); got[0] != 50 {
		t.Errorf("the event after it is %d, want 50", got[0])
	}
}

func TestFollowTellsDeletedFromLost(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	w := acquire(t, l, 0)
	appendAll(t, w, alice, 0, 50)
	s, err := l.js.Stream(t.Context(), eventsStream(0))
	if err != nil {
		t.Fatal(err)
	}
	first := w.Stats().Last.Seq - 49
	for _, n := range []uint64{10, 11, 30} {
		if err := s.DeleteMsg(t.Context(), first+n); err != nil {
			t.Fatal(err)
		}
	}
	f := follow(t, l, 0, FollowOptions{Warm: time.Hour})
	got := f.events(t, 47)
	if got[10] != 12 || got[46] != 49 {
		t.Errorf("events after deletion = %v", got)
	}
}

func TestFollowSaysWhatRetentionTook(t *testing.T) {
	t.Parallel()
	l := openLog(t, func(c *Config) { listening(c); c.MaxBytes = 256 << 10 })
	w := acquire(t, l, 0)
	link := newProxy(t, l.ClientURL())
	f := follow(t, remote(t, link.url(), "edge", func(c *Config) { c.MaxBytes = 256 << 10 }), 0, FollowOptions{})
	f.next(t, KindStart)
	appendAll(t, w, alice, 0, 10)
	f.events(t, 10)
	link.pause()
	appendAll(t, w, alice, 10, 5000)
	link.cut()
	link.resume()
	var lost Record
	var last hlc.Timestamp
	for n := -1; n != 4999; {
		switch r := f.next(t, KindEvent, KindLost); r.Kind {
		case KindLost:
			lost = r
		default:
			if r.Hlc <= last || r.Hlc <= lost.Hlc {
				t.Fatalf("event %v after %s, lost up to %v", r.Position, last, lost.Position)
			}
			last, n = r.Hlc, seen(&r)
		}
	}
	if lost.Seq == 0 {
		t.Error("no KindLost although retention took records")
	}
}

func TestFollowSurvivesDeletionOfItsConsumer(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	w := acquire(t, l, 0)
	f := follow(t, l, 0, FollowOptions{})
	f.next(t, KindStart)
	appendAll(t, w, alice, 0, 10)
	f.events(t, 10)
	if err := l.js.DeleteConsumer(t.Context(), eventsStream(0), "edge-test"); err != nil {
		t.Fatal(err)
	}
	appendAll(t, w, alice, 10, 20)
	for i, got := range f.events(t, 10) {
		if got != 10+i {
			t.Fatalf("event %d handed out as %d", 10+i, got)
		}
	}
}

// deleteLog deletes the stream of shard 0. What it returns makes an empty one.
func deleteLog(t testing.TB, l *Log) (makeAnew func()) {
	t.Helper()
	s, err := l.js.Stream(t.Context(), eventsStream(0))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.js.DeleteStream(t.Context(), eventsStream(0)); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if _, err := l.js.CreateStream(t.Context(), s.CachedInfo().Config); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFollowNoticesReplacedStream(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	w := acquire(t, l, 0)
	f := follow(t, l, 0, FollowOptions{})
	f.next(t, KindStart)
	appendAll(t, w, alice, 0, 1000)
	f.events(t, 1000)
	deleteLog(t, l)()
	f.next(t, KindReset)
	w.Close(context.Background())
	w = acquire(t, l, 0)
	appendAll(t, w, alice, 1000, 1010)
	for i, got := range f.events(t, 10) {
		if got != 1000+i {
			t.Fatalf("event %d handed out as %d", 1000+i, got)
		}
	}
}

// TestNoCursorIsJudgedWithoutItsLog has a stream that is gone for a while, as between
// the deletion and the end of the restore when a backup is put in its place: what comes
// back may be another log.
func TestNoCursorIsJudgedWithoutItsLog(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	w := acquire(t, l, 0)
	f := follow(t, l, 0, FollowOptions{})
	f.next(t, KindStart)
	appendAll(t, w, alice, 0, 10)
	var at Position
	for range 10 {
		at = f.next(t, KindEvent).Position
	}
	// What the caller holds itself is no reason to ask the server.
	judge := func() (Reason, error) {
		_, reason, err := l.Resume(t.Context(), alice, at.Hlc, at.Hlc)
		return reason, err
	}
	if reason, err := judge(); err != nil || reason != Complete {
		t.Fatalf("Resume(%v) = %q, %v, want complete", at.Hlc, reason, err)
	}
	makeAnew := deleteLog(t, l)
	for began := time.Now(); ; <-time.After(10 * time.Millisecond) {
		reason, err := judge()
		if err != nil {
			break
		}
		if time.Since(began) > 30*time.Second {
			t.Fatalf("Resume(%v) = %q, 30 s after the log was deleted", at.Hlc, reason)
		}
	}
	makeAnew()
	f.next(t, KindReset)
	w.Close(context.Background())
	w = acquire(t, l, 0)
	appendAll(t, w, alice, 10, 11)
	f.next(t, KindEvent)
	if reason, err := judge(); err != nil || reason != StoreReset {
		t.Fatalf("Resume(%v) = %q, %v, want %q", at.Hlc, reason, err, StoreReset)
	}
}

func TestGapIsTold(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	w := acquire(t, l, 0)
	f := follow(t, l, 0, FollowOptions{})
	f.next(t, KindStart)
	appendAll(t, w, alice, 0, 1)
	before := f.next(t, KindEvent)
	gap := Gap{From: before.Hlc, To: before.Hlc + 1, User: alice}
	if err := w.Gap(t.Context(), gap); err != nil {
		t.Fatal(err)
	}
	told := f.next(t, KindGap)
	if told.GapUser != alice {
		t.Errorf("gap of %q, want %q", told.GapUser, alice)
	}
	check := func(l *Log) {
		for _, c := range []struct {
			user  string
			since hlc.Timestamp
			want  Reason
		}{
			{alice, before.Hlc, UpstreamGap}, {alice, told.Hlc, Complete}, {bob, before.Hlc, Complete},
		} {
			if _, got, err := l.Resume(t.Context(), c.user, c.since, 0); err != nil || got != c.want {
				t.Errorf("Resume(%s, %s) = %q, %v, want %q", c.user, c.since, got, err, c.want)
			}
		}
	}
	check(l)
	// An edge that starts later learns of it from the log.
	w.Close(context.Background())
}

func TestMarkersAreLoadedByALaterFollower(t *testing.T) {
	t.Parallel()
	l := openLog(t, listening)
	w := acquire(t, l, 0)
	appendAll(t, w, alice, 0, 1)
	before := w.Stats().Last
	if err := w.Gap(t.Context(), Gap{From: before.Hlc, To: before.Hlc + 1}); err != nil {
		t.Fatal(err)
	}
	appendAll(t, w, alice, 1, 700)
	late := remote(t, l.ClientURL(), "late", nil)
	f := follow(t, late, 0, FollowOptions{})
	f.next(t, KindStart)
	if _, got, err := late.Resume(t.Context(), bob, before.Hlc, 0); err != nil || got != UpstreamGap {
		t.Errorf("Resume from before anybody's gap = %q, %v, want %q", got, err, UpstreamGap)
	}
	if _, got, err := late.Resume(t.Context(), bob, w.Stats().Last.Hlc, 0); err != nil || got != Complete {
		t.Errorf("Resume from after the gap = %q, %v, want complete", got, err)
	}
}

func TestIdleShardGetsMarkers(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	w := acquire(t, l, 0)
	f := follow(t, l, 0, FollowOptions{})
	start := f.next(t, KindStart)
	if err := w.do(t.Context(), op{marker: true}); err != nil { // what idle does after markerEvery
		t.Fatal(err)
	}
	if r := f.next(t, KindMarker); r.Hlc <= start.Hlc {
		t.Errorf("marker %s after %s", r.Hlc, start.Hlc)
	}
}

func TestAnnouncementsAndDeadLetters(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	if _, err := l.Announce(t.Context(), "global.announcements:1", []byte("before")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan string, 10)
	done := make(chan error, 1)
	go func() {
		done <- l.FollowAnnouncements(ctx, func(frame []byte, _ time.Time) { got <- string(frame) })
	}()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("FollowAnnouncements() = %v", err)
		}
	}()
	// Announcements count from when the follower is there.
	for n, there := 2, false; !there; n++ {
		if _, err := l.Announce(t.Context(), "probe:"+string(rune('a'+n)), []byte("probe")); err != nil {
			t.Fatal(err)
		}
		select {
		case frame := <-got:
			if frame != "probe" {
				t.Fatalf("announcement %q from before", frame)
			}
			there = true
		case <-time.After(100 * time.Millisecond):
		}
	}
	for range 2 { // the same id twice is one announcement
		if _, err := l.Announce(t.Context(), "global.announcements:2", []byte("after")); err != nil {
			t.Fatal(err)
		}
	}
	for frame := range got {
		if frame == "after" {
			break
		}
	}

	d := DeadLetter{ID: "user.x.sync:1", Reason: "bad_id", Detail: "content_id is no UUID", Channel: "user.x.sync", Timetoken: "1", Publisher: "p", Raw: []byte("{")}
	for range 2 {
		if _, err := l.Bury(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	s, err := l.js.Stream(t.Context(), deadStream)
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetLastMsgForSubject(t.Context(), "reprise.dead.bad_id")
	if err != nil {
		t.Fatal(err)
	}
	if string(m.Data) != "{" || header(m.Header, headerChannel) != d.Channel || header(m.Header, headerDetail) != d.Detail || m.Sequence != 1 {
		t.Errorf("dead letter = %+v", m)
	}
	if _, err := l.Bury(t.Context(), DeadLetter{ID: "x", Reason: "no good"}); err == nil {
		t.Error("Bury with a reason that is no token = nil")
	}
}

func TestCursorsAreKept(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	if _, ok, err := l.Cursor(t.Context(), alice, bob); ok || err != nil {
		t.Errorf("Cursor of a new device = %v, %v", ok, err)
	}
	for _, at := range []hlc.Timestamp{5, 9} {
		if err := l.SaveCursor(t.Context(), alice, bob, at); err != nil {
			t.Fatal(err)
		}
		if got, ok, err := l.Cursor(t.Context(), alice, bob); got != at || !ok || err != nil {
			t.Errorf("Cursor = %s, %v, %v, want %s", got, ok, err, at)
		}
	}
}

// TestHalfOpenConnection lets an edge's connection die without the server's knowing.
// What the edge had asked for over it is not given the records that the edge waits for.
func TestHalfOpenConnection(t *testing.T) {
	t.Parallel()
	s := runServer(t, t.TempDir(), -1)
	w := acquire(t, remote(t, s.ClientURL(), "writer", nil), 0)
	p := newProxy(t, s.ClientURL())
	edge := remote(t, p.url(), "edge", nil)
	f := follow(t, edge, 0, FollowOptions{})
	f.next(t, KindStart)
	appendAll(t, w, alice, 0, 10)
	f.events(t, 10)
	before := edge.nc.Stats().Reconnects
	p.freeze()
	await(t, "the edge gives its connection up", func() bool { return edge.nc.Stats().Reconnects > before })
	late := time.AfterFunc(pullExpiry/2, func() { t.Errorf("records that were appended %v ago have not come", pullExpiry/2) })
	defer late.Stop()
	for n := 10; n < 30; n++ {
		appendAll(t, w, alice, n, n+1)
		f.events(t, 1)
	}
}
