package bridge

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reprise/bridge/pubnubtest"
	"reprise/stream"
)

// bare is a bridge whose parts a test puts together by hand.
func (r *rig) bare() *Bridge {
	r.t.Helper()
	b, err := New(r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	b.transport = newTransport()
	r.t.Cleanup(b.transport.CloseIdleConnections)
	if b.calls, err = newCaller(callerConfig{origin: b.cfg.Origin, subscribeKey: b.cfg.SubscribeKey, publishKey: b.cfg.PublishKey,
		userID: b.cfg.UserID, failed: b.inst.callFailed}); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { b.calls.close() })
	return b
}

// writing has b write shard n.
func (r *rig) writing(b *Bridge, n int) *shard {
	r.t.Helper()
	w, err := r.log.Acquire(testContext(r.t), n)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { w.Close(context.Background()) })
	return &shard{b: b, writer: w, release: make(chan struct{})}
}

// tracking is a track as carryWildcard makes one.
func (r *rig) tracking(sh *shard) *track {
	r.t.Helper()
	mark, err := sh.writer.Bookmark(testContext(r.t), "")
	if err != nil {
		r.t.Fatal(err)
	}
	t, err := sh.b.newTrack(sh, "", mark, func(ctx context.Context) ([]string, error) { return r.log.Users(ctx, sh.writer.Shard()) })
	if err != nil {
		r.t.Fatal(err)
	}
	return t
}

// attached is a track that begins at a cursor, and the source whose pages it takes.
func (r *rig) attached(sh *shard, start cursor) (*track, *source) {
	r.t.Helper()
	t := r.tracking(sh)
	t.begin(start)
	f := sh.b.newSource(sh.b.cfg.Channels, nil, start)
	if err := f.attach(testContext(r.t), t); err != nil {
		r.t.Fatal(err)
	}
	return t, f
}

// runPart runs a part of a track until the test ends.
func runPart(t *testing.T, part func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); part(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

func ttNow(d time.Duration) string { return timetokenAt(time.Now().Add(d)) }

func note1(channel, timetoken string, n int) message {
	id := channel + ":" + timetoken
	return message{id: id, channel: channel, timetoken: timetoken, payload: fmt.Appendf(nil, `{"n":%d}`, n)}
}

// A track that could not be detached in time stays in its source. The shard's
// next track, in the same process, gets no message, and its checkpoint moves on.
func TestFoundStaleTrack(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, pubnubtest.Config{})
	b := r.bare()
	ctx := testContext(t)
	start := cursor{ttNow(-time.Second), 1}
	sh := r.writing(b, 0)
	first, f := r.attached(sh, start)
	f.guard.slot <- struct{}{} // a page is being stored: another shard's writer waits for the log
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if err := f.detach(short, first); err == nil {
		t.Fatal("detach() = nil while a page is in hand")
	}
	<-f.guard.slot
	sh.writer.Close(ctx)

	sh = r.writing(b, 0)
	second := r.tracking(sh)
	second.begin(start)
	if err := f.attach(ctx, second); err != nil {
		t.Fatal(err)
	}
	p := &page{prev: start, next: cursor{ttNow(0), 1}, messages: []message{note1("user."+userN(1)+".notifications", ttNow(-time.Millisecond), 1)}}
	if err := f.take(p); err != nil {
		t.Fatal(err)
	}
	kept, err := sh.writer.Since(ctx, userN(1), time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	if len(kept) != 1 && second.cursor() == p.next {
		t.Errorf("the page's cursor is taken and %d events are stored, want 1", len(kept))
	}
}

// The first users of a lane: history answers, the subscription does not yet.
func TestFoundLaneHistoryBeforeHandshake(t *testing.T) {
	t.Parallel()
	r := lanesRig(t, 2)
	r.follow()
	r.start() // shard 0 polls for announcements; shard 1 has no lane yet
	user := ""
	for i := 0; user == ""; i++ {
		if r.log.Shard(userN(i)) == 1 {
			user = userN(i)
		}
	}
	down := r.pubnub.Inject(pubnubtest.Fault{Kind: pubnubtest.Status, Status: 503, Endpoint: pubnubtest.Handshake})
	r.register(user)
	if err := down.WaitHits(testContext(t), 1); err != nil {
		t.Fatal(err)
	}
	r.pubnub.Publish("user."+user+".notifications", []byte(`{"n":0}`))
	hits := down.Hits()
	if err := down.WaitHits(testContext(t), hits+1); err != nil {
		t.Fatal(err)
	}
	down.Clear()
	ctx := testContext(t)
	if err := r.pubnub.WaitPolls(ctx, 2); err != nil {
		t.Fatal(err)
	}
	r.pubnub.Publish("user."+user+".notifications", []byte(`{"n":1}`))
	if rec := r.events(1)[0]; !strings.Contains(string(rec.Frame), `"n":0`) {
		t.Errorf("the first event is %s: the one from before the lane's first cursor is lost", rec.Frame)
	}
}

// A user's event from just before the registration is not in history yet when
// that is read, which is once.
func TestFoundLaneHistoryLag(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, pubnubtest.Config{HistoryDelay: 500 * time.Millisecond})
	r.cfg.Lanes, r.cfg.Channels, r.cfg.HistoryRate = true, []string{broadcastChannel}, 5000
	r.follow()
	r.start()
	r.pubnub.Publish("user."+userN(1)+".notifications", []byte(`{"n":0}`))
	r.register(userN(1))
	r.assigned(1)
	r.pubnub.Publish("user."+userN(1)+".notifications", []byte(`{"n":1}`))
	if rec := r.events(1)[0]; !strings.Contains(string(rec.Frame), `"n":0`) {
		t.Errorf("the first event is %s: the one before is lost", rec.Frame)
	}
}

