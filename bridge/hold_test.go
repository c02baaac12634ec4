package bridge

import (
	"testing"
	"time"

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
	}
	tr := begin()
	tr.reach(cursor{ttNow(0), 1})
	if err := tr.save(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if tr = begin(); tr.calm() {
		t.Error("calm() = true for the first start at a new cursor")
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
