package bridge

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"reprise/bridge/pubnubtest"
	"reprise/hlc"
	"reprise/stream"
)

// gapRig is a rig whose PubNub has a queue as short as the real one's.
func gapRig(t *testing.T, shards int, emulator pubnubtest.Config) *rig {
	t.Helper()
	emulator.QueueSize = 100
	r := newRig(t, shards, emulator)
	r.cfg.HistoryRate = 1000
	return r
}

// settled waits until the bridge compares nothing any more.
func (r *rig) settled() {
	r.t.Helper()
	if !until(5*patience, func() bool { return !r.b.Health().Filling && !r.anythingHeld() }) {
		r.t.Fatalf("history is still being compared: %+v", r.b.Health())
	}
}

// anythingHeld tells whether something waits for history, or history for something.
func (r *rig) anythingHeld() bool {
	r.b.mu.Lock()
	wild := r.b.wild
	r.b.mu.Unlock()
	if wild == nil {
		return false
	}
	wild.mu.Lock()
	defer wild.mu.Unlock()
	for _, t := range wild.tracks {
		t.mu.Lock()
		busy := t.count > 0 || t.job != nil || t.flooded || t.flood != ""
		t.mu.Unlock()
		if busy {
			return true
		}
	}
	return false
}

// resume is what the log says of a cursor of user.
func (r *rig) resume(user string, since hlc.Timestamp) stream.Reason {
	r.t.Helper()
	_, reason, err := r.log.Resume(testContext(r.t), user, since, hlc.Timestamp(1<<63))
	if err != nil {
		r.t.Fatal(err)
	}
	return reason
}

// TestOverflowWhileDown lets PubNub's queue overflow by thousands while no
// bridge runs: history has what it dropped, and each user's events come once
// and in order, also those that were still in the queue.
func TestOverflowWhileDown(t *testing.T) {
	t.Parallel()
	for _, shards := range []int{1, 4} {
		t.Run(fmt.Sprint(shards, " shards"), func(t *testing.T) {
			t.Parallel()
			r := gapRig(t, shards, pubnubtest.Config{})
			r.follow()
			stop := r.start()
			r.publishNumbered(0, 70, 7)
			all := r.events(70)
			stop()
			r.publishNumbered(70, 5000, 7)
			r.start()
			r.publishNumbered(5070, 30, 7)
			checkNumbered(t, append(all, r.events(5030)...), 5100)
			r.settled()
			r.noMore(userN(0))
			if s := r.b.Stats(); s.Gaps != 0 || s.Filled == 0 {
				t.Errorf("Stats() = %+v, want no gap and thousands of events from history", s)
			}
		})
	}
}

// TestOverflowWhilePolling publishes faster than PubNub's queue can keep, and
// goes on publishing while history is read.
func TestOverflowWhilePolling(t *testing.T) {
	t.Parallel()
	r := gapRig(t, 2, pubnubtest.Config{RoundTrip: 20 * time.Millisecond})
	r.follow()
	r.start()
	const users, rounds, burst = 5, 3, 700
	n := 0
	var all []stream.Record
	for range rounds {
		r.publishNumbered(n, burst, users)
		n += burst
		for range 50 { // a quiet flow behind it
			if err := r.pubnub.WaitPolls(testContext(t), 1); err != nil {
				t.Fatal(err)
			}
			r.publishNumbered(n, 1, users)
			n++
		}
		all = append(all, r.events(burst+50)...)
	}
	checkNumbered(t, all, n)
	r.settled()
	r.noMore(userN(0))
	if s := r.b.Stats(); s.Gaps != 0 || s.Filled == 0 || s.FullPages == 0 {
		t.Errorf("Stats() = %+v, want no gap, full pages, and events from history", s)
	}
}

