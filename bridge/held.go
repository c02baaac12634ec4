package bridge

import (
	"context"
	"slices"
)

// hold holds it back if its user is to wait, and reports whether it did. When
// there is too much it waits until there is room: nothing is held back for
// history any more then.
func (t *track) hold(ctx context.Context, it *item) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held[it.user] == nil && !t.holding(it.user) {
		return false
	}
	for t.count >= heldMost || t.bytes >= heldBytes {
		t.stopHolding()
		if ctx.Err() != nil || t.ended() {
			t.dropped = true
			return true
		}
		stop := context.AfterFunc(ctx, t.wake)
		t.room.Wait()
		stop()
	}
	u := t.held[it.user]
	if u == nil {
		u = &heldUser{}
		t.held[it.user] = u
	}
	if t.page.n == 0 && (len(t.pages) == 0 || t.pages[len(t.pages)-1] != t.page) {
		t.pages = append(t.pages, t.page)
	}
	t.page.n++
	u.items = append(u.items, heldItem{*it, t.page})
	t.count++
	t.bytes += it.size
	if !t.holding(it.user) {
		kick(t.drainSoon) // holding ended while there was no room
	}
	return true
}

// wake has whoever waits for room look again. It takes mu: a broadcast between
// somebody's look at the context and the beginning of their wait would be lost.
func (t *track) wake() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.room.Broadcast()
}

// holding says whether what comes for user has to wait. Called with mu held.
func (t *track) holding(user string) bool {
	if t.flooded {
		return true
	}
	if w := t.wanted[user]; w != nil && w.hold {
		return true
	}
	return t.job != nil && t.job.hold && !t.job.done(user)
}

// holdBack holds everything back, unless the last time was for nothing and not
// long ago, or ends that.
func (t *track) holdBack(on bool) {
	t.mu.Lock()
	t.flooded = on && !t.calm()
	t.mu.Unlock()
	kick(t.drainSoon)
	kick(t.fillSoon)
}

// stopHolding lets everything go into the log as it came. Called with mu held.
func (t *track) stopHolding() {
	if t.flooded || t.job != nil && t.job.hold {
		t.b.inst.overheld(context.Background())
		t.b.cfg.Logger.Warn("too much is held back for history, going on without", "shard", t.shard.writer.Shard(), "held", t.count)
	}
	t.flooded = false
	if t.job != nil {
		t.job.hold = false
	}
	for _, w := range t.wanted {
		w.hold = false
	}
	kick(t.drainSoon)
}

// drainer puts into the log what needs to wait no longer.
func (t *track) drainer(ctx context.Context) {
	defer context.AfterFunc(ctx, t.wake)()
	for fails := 0; ; {
		select {
		case <-t.drainSoon:
		case <-ctx.Done():
			return
		}
		for {
			t.mu.Lock()
			var user string
			found := false
			for name, u := range t.held {
				if !u.busy && !t.holding(name) {
					user, found, u.busy = name, true, true
					break
				}
			}
			t.mu.Unlock()
			if !found {
				break
			}
			if err := t.drain(ctx, user); err == nil {
				fails = 0
			} else if ctx.Err() == nil {
				t.b.cfg.Logger.Warn("what was held back is not stored yet", "shard", t.shard.writer.Shard(), "user", user, "err", err)
				pause(ctx, fails)
				fails++
			} else {
				return
			}
		}
	}
}

// drain puts what is held back of user into the log, until nothing is. The
// caller has marked the user busy. After an error the rest stays.
func (t *track) drain(ctx context.Context, user string) error {
	for {
		t.mu.Lock()
		u := t.held[user]
		if len(u.items) == 0 {
			delete(t.held, user)
			t.room.Broadcast()
			t.mu.Unlock()
			return nil
		}
		items := make([]item, len(u.items))
		for i := range items {
			items[i] = u.items[i].item
		}
		t.mu.Unlock()
		if err := t.putHeld(ctx, user, items); err != nil {
			t.release(user)
			return err
		}
		t.taken(user, len(items))
	}
}

// putHeld hands what was held back of a user to the log.
func (t *track) putHeld(ctx context.Context, user string, items []item) error {
	if slices.ContainsFunc(items, func(it item) bool { return it.repeated }) {
		_, err := t.putAll(ctx, user, items) // the log is looked through once, not for each
		return err
	}
	for i := range items {
		if err := t.put(ctx, &items[i]); err != nil {
			return err
		}
	}
	return nil
}

// claim marks user as being put into the log by the caller, who releases the
// user by drain or release.
func (t *track) claim(ctx context.Context, user string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.held[user] != nil && t.held[user].busy {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		stop := context.AfterFunc(ctx, t.wake)
		t.room.Wait()
		stop()
	}
	if t.held[user] == nil {
		t.held[user] = &heldUser{}
	}
	t.held[user].busy = true
	return nil
}

// release undoes claim.
func (t *track) release(user string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if u := t.held[user]; len(u.items) > 0 {
		u.busy = false
		kick(t.drainSoon) // it may be held for no other reason than that
	} else {
		delete(t.held, user)
	}
	t.room.Broadcast()
}

// heldIn is how many items of user are held back, and the ids of those that have a
// timetoken in a stretch.
func (t *track) heldIn(user string, s stretch) (all int, within []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	u := t.held[user]
	if u == nil {
		return 0, nil
	}
	for i := range u.items {
		if s.has(u.items[i].timetoken) {
			within = append(within, u.items[i].id)
		}
	}
	return len(u.items), within
}

// heldOf is what is held back of user, whom the caller has claimed.
func (t *track) heldOf(user string) []heldItem {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.held[user].items
}

// taken takes off the n oldest items of user, whom the caller has claimed.
func (t *track) taken(user string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.let(t.held[user], n)
}

// let takes u's n oldest items off: they are on their way into the log. Called
// with mu held.
func (t *track) let(u *heldUser, n int) {
	for i := range u.items[:n] {
		it := &u.items[i]
		it.page.n--
		t.count--
		t.bytes -= it.size
	}
	u.items = append(u.items[:0:0], u.items[n:]...)
	t.room.Broadcast()
	kick(t.saveSoon)
}
