package edge

import (
	"slices"
	"sync"
	"time"

	"reprise/hlc"
	"reprise/stream"
)

// shard is one shard of the log as this edge sees it: how far its feed has
// been handed out, and the tails of the users who are here.
type shard struct {
	// static after construction
	index   int
	limit   int // events in a tail
	budget  *budget
	linger  time.Duration
	elapsed func() time.Duration

	// guarded by mu. Registering a connection happens under it, and so does each
	// step of the feed: a new tail begins exactly where the feed is.
	mu      sync.Mutex
	users   map[string]*tail
	waiting []*conn // cursors ahead of the feed
	leaving []left  // tails without connections, in the order in which they were left
	// floor is what the floor of a new tail is: no event after it was of a user
	// without a tail.
	floor stream.Position
	// warming is until when tails are made for whoever has an event, on the
	// server's clock; 0 is not any more.
	warming time.Duration

	// guarded by seenMu, written under mu as well
	seenMu  sync.Mutex
	seen    stream.Position
	started bool // nothing is warmed any more
}

// left notes when the last connection of a tail went.
type left struct {
	t  *tail
	at time.Duration
}

// dispatched is up to where the feed has been put into the tails. Who reads it
// and then finds nothing more in a tail has seen everything up to there.
func (sh *shard) dispatched() stream.Position {
	sh.seenMu.Lock()
	defer sh.seenMu.Unlock()
	return sh.seen
}

func (sh *shard) following() bool {
	sh.seenMu.Lock()
	defer sh.seenMu.Unlock()
	return sh.started
}

// advance moves the feed's position. The caller holds mu.
func (sh *shard) advance(to stream.Position) {
	sh.seenMu.Lock()
	sh.seen, sh.started = to, sh.warming == 0
	sh.seenMu.Unlock()
	if len(sh.waiting) == 0 {
		return
	}
	sh.waiting = slices.DeleteFunc(sh.waiting, func(c *conn) bool {
		reached := c.cursor() <= to.Hlc
		if reached {
			c.wake()
		}
		return reached
	})
}

// await has c woken when the feed reaches its cursor. It reports false when it
// has done so already.
func (sh *shard) await(c *conn) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if c.cursor() <= sh.dispatched().Hlc {
		return false
	}
	if !slices.Contains(sh.waiting, c) {
		sh.waiting = append(sh.waiting, c)
	}
	return true
}

// reserve takes a seat in user's tail, made if need be. It returns nil when most
// are taken, not counting those of the same device, which will be replaced.
func (sh *shard) reserve(user, device string, most int) *tail {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	t := sh.users[user]
	if t == nil {
		t = sh.open(user)
	}
	if t.full(device, most) {
		return nil
	}
	t.seats++
	return t
}

// open makes a tail for user, who has none. The caller holds mu.
func (sh *shard) open(user string) *tail {
	t := &tail{user: user, window: window{floor: sh.floor}}
	sh.users[user] = t
	return t
}

// full reports whether another device of user would find no seat.
func (sh *shard) full(user, device string, most int) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	t := sh.users[user]
	return t != nil && t.full(device, most)
}

// full reports whether most seats are taken, not counting those of device. The
// caller holds shard.mu.
func (t *tail) full(device string, most int) bool {
	taken := t.seats
	for _, c := range t.conns {
		if c.device == device {
			taken--
		}
	}
	return taken >= most
}

// attach puts c on its reserved seat, unless it was closed meanwhile. It reports
// whether c is its user's first.
func (sh *shard) attach(c *conn) (first bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if c.ending.Load() != 0 {
		return false // detach has been here, or will find nothing to undo
	}
	c.tail.conns = append(c.tail.conns, c)
	return len(c.tail.conns) == 1
}

// detach takes c off its seat and reports whether it was its user's last.
func (sh *shard) detach(c *conn) (last bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	i := slices.Index(c.tail.conns, c)
	if i >= 0 {
		c.tail.conns = slices.Delete(c.tail.conns, i, i+1)
		last = len(c.tail.conns) == 0
	}
	if j := slices.Index(sh.waiting, c); j >= 0 {
		sh.waiting = slices.Delete(sh.waiting, j, j+1)
	}
	sh.vacate(c.tail)
	return last
}

// release gives back a seat on which nobody sat.
func (sh *shard) release(t *tail) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.vacate(t)
}

func (sh *shard) vacate(t *tail) {
	t.seats--
	if t.seats == 0 {
		sh.leave(t)
	}
}

// leave notes that nobody is left in t. The caller holds mu.
func (sh *shard) leave(t *tail) {
	t.empty = sh.elapsed()
	sh.leaving = append(sh.leaving, left{t, t.empty})
}

// sweep forgets the tails that were left longer than TailLinger ago.
func (sh *shard) sweep() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	now := sh.elapsed()
	if sh.warming != 0 && now > sh.warming {
		sh.warmed()
	}
	n := 0
	for ; n < len(sh.leaving) && now-sh.leaving[n].at >= sh.linger; n++ {
		l := sh.leaving[n]
		if l.t.seats > 0 || l.t.empty != l.at || sh.users[l.t.user] != l.t {
			continue // somebody came back
		}
		delete(sh.users, l.t.user)
		if newest := l.t.reset(stream.Position{}, sh.budget); newest.Hlc > sh.floor.Hlc {
			sh.floor = newest
		}
	}
	sh.leaving = slices.Delete(sh.leaving, 0, n)
}

// connections returns the connections of user that are for yes; "" is everybody's.
func (sh *shard) connections(user string, yes func(*conn) bool) []*conn {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.collect(user, yes)
}

func (sh *shard) collect(user string, yes func(*conn) bool) (found []*conn) {
	pick := func(t *tail) {
		for _, c := range t.conns {
			if yes == nil || yes(c) {
				found = append(found, c)
			}
		}
	}
	if user == "" {
		for _, t := range sh.users {
			pick(t)
		}
	} else if t := sh.users[user]; t != nil {
		pick(t)
	}
	return found
}

// behind is for connections whose cursor lies before at.
func behind(at hlc.Timestamp) func(*conn) bool {
	return func(c *conn) bool { return c.cursor() < at }
}
