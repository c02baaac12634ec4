package bridge

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"reprise/stream"
)

const (
	// buryAtOnce bounds how many dead letters of one page are under way.
	buryAtOnce = 16
	// heldMost and heldBytes bound what a track holds back. When either is
	// reached everything goes into the log as it came, and what history has
	// besides goes behind it.
	heldMost  = 10_000
	heldBytes = 64 << 20
	// presenceAge is how old a sign of life may be and still say something.
	presenceAge = time.Minute
)

// track is the part of PubNub's feed that goes into one shard: all of the
// shard's users where the subscription is a wildcard, or those of one lane. It
// has a cursor of its own, which never passes what is not stored.
//
// What arrives goes straight into the log, or is held back while history is
// being asked whether something before it is missing.
type track struct {
	// static after construction
	b     *Bridge
	shard *shard
	lane  string // "" is none
	mark  *stream.Bookmark
	users func(ctx context.Context) ([]string, error) // whose events come here
	begun chan struct{}                               // closed when the first cursor is known, with mu held

	// owned by who takes the page in hand
	spans   spans
	page    *heldPage
	direct  bool                      // events were appended since open
	dropped bool                      // there was no time left to store everything
	repeat  bool                      // the page may hold what is stored already
	filled  string                    // as of the page's begin
	late    map[string][]stream.Event // by user: events that may be stored already, and what follows them
	dead    []stream.DeadLetter

	gone atomic.Bool // it is to be taken off its source

	// each sent to by anyone, never closed; room for one
	saveSoon, drainSoon, fillSoon chan struct{}

	saving sync.Mutex // held over a save

	mu      sync.Mutex // guards what follows
	at      cursor     // pages up to here were taken
	high    string     // the greatest timetoken that a page ended with
	fills   string     // the greatest timetoken that history gave; what is not newer may be stored already
	flood   string     // where full pages began whose end has not come; "" is nowhere
	doubt   string     // from where on PubNub's queue may have dropped something; "" is nowhere
	flooded bool       // everything is held back
	held    map[string]*heldUser
	pages   []*heldPage // that have held items, oldest first
	count   int         // items held
	bytes   int
	room    *sync.Cond // signalled when count or bytes go down, and when somebody is no longer busy
	job     *job       // what history is asked for; nil is nothing
	wanted  map[string]*want
	silence *time.Timer // ends what wants hold back when PubNub does not answer; nil is none
	last    record      // what was saved last

	calmUntil time.Time     // nothing is held back that is not held yet
	took      time.Duration // what the last comparison after a flood took
	starts    int           // how many bridges have begun at startedAt; 0 is unknown
	startedAt cursor
}

// heldUser is what is held back of one user, in order.
type heldUser struct {
	items []heldItem
	busy  bool // somebody is putting it into the log
}

type heldItem struct {
	item
	page *heldPage
}

// heldPage is a page of which something is held back. The checkpoint stays
// before it.
type heldPage struct {
	prev cursor
	n    int
}

func (b *Bridge) newTrack(sh *shard, lane string, mark *stream.Bookmark, users func(context.Context) ([]string, error)) (*track, error) {
	t := &track{
		b: b, shard: sh, lane: lane, mark: mark, users: users, begun: make(chan struct{}),
		spans:    b.newSpans(),
		late:     make(map[string][]stream.Event),
		saveSoon: make(chan struct{}, 1), drainSoon: make(chan struct{}, 1), fillSoon: make(chan struct{}, 1),
		held: make(map[string]*heldUser), wanted: make(map[string]*want),
	}
	t.room = sync.NewCond(&t.mu)
	return t, t.restore()
}

// kick has whoever reads ch look again.
func kick(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// ended tells whether t takes nothing any more.
func (t *track) ended() bool { return t.gone.Load() || t.shard.writer.Err() != nil }

// cursor is from where on messages are wanted; zero is from now on.
func (t *track) cursor() cursor {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.at
}

// begin sets the first cursor of all, unless that is still unknown.
func (t *track) begin(at cursor) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.high = at.timetoken
	t.reach(at)
	kick(t.saveSoon)
}

// reach moves the cursor. Called with mu held.
func (t *track) reach(at cursor) {
	if t.at.isZero() && !at.isZero() {
		close(t.begun)
	}
	t.at = at
}

// run saves, drains and fills until ctx ends.
func (t *track) run(ctx context.Context) {
	var all sync.WaitGroup
	all.Go(func() { t.saver(ctx) })
	all.Go(func() { t.drainer(ctx) })
	all.Go(func() { t.filler(ctx) })
	all.Wait()
}