// After a flood history is read at once; what the queue dropped is not there yet.
func TestFoundFloodHistoryLag(t *testing.T) {
	t.Parallel()
	r := gapRig(t, 1, pubnubtest.Config{RoundTrip: 20 * time.Millisecond, HistoryDelay: 2 * time.Second})
	r.follow()
	r.start()
	r.publishNumbered(0, 10, 2)
	all := r.events(10)
	timer := time.NewTimer(3 * time.Second) // history has these by then
	<-timer.C
	r.publishNumbered(10, 700, 2)
	for ctx := testContext(t); r.b.Stats().FullPages == 0 || r.anythingHeld(); {
		if ctx.Err() != nil {
			t.Fatal("history is compared for ever")
		}
		until(10*time.Millisecond, func() bool { return false })
	}
	r.events(710 - len(all))
	r.noMore(userN(0))
}

// A bridge that ends inside a flood, or soon after one without
// suspicion, forgets that history is to be compared.
func TestFoundFloodForgotten(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, pubnubtest.Config{})
	b := r.bare()
	ctx := testContext(t)
	sh := r.writing(b, 0)
	start := cursor{ttNow(-time.Second), 1}
	tr := r.tracking(sh)
	tr.begin(start)
	runPart(t, tr.drainer)
	f := b.newSource(b.cfg.Channels, nil, start)
	if err := f.attach(ctx, tr); err != nil {
		t.Fatal(err)
	}
	defer f.giveUp()
	// Thousands were dropped between the cursor and the first message.
	at := timeOf(start.timetoken).Add(500 * time.Millisecond)
	prev := start
	for range 25 {
		p := &page{prev: prev}
		for range fullPage {
			at = at.Add(100 * time.Microsecond)
			p.messages = append(p.messages, note1("user."+userN(1)+".notifications", timetokenAt(at), 0))
		}
		p.next = cursor{timetokenAt(at), 1}
		if err := f.take(p); err != nil {
			t.Fatal(err)
		}
		prev = p.next
	}
	f.flood.mu.Lock()
	suspect := f.flood.suspect
	f.flood.quiet.Stop() // the process is killed here, some moment before the flood's end
	f.flood.mu.Unlock()
	if !suspect {
		t.Fatal("the flood is not suspicious")
	}
	if !until(patience, func() bool { tr.mu.Lock(); defer tr.mu.Unlock(); return tr.count == 0 }) {
		t.Fatal("held for ever")
	}
	if err := tr.save(ctx); err != nil {
		t.Fatal(err)
	}
	next := r.tracking(sh) // what the next process reads
	if next.job == nil && next.doubt == "" && !olderTimetoken(next.at.timetoken, prev.timetoken) {
		t.Errorf("the checkpoint is behind the flood (%s), and no comparison is owed", next.at.timetoken)
	}
}

