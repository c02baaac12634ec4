package bridge

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"reprise/hlc"
	"reprise/stream"
)

const (
	// fillMargin is how far before the cursor history is read: a message's own
	// timetoken may be older than the cursor at which it was handed out.
	fillMargin = time.Minute
	// floodMargin is that after a flood, where nothing was late but what PubNub
	// handed out.
	floodMargin = time.Second
	// lookBack is how far before its timetoken an event is looked for in the log,
	// for a bridge's clock and PubNub's may differ.
	lookBack = 10 * time.Minute
	// keptBack is that for what history is held against at first. What is older
	// is looked for once it seems to be missing.
	keptBack = time.Minute
	// anchorAge is how old an event may be that history must still have: the
	// shortest retention that PubNub sells is a day.
	anchorAge = 23 * time.Hour
	// historyLag is how long after being handed out a message may be missing from
	// history without that meaning anything.
	historyLag = 5 * time.Second
	// cursorSkew is how much newer than the cursor behind it a message's timetoken
	// may be.
	cursorSkew = 250 * time.Millisecond
	// messageSkew is that for messages that come from PubNub's own region.
	messageSkew = time.Millisecond
	// usersAtOnce is how many users of a track are in hand at a time, and
	// usersInAll how many of a bridge, whose tracks share the rate of questions.
	usersAtOnce, usersInAll = 8, 16
	// historyPatience is how long one question to PubNub's history is repeated.
	historyPatience = 2 * time.Minute
)

// comparison holds PubNub's history after a timetoken against the log, and
// appends what is missing. It belongs to its track's filler, and to the goroutines
// that do users for it.
type comparison struct {
	t *track
	stretch
	why      string
	evidence bool                // look for signs that history does not have it all
	dead     map[string]struct{} // ids of dead letters that are there
	active   map[string]struct{} // users of whom the log has something that history should have

	anchors struct{ found, missing atomic.Int64 } // users by whether history reaches back to what the log has
	stored  atomic.Int64                          // events that were missing
	gaps    atomic.Int64
}

// inHistory is how many messages history has, by channel, and when they were counted.
type inHistory struct {
	of map[string]int
	at time.Time
}

// start is from where on history is read.
func (c *comparison) start() string {
	margin := fillMargin
	if c.why == whyFlood {
		margin = floodMargin
	}
	return timetokenAt(timeOf(c.From).Add(-margin))
}

// behind is the timetoken behind what is read; "" is none.
func (c *comparison) behind() string {
	if c.To == "" {
		return ""
	}
	return nextTimetoken(c.To)
}