// TestHistoryForgot has history lose a stretch of one user's channel that the
// queue has dropped, too: that user has a gap, and nobody else.
func TestHistoryForgot(t *testing.T) {
	t.Parallel()
	r := gapRig(t, 1, pubnubtest.Config{})
	r.follow()
	stop := r.start()
	r.publishNumbered(0, 20, 2)
	before := r.events(20)
	since := before[len(before)-1].Hlc
	stop()
	r.publishNumbered(20, 1000, 2)
	cut := r.pubnub.Publish("user."+userN(0)+".notifications", []byte(`{"n":510}`))
	r.publishNumbered(1021, 400, 2) // numbers are off for user 0 by one; only their order counts below
	r.pubnub.Forget("user."+userN(0)+".notifications", cut)
	began := time.Now()
	r.start()
	var got [2]int
	for _, rec := range r.events(1 + 200 + 500 + 200) {
		got[strings.Compare(rec.User, userN(0))]++
	}
	if got != [2]int{201, 700} {
		t.Errorf("%d and %d events, want 201 of the user with the gap and 700 of the other", got[0], got[1])
	}
	r.settled()
	r.noMore(userN(1))
	for user, want := range map[string]stream.Reason{userN(0): stream.UpstreamGap, userN(1): stream.Complete, userN(7): stream.Complete} {
		if got := r.resume(user, since); got != want {
			t.Errorf("Resume(%s) = %q, want %q", user, got, want)
		}
	}
	if s, h := r.b.Stats(), r.b.Health(); s.Gaps != 1 || !h.Gap {
		t.Errorf("Stats() = %+v, Health() = %+v, want one gap and a warning", s, h)
	}
	c, err := r.jetStream().Stream(testContext(t), "REPRISE_EVENTS_0")
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.GetLastMsgForSubject(testContext(t), "reprise.ev.0._")
	if err != nil {
		t.Fatal(err)
	}
	from, err1 := hlc.Parse(m.Header.Get("Reprise-Gap-From"))
	to, err2 := hlc.Parse(m.Header.Get("Reprise-Gap-To"))
	if m.Header.Get("Reprise-Gap-User") != userN(0) || err1 != nil || err2 != nil || from >= to || to.Time().After(began.Add(time.Second)) {
		t.Errorf("marker %v, want the bounds of user %s's gap, before %v", m.Header, userN(0), began)
	}
}

// TestNoHistory is a keyset without persistence: everybody has a gap.
func TestNoHistory(t *testing.T) {
	t.Parallel()
	r := gapRig(t, 1, pubnubtest.Config{NoHistory: true})
	r.follow()
	stop := r.start()
	r.publishNumbered(0, 10, 2)
	since := r.events(10)[9].Hlc
	stop()
	r.publishNumbered(10, 500, 2)
	r.start()
	r.events(100)
	r.settled()
	r.noMore(userN(0))
	for _, user := range []string{userN(0), userN(5)} {
		if got := r.resume(user, since); got != stream.UpstreamGap {
			t.Errorf("Resume(%s) = %q, want %q", user, got, stream.UpstreamGap)
		}
	}
	r.publishNumbered(0, 4, 2)
	now := r.events(4)[3].Hlc
	if got := r.resume(userN(0), now); got != stream.Complete {
		t.Errorf("Resume() from after the gap = %q, want complete", got)
	}
}

// TestReconcile lets the queue drop messages without a sign, and compares
// history with the log over and over, with a deduplication window of a moment, by
// a bridge that remembers no id: what was dropped comes once, and nothing twice.
func TestReconcile(t *testing.T) {
	t.Parallel()
	r := gapRig(t, 2, pubnubtest.Config{RoundTrip: 20 * time.Millisecond}) // a burst comes between two polls
	r.follow()
	r.window(100 * time.Millisecond)
	r.cfg.ReconcileEvery = 300 * time.Millisecond
	stop := r.start()
	r.publishNumbered(0, 9, 3)
	all := r.events(9)
	hit := r.pubnub.Inject(pubnubtest.Fault{Kind: pubnubtest.Overflow, N: 2})
	r.publishNumbered(9, 3, 3) // ends polls from before the fault, which could take a whole burst
	if err := hit.WaitHits(testContext(t), 1); err != nil {
		t.Fatal(err)
	}
	r.publishNumbered(12, 78, 3)
	r.pubnub.Publish("user."+testUser+".sync", []byte(`"bad"`))
	numbers := make(map[string]int)
	for _, rec := range append(all, r.events(81)...) {
		numbers[rec.ID]++
	}
	if len(numbers) != 90 {
		t.Errorf("%d different events, want 90", len(numbers))
	}
	hit.Clear()
	r.dead(1)
	stop()
	// Other users' events drive these out of the next writer's memory, too.
	w, err := r.log.Acquire(testContext(t), r.log.Shard(userN(0)))
	if err != nil {
		t.Fatal(err)
	}
	crowd := userN(0)[:35] + "f"
	for n := 0; r.log.Shard(crowd) != w.Shard(); n++ {
		crowd = userN(1000 + n)
	}
	for n := range 2000 {
		ev := stream.Event{ID: fmt.Sprint("crowd:", n), User: crowd, Frame: []byte(`{"hlc":"0000000000000000"}`), StampAt: 8}
		if err := w.Append(testContext(t), ev); err != nil {
			t.Fatal(err)
		}
	}
	mark, err := w.Bookmark(testContext(t), "")
	if err != nil {
		t.Fatal(err)
	}
	at := mark.Saved()
	if err := mark.Save(testContext(t), at.Timetoken, at.Region, at.Note); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(testContext(t)); err != nil {
		t.Fatal(err)
	}
	r.events(2000)
	filled := r.b.Stats().Filled
	stop = r.start()
	before := r.requests(pubnubtest.MessageCounts)
	if !until(patience, func() bool { return r.requests(pubnubtest.MessageCounts) >= before+10 }) {
		t.Fatal("history is not compared again and again")
	}
	r.noMore(userN(0))
	stop()
	if s := r.b.Stats(); s.Stored != 1 || s.Filled != 0 || s.Gaps != 0 || s.Dead != 0 || filled == 0 {
		t.Errorf("%d events came from history at first; then Stats() = %+v, want some, and then one event stored and nothing else", filled, s)
	}
}

