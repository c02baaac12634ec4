package edge

import (
	"context"
	"sync"
	"time"

	"reprise/hlc"
)

// The states of a connection's writer. While idle there is no goroutine.
const (
	writerIdle int32 = iota
	writerRunning
	writerWoken // running, and asked to look once more
	writerDead
)

// wake makes the writer look for something to send. It blocks on nothing and
// allocates nothing.
func (c *conn) wake() {
	for {
		switch c.state.Load() {
		case writerIdle:
			if c.state.CompareAndSwap(writerIdle, writerRunning) {
				c.server.writers.Add(1)
				go c.runs()
				return
			}
		case writerRunning:
			if c.state.CompareAndSwap(writerRunning, writerWoken) {
				return
			}
		default:
			return
		}
	}
}

// run is the writer: it sends until there is nothing to send, and ends.
func (c *conn) run() {
	defer c.server.writers.Done()
	for {
		if c.ending.Load() != 0 {
			c.endReplay(false)
			c.farewell()
			c.state.Store(writerDead)
			return
		}
		c.write()
		if c.ending.Load() == 0 && c.state.CompareAndSwap(writerRunning, writerIdle) {
			return
		}
		c.state.Store(writerRunning)
		if c.ending.Load() == 0 && c.phase.Load() == phaseLive {
			time.Sleep(corkTime)
		}
	}
}

// corkTime is how long a writer waits to which something has come while it wrote:
// in a burst more comes soon, and one system call takes all. What comes to an idle
// connection is sent at once.
const corkTime = 200 * time.Microsecond

// Bounds of what one system call carries.
const (
	flushAt = 32 << 10 // bytes
	batchOf = 64       // events copied out of a tail at a time
)

// outbox is what a writer gathers before it writes: frames, and what has to be
// noted once they are written. Outboxes are pooled: an idle connection has none.
type outbox struct {
	bytes   []byte
	scratch []byte
	events  []event
	sent    int     // event frames in bytes
	stored  []int64 // when the live ones among them were stored, Unix ns
	spans   []*span
}

var outboxes = sync.Pool{New: func() any {
	return &outbox{
		bytes:   make([]byte, 0, 4<<10),
		scratch: make([]byte, 0, 512),
		events:  make([]event, 0, batchOf),
		stored:  make([]int64, 0, batchOf),
	}
}}

func takeOutbox() *outbox { return outboxes.Get().(*outbox) }

// give returns b to the pool, but not with a buffer that one huge frame made.
func (b *outbox) give() {
	if cap(b.bytes) > 4*flushAt {
		return
	}
	clear(b.events[:cap(b.events)])
	clear(b.spans)
	b.bytes, b.events, b.stored, b.spans, b.sent = b.bytes[:0], b.events[:0], b.stored[:0], b.spans[:0], 0
	outboxes.Put(b)
}

func (b *outbox) text(payload []byte) {
	b.bytes = appendFrame(b.bytes, opText, payload)
	b.scratch = payload[:0]
}

// write sends everything that lies after the position, and what the connection
// was asked to say.
func (c *conn) write() {
	b := takeOutbox()
	defer b.give()
	// goal is where a replay has caught up: the end of the feed when the writer first
	// had all that lay before it in the tail. Were it the end of what is published
	// while the device reads, a busy user's device would never get there.
	var goal hlc.Timestamp
	for c.ending.Load() == 0 {
		c.say(b, sayPing|sayPong)
		if c.phase.Load() == phaseOpening {
			if !c.open(b) || c.coalesce && !c.lookAhead(b) {
				return
			}
		}
		c.say(b, sayExpiring)

		// Looked at before the tail: what the tail does not have then does not exist.
		end := c.shard.dispatched()
		var above bool
		b.events, above = c.tail.after(c.pos.Hlc, b.events[:0])
		if !above {
			if !c.replay(b) {
				return
			}
			continue
		}
		if goal == 0 {
			goal = end.Hlc
		}
		if len(b.events) > 0 {
			live := c.phase.Load() == phaseLive
			if !c.events(b, live) {
				return
			}
			if !live && c.pos.Hlc >= goal {
				c.caughtUp(b)
			}
			continue
		}
		if c.pos.Hlc < end.Hlc {
			c.moveTo(end)
		}
		if c.phase.Load() == phaseReplaying {
			if c.pos.Hlc > end.Hlc { // the device has been at an edge that is ahead of this one
				if c.shard.await(c) {
					c.flush(b)
					return
				}
				continue
			}
			c.caughtUp(b)
		}
		c.say(b, sayPosition)
		c.announce(b)
		c.flush(b)
		return
	}
}

// caughtUp ends the replay: from here on, what comes is live.
func (c *conn) caughtUp(b *outbox) {
	b.text(appendCaughtUp(b.scratch[:0], c.pos.Hlc, c.replayed))
	c.tell(c.pos.Hlc)
	c.spoke.Store(int64(c.server.elapsed()))
	c.heard = c.server.announcements.next()
	c.phase.Store(phaseLive)
	c.newest = nil
	c.endReplay(true)
	c.server.metrics.caughtUp(c.replayed, c.fromLog, time.Since(c.connected))
	c.server.wheel.schedule(c, c.server.elapsed())
}

// events sends the events in b and moves the position past them. It reports
// false when the connection is ending.
func (c *conn) events(b *outbox, live bool) bool {
	now := time.Now().UnixMilli()
	for i := range b.events {
		e := &b.events[i]
		if e.at.Hlc <= c.pos.Hlc {
			continue
		}
		c.moveTo(e.at)
		if !c.hears(e.device) || e.expires != 0 && e.expires <= now || c.newest != nil && c.newest.Superseded(e.frame, e.at.Hlc) {
			continue
		}
		b.bytes = appendFrame(b.bytes, opText, e.frame)
		b.sent++
		c.tell(e.at.Hlc)
		if live {
			if e.stored != 0 {
				b.stored = append(b.stored, e.stored)
			}
			if e.trace != nil {
				b.spans = append(b.spans, e.trace)
			}
		} else {
			c.replayed++
			if e.trace != nil {
				c.replaying(e.trace)
			}
		}
		if len(b.bytes) >= flushAt && !c.flush(b) {
			return false
		}
	}
	return true
}

// flush writes what b has gathered and notes what was delivered. It reports
// false when the connection is ending.
func (c *conn) flush(b *outbox) bool {
	if len(b.bytes) == 0 {
		return true
	}
	err := c.wire.send(b.bytes)
	if err == nil && b.sent > 0 {
		c.spoke.Store(int64(c.server.elapsed()))
		c.server.delivered(b)
	} else if err != nil && b.sent > 0 {
		c.server.metrics.failed.Add(context.Background(), int64(b.sent))
	}
	b.bytes, b.stored, b.sent = b.bytes[:0], b.stored[:0], 0
	clear(b.spans)
	b.spans = b.spans[:0]
	if err != nil {
		c.sendFailed(err)
		return false
	}
	if !c.greeted && c.phase.Load() > phaseOpening {
		c.greeted = true
		close(c.welcomed)
	}
	return true
}

// announce appends the announcements that came since the connection is live.
func (c *conn) announce(b *outbox) {
	for {
		frame, next := c.server.announcements.after(c.heard)
		c.heard = next
		if frame == nil {
			return
		}
		b.bytes = appendFrame(b.bytes, opText, frame)
	}
}
