package bridge

import (
	"context"
	"slices"
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
	// floodQuiet is how long after a full page nothing must have come for the
	// stream of full pages to be over.
	floodQuiet = 500 * time.Millisecond
	// spoiltMost is how many bad replies in a row make history be asked.
	spoiltMost = 3
)

// flood watches for signs that PubNub's queue has dropped something. A full
// page is one, but only at the end of a stream of full pages is history asked:
// while they come, they may be a backlog that is all there. What comes
// meanwhile is held back, within bounds, so that what was dropped can be put
// before it.
type flood struct {
	troubled func() bool // the last poll has failed

	mu     sync.Mutex // the end may come from the timer
	from   cursor     // before the first full page; zero when there is no flood
	since  time.Time
	count  int
	held   bool
	tracks []*track
	quiet  *time.Timer
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
		owe(tracks, p.prev, whyOutage, true)
	case p.spoilt >= spoiltMost:
		owe(tracks, p.prev, whySpoilt, true)
	}
	full := len(p.messages) >= fullPage
	if full {
		b.inst.full(context.Background())
		b.cfg.Logger.Debug("a full page: PubNub may have dropped older events", "messages", len(p.messages))
	}
	switch {
	case full && f.from.isZero():
		f.from, f.since, f.count, f.held, f.tracks = p.prev, time.Now(), len(p.messages), true, slices.Clone(tracks)
		for _, t := range tracks {
			t.holdBack(true)
		}
		f.quiet = time.AfterFunc(floodQuiet, f.end)
	case full:
		f.count += len(p.messages)
		f.quiet.Reset(floodQuiet)
		if f.held && (f.count > floodMost || time.Since(f.since) > floodHold) {
			f.held = false
			for _, t := range f.tracks {
				t.holdBack(false)
			}
		}
	case !f.from.isZero():
		f.over()
	}
}

// join has a track that is new share in a flood that goes on.
func (f *flood) join(t *track) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.from.isZero() {
		return
	}
	if at := t.cursor(); olderTimetoken(at.timetoken, f.from.timetoken) {
		f.from = at
	}
	f.tracks = append(f.tracks, t)
	if f.held {
		t.holdBack(true)
	}
}

// end is the timer's.
func (f *flood) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.from.isZero():
	case f.troubled(): // no page came because none could
		f.quiet.Reset(floodQuiet)
	default:
		f.over()
	}
}

// over ends the flood. Called with mu held.
func (f *flood) over() {
	f.quiet.Stop()
	owe(f.tracks, f.from, whyFlood, f.held)
	if f.held {
		for _, t := range f.tracks {
			t.holdBack(false)
		}
	}
	f.from, f.tracks = cursor{}, nil
}

// owe has tracks compare history with the log.
func owe(tracks []*track, from cursor, why string, hold bool) {
	for _, t := range tracks {
		t.owe(from.timetoken, why, hold)
	}
}
