package bridge

import (
	"context"
	"maps"
	"slices"
	"time"
)

const (
	// fillUsers is how many users are compared at a time: their channels are
	// counted in one request.
	fillUsers = maxCountChannels / 3
)

// want is a user whose history is wanted on its own, from a timetoken on.
type want struct {
	from string
	done func(ctx context.Context) error // called when it is in the log
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
	for n := 0; ; {
		err := t.fillOwed(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			t.b.cfg.Logger.Warn("history is not compared yet", "shard", t.shard.writer.Shard(), "err", err)
			if n++; !pause(ctx, n) {
				return
			}
			continue
		}
		n = 0
		select {
		case <-t.fillSoon:
		case <-tick:
			t.owe(timetokenAt(time.Now().Add(-2*max(every, time.Minute))), whyReconcile, false)
		case <-ctx.Done():
			return
		}
	}
}

// fillOwed compares until nothing is owed.
func (t *track) fillOwed(ctx context.Context) error {
	for {
		if err := t.fillWanted(ctx); err != nil {
			return err
		}
		t.mu.Lock()
		j := t.job
		t.mu.Unlock()
		if j == nil {
			return nil
		}
		if err := t.fillJob(ctx, j); err != nil {
			return err
		}
	}
}

// fillWanted compares users who were registered just now.
func (t *track) fillWanted(ctx context.Context) error {
	for {
		t.mu.Lock()
		batch := make(map[string]want)
		from := ""
		for user, w := range t.wanted {
			if len(batch) == fillUsers {
				break
			}
			batch[user] = w
			if from == "" || olderTimetoken(w.from, from) {
				from = w.from
			}
		}
		t.mu.Unlock()
		if len(batch) == 0 {
			return nil
		}
		// What comes after history was read must be handed out by the feed.
		select {
		case <-t.begun:
		case <-ctx.Done():
			return ctx.Err()
		}
		c := &comparison{t: t, from: from, why: whyNew}
		if err := c.compare(ctx, slices.Collect(maps.Keys(batch)), func(string) {}); err != nil && !refused(err) {
			return err
		}
		for user, w := range batch {
			if err := w.done(ctx); err != nil {
				return err
			}
			t.mu.Lock()
			delete(t.wanted, user)
			t.mu.Unlock()
		}
		kick(t.drainSoon)
	}
}

// fillJob carries out j, the track's job: users for whom something is held
// back first, and the others in order of their names.
func (t *track) fillJob(ctx context.Context, j *job) error {
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
	c := &comparison{t: t, from: j.From, why: j.Why, evidence: j.Why != whyReconcile, trusting: j.Why == whyFlood || j.Why == whyReconcile}
	t.mu.Unlock()
	if c.dead, err = t.b.cfg.Log.BuriedSince(ctx, timeOf(j.From).Add(-lookBack)); err != nil {
		return err
	}
	for {
		batch, last := t.nextUsers(j)
		if len(batch) == 0 {
			break
		}
		if !t.isJob(j) {
			return nil // another one has taken its place
		}
		if err := c.compare(ctx, batch, func(user string) { t.did(j, user) }); refused(err) {
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
	return c.end(ctx, j)
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
	first, found := slices.BinarySearch(j.all, j.After)
	if found {
		first++
	}
	for _, user := range j.all[first:] {
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

// did notes that user is done: nothing of theirs waits any more.
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
	for user := range j.ahead {
		if _, listed := slices.BinarySearch(j.all, user); listed && user <= j.After {
			delete(j.ahead, user)
		}
	}
	kick(t.saveSoon)
}
