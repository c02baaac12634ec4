package bridge

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"reprise/bridge/pubnubtest"
)

// TestFalseAlarm lets a full page come after a break, of which nothing is
// missing: for some time no page is held back then. What the queue does drop in
// that time comes nevertheless.
func TestFalseAlarm(t *testing.T) {
	t.Parallel()
	r := gapRig(t, 1, pubnubtest.Config{RoundTrip: 20 * time.Millisecond})
	r.follow()
	stop := r.start()
	r.publishNumbered(0, 10, 2)
	all := r.events(10)
	stop()
	r.publishNumbered(10, fullPage, 2)
	r.start()
	checkNumbered(t, append(all, r.events(fullPage)...), 10+fullPage)
	r.settled()
	tr := r.b.wild.tracks[0]
	tr.mu.Lock()
	if !tr.calm() {
		t.Error("calm() = false after a full page of which nothing was missing")
	}
	tr.mu.Unlock()
	tr.holdBack(true)
	tr.mu.Lock()
	if tr.flooded {
		t.Error("full pages are held back again at once")
	}
	tr.mu.Unlock()
	r.publishNumbered(10+fullPage, 1000, 2)
	r.events(1000)
	r.noMore(userN(0))
	if s := r.b.Stats(); s.Gaps != 0 || s.Filled == 0 {
		t.Errorf("Stats() = %+v, want no gap and events from history", s)
	}
}

// TestFrailBridge dies again and again at one cursor, as one does that is killed
// while it holds something back: the third in a row holds nothing. One that
// stopped in good order, or came farther, does not count.
func TestFrailBridge(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, pubnubtest.Config{})
	b := r.bare()
	sh := r.writing(b, 0)
	at := cursor{ttNow(0), 1}
	first := r.tracking(sh)
	first.begin(at)
	first.owe(stretch{From: at.timetoken}, whyOutage, true)
	if err := first.save(testContext(t)); err != nil {
		t.Fatal(err)
	}
	begin := func() *track { // and die
		tr := r.tracking(sh)
		if err := tr.save(testContext(t)); err != nil {
			t.Fatal(err)
		}
		return tr
	}
	for n := 1; n <= frailStarts; n++ {
		tr := begin()
		tr.holdBack(true)
		if holds := n < frailStarts; tr.job == nil || tr.job.hold != holds || tr.flooded != holds {
			t.Errorf("start %d: job %+v, flooded = %t; want both to hold back: %t", n, tr.job, tr.flooded, holds)
		}
		tr.want(userN(0), at.timetoken, nil)
		if holds := n < frailStarts; tr.wanted[userN(0)].hold != holds {
			t.Errorf("start %d: what comes for a new user is held back: %t, want %t", n, !holds, holds)
		}
	}
	tr := begin()
	tr.reach(cursor{ttNow(0), 1})
	if err := tr.save(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if tr = begin(); tr.calm() {
		t.Error("calm() = true for the first start at a new cursor")
	}
	tr.calmUntil = time.Now().Add(time.Hour) // after floods of which nothing was missing
	if tr.want(userN(0), at.timetoken, nil); !tr.wanted[userN(0)].hold {
		t.Error("what comes for a new user is not held back while it is calm")
	}
	tr.starts = 0 // as carry leaves it
	if err := tr.save(testContext(t)); err != nil {
		t.Fatal(err)
	}
	for n := 1; n < frailStarts; n++ {
		if begin().calm() {
			t.Errorf("calm() = true for start %d after a stop in good order", n)
		}
	}
}

// TestRepeatedHeldBack holds back events that the log may have, and lets them go
// when history has nothing to add: the log is looked through once for all of
// them, not once for each.
func TestRepeatedHeldBack(t *testing.T) {
	t.Parallel()
	const n, most = 500, 20
	r := newRig(t, 1, pubnubtest.Config{})
	ctx, sh := testContext(t), r.writing(r.bare(), 0)
	start := cursor{ttNow(-time.Second), 1}
	tr, f := r.attached(sh, start)
	tr.high = ttNow(time.Second) // the page may hold what is stored already
	tr.holdBack(true)
	p := &page{prev: start, next: cursor{ttNow(0), 1}}
	for i := range n {
		at := ttNow(-time.Second + time.Duration(i)*time.Millisecond)
		p.messages = append(p.messages, note1("user."+userN(0)+".notifications", at, i))
	}
	if err := f.take(p); err != nil {
		t.Fatal(err)
	}
	var reads atomic.Int64
	nc := r.jetStream().Conn()
	if _, err := nc.Subscribe("$JS.API.DIRECT.GET.>", func(*nats.Msg) { reads.Add(1) }); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := tr.claim(ctx, userN(0)); err != nil {
		t.Fatal(err)
	}
	c := &comparison{t: tr, why: whyFlood}
	if err := c.merge(ctx, userN(0), nil, nil, tr.heldOf(userN(0))); err != nil {
		t.Fatal(err)
	}
	if err := sh.writer.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := sh.writer.Stats().Appended; got != n {
		t.Errorf("%d events stored, want %d", got, n)
	}
	if got := reads.Load(); got == 0 || got > most {
		t.Errorf("%d requests to read the log for %d events, want 1 to %d", got, n, most)
	}
}