// An outage that is found while a reconciliation is owed (here: one that the
// process before was in the middle of) is compared as a reconciliation is:
// nobody looks whether history has it all.
func TestFoundOutageAsReconcile(t *testing.T) {
	t.Parallel()
	for _, why := range []string{"", whyReconcile} {
		t.Run("owed "+why, func(t *testing.T) {
			t.Parallel()
			r := gapRig(t, 1, pubnubtest.Config{QueueAge: 50 * time.Millisecond})
			r.cfg.SafeAge = 100 * time.Millisecond
			r.follow()
			stop := r.start()
			r.publishNumbered(0, 10, 2)
			since := r.events(10)[9].Hlc
			stop()
			if why != "" {
				w, err := r.log.Acquire(testContext(t), 0)
				if err != nil {
					t.Fatal(err)
				}
				mark, err := w.Bookmark(testContext(t), "")
				if err != nil {
					t.Fatal(err)
				}
				at := mark.Saved()
				if err := mark.Save(testContext(t), at.Timetoken, at.Region, fmt.Appendf(nil, `{"job":{"from":%q,"why":%q}}`, ttNow(-time.Hour), why)); err != nil {
					t.Fatal(err)
				}
				if err := w.Close(testContext(t)); err != nil {
					t.Fatal(err)
				}
			}
			r.publishNumbered(10, 40, 2)
			cut := r.pubnub.Publish("user."+userN(0)+".notifications", []byte(`{"n":25}`))
			r.pubnub.Forget("user."+userN(0)+".notifications", cut)
			timer := time.NewTimer(300 * time.Millisecond)
			<-timer.C
			r.start()
			r.settled()
			if got := r.resume(userN(0), since); got != stream.UpstreamGap {
				t.Errorf("Resume() = %q, want %q: 20 events are nowhere any more", got, stream.UpstreamGap)
			}
		})
	}
}

// A registration that somebody else has moved meanwhile: Assign never succeeds,
// and the filler does nothing else any more.
func TestFoundAssignConflict(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, pubnubtest.Config{})
	b := r.bare()
	ctx := testContext(t)
	r.register(userN(1))
	regs := make(chan stream.Registration, 16)
	go r.log.FollowRegistrations(ctx, 0, func(g stream.Registration) { regs <- g }, func() {})
	reg := <-regs
	if err := r.log.Assign(ctx, reg, 5); err != nil { // a bridge that was deposed in this moment
		t.Fatal(err)
	}
	sh := r.writing(b, 0)
	tr := r.tracking(sh)
	tr.begin(cursor{ttNow(-time.Second), 1})
	tr.want(userN(1), ttNow(-time.Minute), func(ctx context.Context) error { return r.log.Assign(ctx, reg, 7) })
	tr.joined(userN(1))
	tr.owe(stretch{From: ttNow(-time.Minute)}, whyOutage, true)
	runPart(t, tr.filler)
	if !until(patience, func() bool { tr.mu.Lock(); defer tr.mu.Unlock(); return len(tr.wanted) == 0 && tr.job == nil }) {
		t.Errorf("after %v %d users are wanted, and the comparison after an outage has not begun", patience, len(tr.wanted))
	}
}

// Equal numbers are not equal messages: one that was published without storing
// stands in for one that the queue has dropped.
func TestFoundCountsEqual(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, pubnubtest.Config{QueueSize: 1})
	r.cfg.ReconcileEvery, r.cfg.HistoryRate = 200*time.Millisecond, 1000
	r.follow()
	r.start()
	publish := func(n int, options ...pubnubtest.PublishOption) {
		r.pubnub.Publish("user."+userN(0)+".notifications", fmt.Appendf(nil, `{"n":%d}`, n), options...)
	}
	held := r.pubnub.Inject(pubnubtest.Fault{Kind: pubnubtest.Hold, Endpoint: pubnubtest.Poll, Times: 1})
	publish(0) // answers the poll that waits; the next one is held
	first := r.events(1)
	if err := held.WaitHits(testContext(t), 1); err != nil {
		t.Fatal(err)
	}
	publish(1)
	publish(2, pubnubtest.NoStore())
	held.Clear()
	for _, rec := range append(first, r.events(2)...) {
		t.Logf("%s", rec.Frame)
	}
	r.noMore(userN(0)) // three different ones: none comes twice
}

