package bridge

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	// fullPage is PubNub's queue length. A reply that long may be all that was
	// left of a longer one.
	fullPage = 100
	// floodHold and floodMost bound what is held back while full pages come: for
	// so long, and so many messages. Beyond that the pages are a backlog being
	// worked off, and go into the log as they come.
	floodHold = time.Second
	floodMost = 2000
	// floodQuiet is how many round trips to PubNub after a full page nothing must
	// have come for the stream of full pages to be over, within the bounds that
	// follow.
	floodQuiet    = 4
	floodQuietMin = 100 * time.Millisecond
	floodQuietMax = time.Second
	// floodSoon and floodEvery bound how long history is not asked again for
	// streams of full pages of which none looks as if something were missing. In
	// between it is asked again after floodShare times what asking took.
	floodSoon  = 5 * time.Second
	floodEvery = 15 * time.Second
	floodShare = 10
	// jumpSlack is how far timetokens may jump without meaning anything, in tenths
	// of microseconds: PubNub's own clocks are that far apart.
	jumpSlack = 1000
	// floodLapse is how long a break makes the next full page look suspicious.
	floodLapse = time.Second
	// spoiltMost is how many bad replies in a row make history be asked.
	spoiltMost = 3
)

// flood watches for signs that PubNub's queue has dropped something. A full
// page is one, but only at the end of a stream of full pages is history asked:
// while they come, they may be a backlog that is all there.
//
// Where something does look missing, what comes is held back, within bounds, so
// that what was dropped can be put before it: when the first page after a break
// is full, or begins far behind the cursor for how close its messages are.
type flood struct {
	troubled func() bool // the last poll has failed

	mu       sync.Mutex // the end may come from the timer
	armed    bool       // there was a break: the next page is the first one after it
	last     cursor     // behind the last page with messages
	lastAt   int64      // the timetoken of the last message of that page
	from     cursor     // before the first full page; zero when there is no flood
	to       cursor     // behind the last one
	since    time.Time
	count    int
	suspect  bool // something looks missing
	taking   bool // a full page is being taken
	held     bool
	tracks   []*track
	quiet    *time.Timer
	wait     time.Duration // quiet's
	verified time.Time     // when history was asked last for a flood without suspicion
	verify   stretch       // what it is to be asked about next; zero is nothing
	among    []*track      // by these
}

// page looks at a page that has come, before its messages are given to tracks.
func (f *flood) page(b *Bridge, p *page, tracks []*track) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p.prev.isZero() {
		return
	}
	switch {
	case p.lapse > b.cfg.SafeAge:
		owe(tracks, stretch{From: p.prev.timetoken}, whyOutage, true)
	case p.spoilt >= spoiltMost:
		owe(tracks, stretch{From: p.prev.timetoken}, whySpoilt, true)
	}
	suspect := f.jumped(p) || f.armed || p.lapse > floodLapse
	f.armed = false
	if len(p.messages) < fullPage {
		if !f.from.isZero() {
			f.over()
		}
		return
	}
	b.inst.full(context.Background())
	b.cfg.Logger.Debug("a full page: PubNub may have dropped older events", "messages", len(p.messages))
	if f.from.isZero() {
		f.from, f.count, f.suspect, f.held, f.tracks = p.prev, 0, false, false, slices.Clone(tracks)
		for _, t := range f.tracks {
			t.flooding(p.prev.timetoken)
		}
		f.wait = min(max(floodQuiet*p.trip, floodQuietMin), floodQuietMax)
	}
	f.taking, f.to = true, p.next
	if suspect && !f.suspect {
		f.suspect, f.held, f.since, f.count = true, true, time.Now(), 0
		f.hold(true)
	}
	if f.count += len(p.messages); f.held && (f.count > floodMost || time.Since(f.since) > floodHold) {
		f.held = false
		f.hold(false)
	}
}

// taken notes that the page has been taken: the next one is awaited from now on.
func (f *flood) taken() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.taking = false
	switch {
	case f.from.isZero():
	case f.quiet == nil:
		f.quiet = time.AfterFunc(f.wait, f.end)
	default:
		f.quiet.Reset(f.wait)
	}
}

// jumped tells whether a page begins farther behind what came before than two
// pages like it would reach, as it does where the queue has dropped many. Called
// with mu held, once for each page.
func (f *flood) jumped(p *page) bool {
	n := len(p.messages)
	before := f.last
	f.last = cursor{}
	if n == 0 {
		return false
	}
	ticks := func(timetoken string) int64 {
		t, _ := strconv.ParseInt(timetoken, 10, 64)
		return t
	}
	first, last := ticks(p.messages[0].timetoken), ticks(p.messages[n-1].timetoken)
	at := ticks(p.prev.timetoken)
	if before == p.prev {
		at = f.lastAt // timetokens of messages differ from cursors
	}
	f.last, f.lastAt = p.next, last
	return first-at > 2*max(0, last-first)+jumpSlack
}

// hold has what comes for the flood's tracks held back, or ends that. Called
// with mu held.
func (f *flood) hold(on bool) {
	for _, t := range f.tracks {
		t.holdBack(on)
	}
}

// join has a track that is new share in a flood that goes on, and be suspicious
// of the next one.
func (f *flood) join(t *track) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = true
	if f.from.isZero() {
		return
	}
	if at := t.cursor(); olderTimetoken(at.timetoken, f.from.timetoken) {
		f.from = at
	}
	f.tracks = append(f.tracks, t)
	t.flooding(f.from.timetoken)
	if f.held {
		t.holdBack(true)
	}
}

// end is the quiet timer's.
func (f *flood) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.from.isZero(), f.taking:
	case f.troubled(): // no page came because none could
		f.quiet.Reset(f.wait)
		if f.held && time.Since(f.since) > floodHold {
			f.held = false
			f.hold(false)
		}
	default:
		f.over()
	}
}

// over ends the flood. Called with mu held.
func (f *flood) over() {
	if f.quiet != nil {
		f.quiet.Stop()
	}
	was := stretch{f.from.timetoken, behind(f.to.timetoken)}
	switch {
	case f.suspect:
		owe(f.tracks, was, whyFlood, f.held)
		if f.held {
			f.hold(false)
		}
	case f.verify == stretch{}:
		f.verify, f.among = was, f.tracks
		time.AfterFunc(time.Until(f.verified.Add(floodSoon)), f.ask)
	default:
		f.verify, f.among = f.verify.with(was), f.tracks
	}
	f.from, f.tracks = cursor{}, nil
}

// verifyAfter is how long after a comparison for tracks the next one may begin.
func verifyAfter(tracks []*track) time.Duration {
	var took time.Duration
	for _, t := range tracks {
		t.mu.Lock()
		if took = max(took, t.took); t.job != nil && t.job.Why != whyReconcile && !t.job.confirm {
			took = floodEvery // it is still being done
		}
		t.mu.Unlock()
	}
	return min(max(floodSoon, floodShare*took), floodEvery)
}

// ask has history compared for the floods that have ended since the last time, if it is
// time.
func (f *flood) ask() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if wait := time.Until(f.verified.Add(verifyAfter(f.among))); wait > 0 {
		time.AfterFunc(min(wait, floodSoon), f.ask) // what is being done may be over before
		return
	}
	owe(f.among, f.verify, whyFlood, false)
	f.verify, f.among, f.verified = stretch{}, nil, time.Now()
}

// owe has tracks compare history with the log.
func owe(tracks []*track, s stretch, why string, hold bool) {
	for _, t := range tracks {
		t.owe(s, why, hold)
	}
}
