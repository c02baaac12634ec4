package edge

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Geometry of the wheel: what is due later than its span is looked at once a
// turn, so that a connection costs two pointers and no timer.
const (
	wheelTick  = 100 * time.Millisecond
	wheelSlots = 1024
)

// wheel turns through all connections and sees to what is due in each:
// heartbeats, positions, expiring tokens. One goroutine turns it.
type wheel struct {
	elapsed func() time.Duration

	turned atomic.Int64 // when it was last, by elapsed
	stood  atomic.Int64 // when it was last after a stand, by elapsed

	mu    sync.Mutex
	now   int // the tick that was last seen to
	slots [wheelSlots]*conn
}

// A process that stands for aStand, stopped or starved, has things come late for
// afterStand.
const (
	aStand     = time.Second
	afterStand = 5 * time.Second
)

// stoodStill reports whether the process has stood still lately.
func (w *wheel) stoodStill() bool {
	now, stood := w.elapsed(), time.Duration(w.stood.Load())
	return now-time.Duration(w.turned.Load()) > aStand || stood != 0 && now-stood < afterStand
}

// schedule has c visited at due, instead of when it was going to be.
func (w *wheel) schedule(c *conn, due time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unlink(c)
	w.link(c, due)
}

// resume puts c back after a visit, unless somebody has scheduled it meanwhile.
func (w *wheel) resume(c *conn, due time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.slot == 0 {
		w.link(c, due)
	}
}

func (w *wheel) link(c *conn, due time.Duration) {
	if c.ending.Load() != 0 {
		return // close takes it off after this, if it is not seen here
	}
	tick := int((due + wheelTick - 1) / wheelTick)
	tick = min(max(tick, w.now+1), w.now+wheelSlots-1)
	i := tick % wheelSlots
	c.slot, c.prev, c.next = i+1, nil, w.slots[i]
	if c.next != nil {
		c.next.prev = c
	}
	w.slots[i] = c
}

// remove takes c off the wheel.
func (w *wheel) remove(c *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unlink(c)
}

func (w *wheel) unlink(c *conn) {
	if c.slot == 0 {
		return
	}
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		w.slots[c.slot-1] = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.slot, c.prev, c.next = 0, nil, nil
}

// turn returns a connection that is due and has been taken off the wheel; nil
// when none is left that is due by now.
func (w *wheel) turn(now time.Duration) *conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	for to := int(now / wheelTick); ; w.now++ {
		if c := w.slots[w.now%wheelSlots]; c != nil {
			w.unlink(c)
			return c
		}
		if w.now >= to {
			return nil
		}
	}
}

// run turns the wheel until ctx ends.
func (w *wheel) run(ctx context.Context, sweep func()) {
	w.turned.Store(int64(w.elapsed()))
	ticker := time.NewTicker(wheelTick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := w.elapsed()
		if last := w.turned.Swap(int64(now)); now-time.Duration(last) > aStand {
			w.stood.Store(int64(now))
		}
		for c := w.turn(now); c != nil; c = w.turn(now) {
			if due, ok := c.visit(now); ok {
				w.resume(c, due)
			}
		}
		sweep()
	}
}

// tokenWarning is how long before its token's expiry a device is told.
const tokenWarning = 30 * time.Second

// visit sees to what is due in c and returns when the next thing is; false when
// c is ending. It runs on the wheel's goroutine and blocks on nothing.
func (c *conn) visit(now time.Duration) (due time.Duration, ok bool) {
	cfg := &c.server.cfg
	silent := time.Duration(c.wire.lastRead.Load()) + cfg.IdleTimeout
	if now >= silent {
		c.close(codeHeartbeat, "heartbeat timeout")
		return 0, false
	}
	if now >= c.nextPing {
		c.nextPing = now + cfg.PingInterval
		c.signal(sayPing)
	}
	due = min(silent, c.nextPing)
	if c.phase.Load() == phaseLive {
		quiet := time.Duration(c.spoke.Load()) + cfg.PositionInterval
		if now >= quiet {
			c.signal(sayPosition)
			quiet = now + cfg.PositionInterval
		}
		due = min(due, quiet)
	}
	if at := c.expires.Load(); at != 0 {
		left := time.Until(time.UnixMilli(at))
		switch {
		case left <= 0:
			c.close(codeTokenExpired, "token expired")
			return 0, false
		case left > tokenWarning:
			due = min(due, now+left-tokenWarning)
		default:
			if c.warned != at {
				c.warned = at
				c.signal(sayExpiring)
			}
			due = min(due, now+left)
		}
	}
	return due, c.ending.Load() == 0
}