// requests counts what the emulator was asked.
func (r *rig) requests(e pubnubtest.Endpoint) (n int) {
	for _, q := range r.pubnub.Journal() {
		if q.Endpoint == e {
			n++
		}
	}
	return n
}

// TestFillIsResumed stops the bridge again and again while it reads history:
// the next one goes on, and nothing is lost, doubled or out of order.
func TestFillIsResumed(t *testing.T) {
	t.Parallel()
	r := gapRig(t, 1, pubnubtest.Config{})
	r.follow()
	const users = 90
	stop := r.start()
	r.publishNumbered(0, users, users)
	all := r.events(users)
	stop()
	r.publishNumbered(users, 10*users, users)
	slow := r.pubnub.Inject(pubnubtest.Fault{Kind: pubnubtest.Hold, Endpoint: pubnubtest.History, Delay: 5 * time.Millisecond})
	for round := range 4 {
		asked := slow.Hits()
		stop := r.start()
		if err := slow.WaitHits(testContext(t), asked+20); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		stop()
	}
	r.start()
	checkNumbered(t, append(all, r.events(10*users)...), 11*users)
	r.settled()
	r.noMore(userN(0))
	if s := r.b.Stats(); s.Gaps != 0 {
		t.Errorf("Stats() = %+v, want no gap", s)
	}
}

// TestOldCheckpoint starts from a cursor that PubNub's queue need not reach
// back to any more: history is read although no page is full.
func TestOldCheckpoint(t *testing.T) {
	t.Parallel()
	r := gapRig(t, 1, pubnubtest.Config{QueueAge: 50 * time.Millisecond})
	r.cfg.SafeAge = 100 * time.Millisecond
	r.follow()
	stop := r.start()
	r.publishNumbered(0, 10, 2)
	all := r.events(10)
	stop()
	r.publishNumbered(10, 40, 2)
	old, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	<-old.Done() // the emulator's clock is the wall's
	r.start()
	r.publishNumbered(50, 10, 2)
	checkNumbered(t, append(all, r.events(50)...), 60)
	r.settled()
	r.noMore(userN(0))
}

// TestStopWhileHeld stops while history does not answer: what is held back is
// not lost, since the checkpoint stays before it.
func TestStopWhileHeld(t *testing.T) {
	t.Parallel()
	r := gapRig(t, 1, pubnubtest.Config{})
	r.follow()
	stop := r.start()
	r.publishNumbered(0, 10, 2)
	all := r.events(10)
	stop()
	r.publishNumbered(10, 500, 2)
	down := r.pubnub.Inject(pubnubtest.Fault{Kind: pubnubtest.Status, Status: 503, Endpoint: pubnubtest.MessageCounts})
	stop = r.start()
	if err := down.WaitHits(testContext(t), 2); err != nil {
		t.Fatal(err)
	}
	r.publishNumbered(510, 20, 2)
	stop()
	down.Clear()
	r.start()
	checkNumbered(t, append(all, r.events(520)...), 530)
	r.settled()
	r.noMore(userN(0))
}