// An error while what was held back is put into the log: nobody tries again.
func TestFoundDrainNotRetried(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, pubnubtest.Config{})
	b := r.bare()
	ctx := testContext(t)
	sh := r.writing(b, 0)
	start := cursor{ttNow(-time.Second), 1}
	tr, f := r.attached(sh, start)
	tr.high = ttNow(time.Second) // the page may hold what is stored already
	tr.holdBack(true)
	p := &page{prev: start, next: cursor{ttNow(0), 1}, messages: []message{note1("user."+userN(1)+".notifications", ttNow(-time.Millisecond), 1)}}
	if err := f.take(p); err != nil {
		t.Fatal(err)
	}
	js := r.jetStream()
	direct := func(on bool) {
		s, err := js.Stream(ctx, "REPRISE_EVENTS_0")
		if err != nil {
			t.Fatal(err)
		}
		cfg := s.CachedInfo().Config
		cfg.AllowDirect = on
		if _, err := js.UpdateStream(ctx, cfg); err != nil {
			t.Fatal(err)
		}
	}
	direct(false) // for a moment no replica answers
	runPart(t, tr.drainer)
	tr.holdBack(false)
	until(time.Second, func() bool { return false })
	direct(true)
	if !until(5*time.Second, func() bool { tr.mu.Lock(); defer tr.mu.Unlock(); return tr.count == 0 }) {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		t.Errorf("5 s after the log answers again %d events are still held back, flooded %t, job %v", tr.count, tr.flooded, tr.job)
	}
}

// A token without a right to history: 403 for ever is never "refused".
func TestFoundForbiddenHistory(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, pubnubtest.Config{})
	b := r.bare()
	r.pubnub.Inject(pubnubtest.Fault{Kind: pubnubtest.Status, Status: 403, Endpoint: pubnubtest.MessageCounts})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // in place of historyPatience
	defer cancel()
	err := b.calls.retrying(ctx, "count history", b.historyRate, func(ctx context.Context) error {
		_, err := b.calls.counts(ctx, []string{"user." + userN(1) + ".sync"}, ttNow(-time.Minute))
		return err
	})
	if err == nil || !refused(err) {
		t.Errorf("refused(%v) = false: the comparison is repeated for ever, and everybody's events are held back", err)
	}
}

// Sixteen users whose channels PubNub refuses hold all places of the outbox.
func TestFoundOutboxRoom(t *testing.T) {
	t.Parallel()
	r := outboxRig(t, 1)
	r.follow()
	r.start()
	r.pubnub.Inject(pubnubtest.Fault{Kind: pubnubtest.Status, Status: 403, Endpoint: pubnubtest.Publish, Match: func(q pubnubtest.Request) bool {
		for n := range publishAtOnce {
			if strings.Contains(q.URI, userN(n)) {
				return true
			}
		}
		return false
	}})
	for n := range publishAtOnce {
		r.submit(update(userN(n), testDevice, n))
	}
	until(2*time.Second, func() bool { return false })
	r.submit(update(userN(publishAtOnce), testDevice, 1))
	if !until(15*time.Second, func() bool { return len(r.seen) > 0 }) {
		t.Error("an update of a user whom PubNub does not refuse waits for 15 s")
	}
}

// What a flood holds back stays held back for as long as PubNub is down.
func TestFoundFloodHeldWhileDown(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, pubnubtest.Config{})
	b := r.bare()
	sh := r.writing(b, 0)
	start := cursor{ttNow(-time.Second), 1}
	tr, f := r.attached(sh, start)
	runPart(t, tr.drainer)
	p := &page{prev: start, next: cursor{ttNow(0), 1}}
	for i := range fullPage {
		p.messages = append(p.messages, note1("user."+userN(1)+".notifications", ttNow(time.Duration(i-fullPage)*time.Millisecond), i))
	}
	if err := f.take(p); err != nil {
		t.Fatal(err)
	}
	f.guard.troubled.Store(true) // from now on no poll has a reply
	if !until(4*floodHold, func() bool { tr.mu.Lock(); defer tr.mu.Unlock(); return tr.count == 0 }) {
		t.Errorf("%d events are held back after %v, want %v at most", tr.count, 4*floodHold, floodHold)
	}
}