// compare does users, and calls did for each: everything of theirs that history
// has is in the log when it returns nil, but for users who are new.
func (c *comparison) compare(ctx context.Context, users []string, did func(user string)) error {
	b := c.t.b
	var channels []string
	for _, user := range users {
		channels = append(channels, b.channelsOf(user)...)
	}
	counted, err := c.count(ctx, channels)
	if err != nil {
		return err
	}
	var group errgroup.Group
	group.SetLimit(usersAtOnce)
	var failed atomic.Bool
	for _, user := range users {
		if failed.Load() {
			break // those in hand come to their end
		}
		group.Go(func() error {
			b.comparing <- struct{}{}
			defer func() { <-b.comparing }()
			err := c.user(ctx, user, counted)
			if err == nil {
				did(user)
			} else {
				failed.Store(true)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return c.t.shard.writer.Flush(ctx)
}

// count counts what history has on channels. What comes meanwhile may be
// counted too.
func (c *comparison) count(ctx context.Context, channels []string) (_ inHistory, err error) {
	count := func(from string) (counts map[string]int, err error) {
		err = c.t.b.ask(ctx, "count history", func(ctx context.Context) (err error) {
			counts, err = c.t.b.calls.counts(ctx, channels, from)
			return err
		})
		return counts, err
	}
	counted := inHistory{at: time.Now()}
	var newer map[string]int
	if c.To != "" {
		if newer, err = count(c.behind()); err != nil {
			return inHistory{}, err
		}
	}
	if counted.of, err = count(c.start()); err != nil {
		return inHistory{}, err
	}
	for channel, n := range newer {
		if counted.of[channel] < maxCount {
			counted.of[channel] -= n
		}
	}
	return counted, nil
}

// user does one user. One who is new is left to the comparison that they wait for:
// what came before, which this one need not reach back to, belongs before the rest.
func (c *comparison) user(ctx context.Context, user string, counted inHistory) error {
	if c.why != whyNew && c.t.isNew(user) {
		return nil
	}
	total := 0
	for _, channel := range c.t.b.channelsOf(user) {
		total += counted.of[channel]
	}
	window := stretch{c.start(), c.To}
	holds, held := c.t.heldIn(user, window)
	if _, active := c.active[user]; total == 0 && holds == 0 && !active {
		return nil
	}
	var kept []stream.Kept
	var err error
	if user != everyone {
		if kept, err = c.t.shard.writer.Since(ctx, user, timeOf(window.From).Add(-keptBack)); err != nil {
			return err
		}
		kept = slices.DeleteFunc(kept, func(k stream.Kept) bool { return !window.has(k.Timetoken) })
		if c.why == whyFlood && total == different(kept, held) {
			return nil // as many events as messages are all of them
		}
	}
	asked := time.Now()
	found, err := c.read(ctx, user, counted)
	if err != nil {
		return err
	}
	if newest, reached := c.reaches(kept, found); c.evidence && !reached && asked.Sub(newest) < historyLag {
		// History may be slower than this bridge was to come back.
		if err := sleep(ctx, time.Until(newest.Add(historyLag))); err != nil {
			return err
		}
		if counted, err = c.count(ctx, c.t.b.channelsOf(user)); err != nil {
			return err
		}
		if found, err = c.read(ctx, user, counted); err != nil {
			return err
		}
	}
	if err := c.t.claim(ctx, user); err != nil {
		return err
	}
	waiting := c.t.heldOf(user)
	if c.evidence && user != everyone {
		if err := c.judge(ctx, user, asked, counted.at, found, kept, waiting); err != nil {
			c.t.release(user)
			return err
		}
	}
	return c.merge(ctx, user, found, kept, waiting)
}

// different is how many events there are in the log and held back. What comes a second
// time, for another shard was taken from an older cursor, may be held back and in the
// log, or held back twice.
func different(kept []stream.Kept, held []string) int {
	ids := make(map[string]struct{}, len(kept)+len(held))
	for i := range kept {
		ids[kept[i].ID] = struct{}{}
	}
	for _, id := range held {
		ids[id] = struct{}{}
	}
	return len(ids)
}

// read reads user's history.
func (c *comparison) read(ctx context.Context, user string, counted inHistory) (found []message, err error) {
	for _, channel := range c.t.b.channelsOf(user) {
		if counted.of[channel] > 0 && err == nil {
			found, err = c.history(ctx, found, channel)
		}
	}
	return found, err
}

// isAnchor tells whether an event of the log is from before the start, so that
// history that reaches back has it.
func (c *comparison) isAnchor(k *stream.Kept) bool {
	return !olderTimetoken(timetokenAt(timeOf(c.From).Add(cursorSkew)), k.Timetoken)
}

// reaches tells whether history has one of the events that the log has from
// before, if there are any, and when the newest of those was published.
func (c *comparison) reaches(kept []stream.Kept, found []message) (newest time.Time, reached bool) {
	reached = true
	for i := range kept {
		if !c.isAnchor(&kept[i]) {
			continue
		}
		if slices.ContainsFunc(found, func(m message) bool { return m.timetoken == kept[i].Timetoken }) {
			return newest, true
		}
		newest, reached = timeOf(kept[i].Timetoken), false
	}
	return newest, reached
}

// history appends to found all that a channel's history has, newest page first.
func (c *comparison) history(ctx context.Context, found []message, channel string) ([]message, error) {
	b := c.t.b
	for before := c.behind(); ; {
		var page []message
		err := b.ask(ctx, "read history", func(ctx context.Context) (err error) {
			page, err = b.calls.fetch(ctx, channel, before, c.start(), maxFetch)
			return err
		})
		if err != nil {
			return nil, err
		}
		found = append(found, page...)
		oldest := ""
		for i := range page {
			if page[i].odd == "" {
				oldest = page[i].timetoken
				break
			}
		}
		if len(page) < maxFetch || oldest == "" || oldest == before {
			return found, nil
		}
		before = oldest
	}
}

// judge looks for signs that history does not have everything of a user: an
// event from before that the log has, or one from after that PubNub did hand
// out, and history does not know. Then what was dropped may be gone.
func (c *comparison) judge(ctx context.Context, user string, asked, counted time.Time, found []message, kept []stream.Kept, held []heldItem) error {
	known := make(map[string]struct{}, len(found))
	oldest := asked
	for i := range found {
		known[found[i].timetoken] = struct{}{}
		if at := timeOf(found[i].timetoken); found[i].odd == "" && at.Before(oldest) {
			oldest = at
		}
	}
	has := func(timetoken string) bool { _, ok := known[timetoken]; return ok }
	// A channel that was empty when messages were counted has not been read since.
	settled := oldestTimetoken(timetokenAt(counted.Add(-historyLag)), c.behind())
	reached, anchored, leaky := false, false, false
	for i := range kept {
		switch k := &kept[i]; {
		case c.isAnchor(k):
			anchored, reached = true, reached || has(k.Timetoken)
		case olderTimetoken(k.Timetoken, settled) && !has(k.Timetoken):
			leaky = true
		}
	}
	for i := range held {
		if at := held[i].timetoken; olderTimetoken(c.From, at) && olderTimetoken(at, settled) && !has(at) {
			leaky = true
		}
	}
	if !anchored && len(found) > 0 {
		var err error
		if anchored, reached, err = c.anchor(ctx, user); err != nil {
			return err
		}
	}
	switch {
	case anchored && !reached:
		c.anchors.missing.Add(1)
		return c.gap(ctx, user, oldest)
	case leaky:
		return c.gap(ctx, user, asked)
	case anchored:
		c.anchors.found.Add(1)
	}
	return nil
}

// anchor looks for the newest event of user before the start, and asks whether
// history has that. Not anchored: there is none that it must have.
func (c *comparison) anchor(ctx context.Context, user string) (anchored, reached bool, err error) {
	b := c.t.b
	kept, err := c.t.shard.writer.Since(ctx, user, time.Now().Add(-anchorAge))
	if err != nil {
		return false, false, err
	}
	for _, k := range slices.Backward(kept) {
		channel, _, ok := strings.Cut(k.ID, ":")
		if _, feed := parseChannel(channel); !ok || feed == noFeed || !olderTimetoken(k.Timetoken, c.start()) || time.Since(timeOf(k.Timetoken)) > anchorAge {
			continue
		}
		var page []message
		err := b.ask(ctx, "read history", func(ctx context.Context) (err error) {
			page, err = b.calls.fetch(ctx, channel, nextTimetoken(k.Timetoken), k.Timetoken, 1)
			return err
		})
		return true, len(page) > 0, err
	}
	return false, false, nil
}

// gap notes in the log that events of user, "" being anybody, may be missing up
// to a time.
func (c *comparison) gap(ctx context.Context, user string, to time.Time) error {
	c.gaps.Add(1)
	g := stream.Gap{From: hlc.New(timeOf(c.From).UnixMilli(), 0), To: hlc.New(to.UnixMilli(), 0), User: user}
	c.t.b.gapFound(ctx, c.t.shard.writer.Shard(), g, c.why)
	return c.t.shard.writer.Gap(ctx, g)
}

// merge puts what history has and the log does not, and what is held back, into
// the log, in order of their timetokens. It releases the user, whom the caller
// has claimed, in any case.
func (c *comparison) merge(ctx context.Context, user string, found []message, kept []stream.Kept, held []heldItem) error {
	t := c.t
	there := make(map[string]struct{}, len(kept)+len(held))
	for _, k := range kept {
		there[k.ID] = struct{}{}
	}
	var items []item
	for i := range held {
		if _, stored := there[held[i].id]; !stored {
			items = append(items, held[i].item)
		}
	}
	for i := range held {
		there[held[i].id] = struct{}{}
	}
	newest := ""
	spans := t.b.newSpans()
	var dead []stream.DeadLetter
	fresh := 0
	for i := range found {
		it := t.b.intake(ctx, &found[i], &spans)
		if _, stored := there[it.id]; stored || it.outcome == isHeartbeat && it.dead == nil || it.outcome == isForgotten {
			continue
		}
		there[it.id] = struct{}{}
		if it.dead != nil {
			if _, buried := c.dead[it.dead.ID]; !buried {
				dead = append(dead, *it.dead)
			}
			continue
		}
		if it.outcome == isAnnouncement && time.Since(timeOf(it.timetoken)) > announcementAge {
			continue
		}
		it.ev.Once = true
		items = append(items, it)
		if olderTimetoken(newest, it.timetoken) {
			newest = it.timetoken
		}
		if it.outcome == isEvent {
			fresh++
		}
	}
	if fresh > 0 {
		slices.SortStableFunc(items, func(a, b item) int { return compareTimetokens(a.timetoken, b.timetoken) })
	}
	t.fillsTo(newest)
	err := t.bury(ctx, dead)
	switch {
	case err != nil:
	case fresh > 0:
		fresh, err = t.putAll(ctx, user, items)
		fresh = max(0, fresh-len(held))
	default:
		err = t.putHeld(ctx, user, items)
	}
	spans.end(err)
	if err != nil {
		t.release(user)
		return err
	}
	c.stored.Add(int64(fresh))
	t.b.inst.filled(ctx, fresh, c.why)
	t.taken(user, len(held))
	return t.drain(ctx, user)
}

// fillsTo notes how far history has been used.
func (t *track) fillsTo(timetoken string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if olderTimetoken(t.fills, timetoken) {
		t.fills = timetoken
	}
}

// end ends j, and begins it anew if that was asked for meanwhile.
func (c *comparison) end(ctx context.Context, j *job) error {
	t := c.t
	if err := t.shard.writer.Flush(ctx); err != nil {
		return err
	}
	if c.anchors.missing.Load() > 0 && c.anchors.found.Load() == 0 && c.gaps.Load() > 0 {
		// Nobody's history reaches back: that of users without a sign will not either.
		if err := c.gap(ctx, "", time.Now()); err != nil {
			return err
		}
	}
	level := t.b.cfg.Logger.Info
	if c.why == whyReconcile && c.stored.Load() == 0 {
		level = t.b.cfg.Logger.Debug
	}
	level("history compared with the log", "shard", t.shard.writer.Shard(), "lane", t.lane, "why", c.why, "missing", c.stored.Load(), "gaps", c.gaps.Load())
	t.mu.Lock()
	if t.job == j {
		if c.why == whyFlood && !j.confirm {
			t.calmUntil = time.Time{}
			if c.stored.Load() == 0 {
				t.calmUntil = time.Now().Add(floodEvery)
			}
		}
		next := j.Again
		if !j.confirm && c.evidence {
			// History may not have shown yet what was published a moment before.
			if next == nil {
				next = newJob(j.stretch, j.Why, false)
				next.due, next.confirm = time.Now().Add(historyLag), true
			} else {
				next = next.and(j.stretch, j.Why, false) // which will be confirmed itself
			}
		}
		t.start(next)
		kick(t.fillSoon)
	}
	t.mu.Unlock()
	kick(t.drainSoon)
	kick(t.saveSoon)
	return nil
}

// ask repeats a question about history until it is answered, at the rate that
// all of them share.
func (b *Bridge) ask(ctx context.Context, what string, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, historyPatience)
	defer cancel()
	return b.calls.retrying(ctx, what, b.historyRate, call)
}

// sleep returns after d, or with ctx's error when that ends first.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// refused says that history cannot be had: no waiting helps.
func refused(err error) bool {
	var call *callError
	return errors.As(err, &call) && !call.temporary()
}
