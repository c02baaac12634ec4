package bridge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"reprise/stream"
)

const (
	// holdFor is for how long something is held back at most while history is asked.
	holdFor = 30 * time.Second
	// frailStarts is how many starts in a row at one cursor make a bridge hold
	// nothing back: what is held keeps the cursor where it is, and whoever dies
	// before it is let go would never come farther.
	frailStarts = 3
)

// Why history is asked. The words stand in metrics and log lines.
const (
	whyFlood     = "flood"     // PubNub's queue may have overflowed
	whyOutage    = "outage"    // the cursor is older than PubNub's queue is sure to reach
	whySpoilt    = "spoilt"    // good replies were bad for a while
	whyLost      = "lost"      // the log lost its end, with a disk or to a backup
	whyNew       = "new"       // the user was registered just now
	whyReconcile = "reconcile" // from time to time
)

// stretch is a part of what PubNub has, by timetokens: what is newer than From,
// up to To. An empty To is open.
type stretch struct {
	From string `json:"from"`
	To   string `json:"to,omitempty"`
}

// with is the shortest stretch that holds both.
func (s stretch) with(o stretch) stretch {
	to := s.To
	if to == "" || o.To == "" {
		to = ""
	} else if olderTimetoken(to, o.To) {
		to = o.To
	}
	return stretch{oldestTimetoken(s.From, o.From), to}
}

// has tells whether a timetoken is in s, its bounds included.
func (s stretch) has(timetoken string) bool {
	return timetoken != "" && !olderTimetoken(timetoken, s.From) && (s.To == "" || !olderTimetoken(s.To, timetoken))
}

// behind is up to where messages may be that came with a cursor.
func behind(timetoken string) string { return timetokenAt(timeOf(timetoken).Add(messageSkew)) }

// job is one comparison of PubNub's history with the log: of every user, or
// from where an interrupted one stopped. Guarded by the track's mu.
type job struct {
	stretch
	Why   string `json:"why"`             // what made it necessary
	After string `json:"after,omitempty"` // users up to here are done
	Seen  int    `json:"seen,omitempty"`  // how many those are
	Quiet bool   `json:"quiet,omitempty"` // nothing is held back meanwhile
	Again *job   `json:"again,omitempty"` // when done, this is to be done

	hold    bool      // what comes for users who are not done is held back
	due     time.Time // not before; zero is at once
	confirm bool      // all was compared once, some seconds ago

	all   []string            // every user, in order; nil before the job has begun here
	ahead map[string]struct{} // users that are done besides those of all up to After
}

func newJob(s stretch, why string, hold bool) *job {
	return &job{stretch: s, Why: why, hold: hold, Quiet: !hold, ahead: make(map[string]struct{})}
}

// strictness orders what makes history asked: how much is made of what it does
// not have.
var strictness = map[string]int{whyReconcile: 0, whyNew: 1, whyFlood: 2, whySpoilt: 3, whyOutage: 3, whyLost: 3}

// and is what does for j as well as for another job.
func (j *job) and(s stretch, why string, hold bool) *job {
	if strictness[j.Why] > strictness[why] {
		why = j.Why
	}
	return newJob(j.with(s), why, hold || j.hold)
}

// oldestTimetoken is the oldest of some, "" where there is none; "" counts for
// none.
func oldestTimetoken(all ...string) (oldest string) {
	for _, t := range all {
		if t != "" && (oldest == "" || olderTimetoken(t, oldest)) {
			oldest = t
		}
	}
	return oldest
}

func (j *job) done(user string) bool {
	if _, ok := j.ahead[user]; ok {
		return true
	}
	if user > j.After {
		return false
	}
	_, ok := slices.BinarySearch(j.all, user) // else somebody who is new
	return ok
}

// record is what is kept of a track beside its cursor, as a checkpoint's note.
type record struct {
	cursor cursor
	note   json.RawMessage
}

// note is the note of a checkpoint.
type note struct {
	// High is the greatest timetoken that a page ended with, where that is beyond
	// the cursor: messages up to there may be stored already.
	High string `json:"high,omitempty"`
	// Filled is the greatest timetoken that history gave, likewise.
	Filled string `json:"filled,omitempty"`
	Job    *job   `json:"job,omitempty"`
	// Flood is where full pages began whose end has not come.
	Flood string `json:"flood,omitempty"`
	// Doubt is from where on, within a day, PubNub's queue may have dropped
	// something. A user of whom the log did not know then may be concerned.
	Doubt string `json:"doubt,omitempty"`
	// Starts is how many bridges have begun at this cursor, the last of which may
	// live.
	Starts int `json:"starts,omitempty"`
}