// Messages that are not stored: the queue has dropped some for good, and nobody
// is told.
func TestFoundNothingStored(t *testing.T) {
	t.Parallel()
	r := gapRig(t, 1, pubnubtest.Config{QueueAge: 50 * time.Millisecond})
	r.cfg.SafeAge = 100 * time.Millisecond
	r.follow()
	stop := r.start()
	publish := func(n int) {
		for i := range n {
			r.pubnub.Publish("user."+userN(0)+".notifications", fmt.Appendf(nil, `{"n":%d}`, i), pubnubtest.NoStore())
		}
	}
	publish(10)
	since := r.events(10)[9].Hlc
	stop()
	publish(40)
	timer := time.NewTimer(300 * time.Millisecond)
	<-timer.C
	r.start()
	r.settled()
	if got := r.resume(userN(0), since); got != stream.UpstreamGap {
		t.Errorf("Resume() = %q, want %q: 40 events are nowhere any more", got, stream.UpstreamGap)
	}
}

// A comparison was interrupted; a user who was registered since then, with a
// name before those that were done, counts as done.
func TestFoundResumedPastNewUser(t *testing.T) {
	t.Parallel()
	r := gapRig(t, 1, pubnubtest.Config{})
	r.follow()
	stop := r.start()
	r.publishNumbered(100, 10, 100) // users 0 to 9
	r.events(10)
	stop()
	from := ttNow(0)
	newcomer := "00000000-0000-4000-8000-" + "00000000000a"
	done := "00000000-0000-4000-8000-" + "0000000000ff"
	w, err := r.log.Acquire(testContext(t), 0)
	if err != nil {
		t.Fatal(err)
	}
	r.pubnub.Publish("user."+newcomer+".notifications", []byte(`{"n":0}`)) // dropped by the queue
	mark, err := w.Bookmark(testContext(t), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := mark.Save(testContext(t), ttNow(0), 1, fmt.Appendf(nil, `{"job":{"from":%q,"why":"outage","after":%q},"doubt":%q}`, from, done, from)); err != nil {
		t.Fatal(err)
	}
	w.Close(testContext(t))
	r.register(newcomer) // and the process that follows registrations ends before history was read
	r.start()
	r.settled()
	r.pubnub.Publish("user."+newcomer+".notifications", []byte(`{"n":1}`))
	if rec := r.events(1)[0]; !strings.Contains(string(rec.Frame), `"n":0`) {
		t.Errorf("the newcomer's first event is %s: history was not read for that user", rec.Frame)
	}
}

// An update's echo that comes twice, of which neither says that it was repeated
// (a bridge was paused between its look into the log and its publish), is
// stored twice when the first lies far back.
func TestFoundEchoTwice(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, pubnubtest.Config{})
	r.window(200 * time.Millisecond)
	r.follow()
	r.start()
	u := update(userN(0), testDevice, 1)
	meta := pubnubtest.Meta(updateMeta(updateID(u.User, u.Device, u.ID)))
	r.pubnub.Publish(u.Channel, u.Body, meta)
	r.events(1)
	r.publishNumbered(0, 9000, 9)
	r.events(9000)
	r.pubnub.Publish(u.Channel, u.Body, meta)
	r.noMore(userN(0))
}

// The log does not answer for an hour, with a page in hand: the poll after it is
// asked with a cursor that is an hour old, and nobody notices.
func TestFoundStoreOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		next := tt1
		g := newGuarded(t, cursor{tt1, 1}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next = nextTimetoken(next)
			io.WriteString(w, reply(next, 1))
		}))
		store := g.store
		g.store = func(p *page) error {
			if len(g.stored) == 0 {
				time.Sleep(time.Hour) // Writer.Flush waits out a log that does not answer
			}
			return store(p)
		}
		for range 2 {
			if _, err := g.ask(t.Context(), g.at); err != nil {
				t.Fatal(err)
			}
		}
		if len(g.stored) != 2 || g.stored[1].lapse < 59*time.Minute {
			t.Errorf("the page after the outage has a lapse of %v, want an hour: its cursor is that old", g.stored[1].lapse)
		}
	})
}