// open begins a page.
func (t *track) open(p *page) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.page, t.direct, t.dropped, t.dead = &heldPage{prev: p.prev}, false, false, nil
	// PubNub has gone back, or this bridge has for another track's sake.
	t.repeat = !p.prev.isZero() && olderTimetoken(p.prev.timetoken, t.high)
	t.filled = t.fills
}

// add takes one message of the page. What goes wrong shows at close: a writer
// that has ended takes nothing any more.
func (t *track) add(ctx context.Context, m *message) {
	it := t.b.intake(ctx, m, &t.spans)
	it.repeated = it.repeated || t.repeat || t.filled != "" && !olderTimetoken(t.filled, it.timetoken)
	switch {
	case it.dead != nil:
		t.dead = append(t.dead, *it.dead)
	case it.outcome == isForgotten:
	case it.outcome == isHeartbeat:
		t.b.inst.heartbeat(ctx)
		if time.Since(timeOf(it.timetoken)) < presenceAge {
			t.b.cfg.Log.Seen(it.user, it.device)
		}
	case it.outcome == isEvent && t.late[it.user] == nil && t.hold(ctx, &it), it.outcome != isEvent && t.hold(ctx, &it):
	case it.outcome == isEvent && (it.repeated || t.late[it.user] != nil):
		t.late[it.user] = append(t.late[it.user], it.ev)
	default:
		if t.put(ctx, &it) != nil {
			t.dropped = true
		}
		t.direct = true
	}
}

// put hands one item, which the log does not have, to the log: it is stored when
// the writer's next flush is.
func (t *track) put(ctx context.Context, it *item) error {
	if it.outcome == isAnnouncement {
		fresh, err := t.b.cfg.Log.Announce(ctx, it.id, it.frame)
		if err != nil {
			return fmt.Errorf("bridge: announce: %w", err)
		}
		if fresh {
			t.b.inst.announced(ctx)
		}
		return nil
	}
	if t.b.forgotten.has(it.user, it.timetoken) {
		return nil // it was held back
	}
	if err := t.shard.writer.Append(ctx, it.ev); err != nil {
		return fmt.Errorf("bridge: append: %w", err)
	}
	return nil
}

// putAll hands items of one user to the log, some of which it may have.
func (t *track) putAll(ctx context.Context, user string, items []item) (stored int, err error) {
	var events []stream.Event
	for i := range items {
		if items[i].outcome == isEvent && t.b.forgotten.has(user, items[i].timetoken) {
			continue // it was held back
		}
		if items[i].outcome == isEvent {
			events = append(events, items[i].ev)
		} else if err := t.put(ctx, &items[i]); err != nil {
			return 0, err
		}
	}
	return t.putLate(ctx, user, events)
}

// putLate hands events of one user to the log, some of which it may have.
func (t *track) putLate(ctx context.Context, user string, events []stream.Event) (stored int, err error) {
	since := time.Now()
	for i := range events {
		if at := timeOf(events[i].Timetoken); at.Before(since) {
			since = at
		}
	}
	if len(events) > 0 {
		if stored, err = t.shard.writer.AppendLate(ctx, user, since.Add(-lookBack), events); err != nil {
			return stored, fmt.Errorf("bridge: append: %w", err)
		}
	}
	return stored, nil
}

// close ends a page: everything of it that is not held back is stored when it
// returns nil.
func (t *track) close(ctx context.Context, p *page) (err error) {
	defer func() { t.spans.end(err); clear(t.late) }()
	if err := t.bury(ctx, t.dead); err != nil {
		return err
	}
	if t.dropped {
		return context.Canceled
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(fullPage)
	for user, events := range t.late {
		group.Go(func() error {
			_, err := t.putLate(groupCtx, user, events)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if t.direct || len(t.late) > 0 {
		if err := t.shard.writer.Flush(ctx); err != nil {
			return fmt.Errorf("bridge: store shard %d: %w", t.shard.writer.Shard(), err)
		}
	}
	t.mu.Lock()
	t.reach(p.next)
	if olderTimetoken(t.high, p.next.timetoken) {
		t.high = p.next.timetoken
	}
	t.mu.Unlock()
	if p.prev.isZero() {
		return t.save(ctx) // nobody may rely on a first cursor that is nowhere
	}
	kick(t.saveSoon)
	return nil
}

// bury stores dead letters. Their order means nothing.
func (t *track) bury(ctx context.Context, dead []stream.DeadLetter) error {
	if len(dead) == 0 {
		return nil
	}
	fresh := make([]bool, len(dead))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(buryAtOnce)
	for i, d := range dead {
		group.Go(func() (err error) {
			fresh[i], err = t.b.cfg.Log.Bury(groupCtx, d)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("bridge: bury: %w", err)
	}
	for i, d := range dead {
		if fresh[i] {
			t.b.inst.buried(ctx, Reason(d.Reason))
		}
	}
	return nil
}
