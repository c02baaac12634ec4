package bridge

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"reprise/stream"
)

const (
	// fillUsers is how many users are compared in one go: their channels are
	// counted in one request.
	fillUsers = maxCountChannels / 3
	// activeMost bounds the events that are looked through for users who should
	// have something in history. Beyond it the oldest of them count.
	activeMost = 200_000
)

// want is a user whose history is wanted on its own. It is read twice: at once,
// and again when PubNub's history has had the time to show what was published
// before. Guarded by the track's mu.
type want struct {
	from   string
	done   func(ctx context.Context) error // called when all of it is in the log
	joined bool                            // the feed hands out what comes
	hold   bool                            // what comes is held back
	looked time.Time                       // when history was read first; zero is not yet
}

// filler compares history with the log whenever that is owed, until ctx ends.
func (t *track) filler(ctx context.Context) {
	every := t.b.cfg.ReconcileEvery
	var tick <-chan time.Time
	if every > 0 {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		tick = ticker.C
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for fails := 0; ; {
		select {
		case <-t.fillSoon:
		case <-timer.C:
		case <-tick:
			t.owe(stretch{From: timetokenAt(time.Now().Add(-2 * max(every, time.Minute)))}, whyReconcile, false)
		case <-ctx.Done():
			return
		}
		wait, err := t.fillDue(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			t.b.cfg.Logger.Warn("history is not compared yet", "shard", t.shard.writer.Shard(), "lane", t.lane, "err", err)
			pause(ctx, fails)
			fails++
			kick(t.fillSoon)
		default:
			fails = 0
			timer.Reset(wait)
		}
	}
}

// fillDue compares what is due, and returns when more of it will be.
func (t *track) fillDue(ctx context.Context) (wait time.Duration, err error) {
	for {
		wait, err := t.fillWanted(ctx)
		t.mu.Lock()
		j := t.job
		t.mu.Unlock()
		switch {
		case j == nil:
			return wait, err
		case time.Until(j.due) > 0:
			return min(wait, time.Until(j.due)), err
		}
		if err := errors.Join(err, t.fillJob(ctx, j)); err != nil {
			return 0, err
		}
	}
}

// isNew tells whether user's history is wanted and has not been read.
func (t *track) isNew(user string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.wanted[user]
	return w != nil && w.looked.IsZero()
}

// fillWanted compares users who were registered just now, as far as that is
// due, and returns when more of it will be.
func (t *track) fillWanted(ctx context.Context) (wait time.Duration, err error) {
	wait = time.Hour
	for ctx.Err() == nil {
		t.mu.Lock()
		batch := make(map[string]*want)
		from := ""
		for user, w := range t.wanted {
			switch due := time.Until(w.looked.Add(historyLag)); {
			case !w.joined:
			case due > 0:
				wait = min(wait, due)
			case len(batch) < fillUsers:
				batch[user], from = w, oldestTimetoken(from, w.from)
			}
		}
		t.mu.Unlock()
		if len(batch) == 0 {
			return wait, err
		}
		// What comes after history was read must be handed out by the feed.
		select {
		case <-t.begun:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		began := time.Now()
		c := &comparison{t: t, stretch: stretch{From: from}, why: whyNew}
		if c.dead, err = t.b.cfg.Log.BuriedSince(ctx, timeOf(from).Add(-lookBack)); err != nil {
			return 0, err
		}
		if err := c.compare(ctx, slices.Collect(maps.Keys(batch)), func(string) {}); err != nil && (ctx.Err() != nil || !refused(err)) {
			return 0, err
		}
		for user, w := range batch {
			t.mu.Lock()
			final := !w.looked.IsZero()
			w.hold = false
			if !final {
				w.looked = began
			}
			t.mu.Unlock()
			if !final {
				continue
			}
			// Another bridge's place for the user is as good: this one was deposed.
			if derr := w.done(ctx); derr != nil && !errors.Is(derr, stream.ErrReassigned) {
				err = derr
				continue
			}
			t.mu.Lock()
			if t.wanted[user] == w {
				delete(t.wanted, user)
			}
			t.mu.Unlock()
		}
		t.mu.Lock()
		t.answered()
		t.mu.Unlock()
		kick(t.drainSoon)
		if err != nil {
			return wait, err
		}
	}
	return wait, ctx.Err()
}

// fillJob carries out j, the track's job: users for whom something is held
// back first, and the others in order of their names.
func (t *track) fillJob(ctx context.Context, j *job) error {
	began := time.Now()
	if j.Why != whyReconcile {
		t.b.filling.Add(1)
		defer t.b.filling.Add(-1)
	}
	all, err := t.users(ctx)
	if err != nil {
		return err
	}
	if t.takesAnnouncements() {
		all = append(all, everyone)
	}
	t.mu.Lock()
	j.all = all
	if j.upTo(j.After) != j.Seen {
		j.After, j.Seen = "", 0 // there are others by now
	}
	c := &comparison{t: t, stretch: j.stretch, why: j.Why, evidence: j.Why != whyReconcile}
	t.mu.Unlock()
	if c.dead, err = t.b.cfg.Log.BuriedSince(ctx, timeOf(j.From).Add(-lookBack)); err != nil {
		return err
	}
	if c.evidence {
		if c.active, err = t.shard.writer.Active(ctx, timeOf(c.start()).Add(-keptBack), activeMost); err != nil {
			return err
		}
	}
	for {
		batch, last := t.nextUsers(j)
		if len(batch) == 0 {
			break
		}
		if !t.isJob(j) {
			return nil // another one has taken its place
		}
		if err := c.compare(ctx, batch, func(user string) { t.did(j, user) }); err != nil && ctx.Err() == nil && refused(err) {
			t.b.cfg.Logger.Error("PubNub does not give its history: what its queue has dropped is lost", "err", err)
			if c.evidence {
				if err := c.gap(ctx, "", time.Now()); err != nil {
					return err
				}
			}
			break
		} else if err != nil {
			return err
		}
		t.didAll(j, last)
	}
	if j.Why == whyFlood {
		t.mu.Lock()
		t.took = time.Since(began)
		t.mu.Unlock()
	}
	return c.end(ctx, j)
}

// upTo is how many of all there are up to user. Called with mu held.
func (j *job) upTo(user string) int {
	n, found := slices.BinarySearch(j.all, user)
	if found {
		n++
	}
	return n
}

func (t *track) isJob(j *job) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.job == j
}

// nextUsers is whom to compare next, and up to whom all are done then: "" where
// that does not change.
func (t *track) nextUsers(j *job) (batch []string, last string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if j.hold {
		for user := range t.held {
			if len(batch) < fillUsers && !j.done(user) {
				batch = append(batch, user)
			}
		}
	}
	for _, user := range j.all[j.upTo(j.After):] {
		if !j.done(user) && !slices.Contains(batch, user) {
			if len(batch) == fillUsers {
				break
			}
			batch = append(batch, user)
		}
		last = user
	}
	return batch, last
}

// did notes that user is done: nothing of theirs waits for the job any more.
func (t *track) did(j *job, user string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	j.ahead[user] = struct{}{}
	kick(t.drainSoon)
}

// didAll notes that everyone up to last is done.
func (t *track) didAll(j *job, last string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	j.After = max(j.After, last)
	j.Seen = j.upTo(j.After)
	for user := range j.ahead {
		if _, listed := slices.BinarySearch(j.all, user); listed && user <= j.After {
			delete(j.ahead, user)
		}
	}
	kick(t.saveSoon)
}