// restore reads what was saved of the track.
func (t *track) restore() error {
	saved := t.mark.Saved()
	if saved.Timetoken == "" {
		return nil
	}
	timetoken, ok := canonical(saved.Timetoken)
	if !ok {
		return fmt.Errorf("bridge: checkpoint of shard %d: no timetoken", t.shard.writer.Shard())
	}
	var n note
	if len(saved.Note) > 0 {
		if err := json.Unmarshal(saved.Note, &n); err != nil {
			return fmt.Errorf("bridge: checkpoint of shard %d: note: %w", t.shard.writer.Shard(), err)
		}
	}
	t.high, t.fills, t.doubt = timetoken, n.Filled, n.Doubt
	t.reach(cursor{timetoken, saved.Region})
	if olderTimetoken(t.high, n.High) {
		t.high = n.High
	}
	t.starts, t.startedAt = n.Starts+1, t.at
	if t.frail() {
		t.calmUntil = time.Now().Add(floodEvery)
	}
	kick(t.saveSoon)
	for j := n.Job; j != nil; j = j.Again {
		j.From = oldestTimetoken(j.From, timetoken) // what a new user waited for may have held the cursor
		j.Quiet = j.Quiet || t.calm()
		j.hold, j.ahead = !j.Quiet, make(map[string]struct{})
	}
	if n.Job != nil {
		t.start(n.Job)
	}
	if n.Flood != "" {
		// What was held back of it comes again.
		t.owe(stretch{n.Flood, behind(t.high)}, whyFlood, false)
	}
	return nil
}

// start makes j the track's job. What it holds back it holds back for some time
// only: history that does not answer must not silence everyone. Called with mu
// held, or before t is shared.
func (t *track) start(j *job) {
	t.job = j
	if j != nil && j.hold {
		time.AfterFunc(holdFor, func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			if t.job == j && j.hold && !t.ended() {
				t.stopHolding()
			}
		})
	}
}

// calm tells whether nothing is to be held back for jobs that is not held yet. Called with
// mu held, or before t is shared.
func (t *track) calm() bool { return time.Now().Before(t.calmUntil) }

// frail tells whether holding something back at this cursor may be what bridges die
// of. Called with mu held, or before t is shared.
func (t *track) frail() bool { return t.starts >= frailStarts && t.at == t.startedAt }

// flooding notes that full pages have begun to come.
func (t *track) flooding(from string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flood = oldestTimetoken(from, t.flood)
}

// owe has the history after a timetoken compared with the log. With hold, what
// comes for users who are not done is held back meanwhile.
func (t *track) owe(s stretch, why string, hold bool) {
	t.mu.Lock()
	if why != whyReconcile {
		t.doubt = oldestTimetoken(s.From, t.doubt)
	}
	if why == whyFlood {
		t.flood = "" // it is owed from here on
	}
	hold = hold && !t.calm()
	switch j := t.job; {
	case j == nil:
		t.start(newJob(s, why, hold))
	case why == whyReconcile: // what is being done does for that
	case j.Why == whyReconcile:
		t.start(newJob(s, why, hold))
	case hold && !j.hold, strictness[why] > strictness[j.Why]:
		// What comes must be held back from now on, or more be made of what is
		// missing: begin anew.
		again := j.and(s, why, hold)
		if j.Again != nil {
			again = again.and(j.Again.stretch, j.Again.Why, j.Again.hold)
		}
		t.start(again)
	case j.Again != nil:
		j.Again = j.Again.and(s, why, hold)
	default:
		j.Again = newJob(s, why, hold)
	}
	t.mu.Unlock()
	if why != whyReconcile {
		t.b.cfg.Logger.Info("comparing history with the log", "shard", t.shard.writer.Shard(), "lane", t.lane, "why", why, "since", timeOf(s.From))
	}
	kick(t.fillSoon)
	kick(t.saveSoon)
}

// state is what has to be saved now. Called with mu held.
func (t *track) state() (record, error) {
	for len(t.pages) > 0 && t.pages[0].n == 0 && t.pages[0] != t.page {
		t.pages = t.pages[1:]
	}
	at := t.at
	for _, p := range t.pages {
		if p.n > 0 {
			at = p.prev
			break
		}
	}
	if t.doubt != "" && time.Since(timeOf(t.doubt)) > anchorAge {
		t.doubt = ""
	}
	n := note{Job: t.job, Flood: t.flood, Doubt: t.doubt}
	if at == t.startedAt {
		n.Starts = t.starts
	}
	if olderTimetoken(at.timetoken, t.high) {
		n.High = t.high
	}
	if olderTimetoken(at.timetoken, t.fills) {
		n.Filled = t.fills
	}
	if n == (note{}) {
		return record{cursor: at}, nil
	}
	text, err := json.Marshal(n)
	return record{at, text}, err
}

// save saves the track's cursor and what it owes, if either has changed.
func (t *track) save(ctx context.Context) error {
	t.saving.Lock()
	defer t.saving.Unlock()
	t.mu.Lock()
	now, err := t.state()
	before := t.last
	t.mu.Unlock()
	if err != nil || now.cursor.isZero() || now.cursor == before.cursor && bytes.Equal(now.note, before.note) {
		return err
	}
	if err := t.mark.Save(ctx, now.cursor.timetoken, now.cursor.region, now.note); err != nil {
		return fmt.Errorf("bridge: save shard %d: %w", t.shard.writer.Shard(), err)
	}
	t.mu.Lock()
	t.last = now
	t.mu.Unlock()
	t.shard.account(ctx)
	return nil
}

// saveEvery is how often a cursor is saved at most. A crash repeats what came
// since then.
const saveEvery = 20 * time.Millisecond

// saver saves behind what is stored, until ctx ends.
func (t *track) saver(ctx context.Context) {
	for {
		select {
		case <-t.saveSoon:
		case <-ctx.Done():
			return
		}
		if err := t.save(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, stream.ErrDeposed) && !errors.Is(err, stream.ErrClosed) {
			t.b.cfg.Logger.Warn("checkpoint not saved", "err", err)
		}
		if sleep(ctx, saveEvery) != nil {
			return
		}
	}
}
