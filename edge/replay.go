package edge

import (
	"context"
	"errors"
	"time"

	"reprise/hlc"
	"reprise/stream"
)

// Where a device asks to continue.
type sinceKind uint8

const (
	sinceAcked sinceKind = iota // where it last acknowledged, else latest
	sinceLatest
	sinceEarliest
	sinceCursor
)

type since struct {
	kind sinceKind
	at   hlc.Timestamp // sinceCursor
}

// Bounds of the waits for the log.
const (
	logTimeout = 10 * time.Second
	backoffMin = 20 * time.Millisecond
	backoffMax = 2 * time.Second
)

// open finds out what the device's cursor is worth and welcomes it. The
// connection is registered by now, so that nothing is missed between the answer
// and the tail. It reports false when the connection is ending.
func (c *conn) open(b *outbox) bool {
	if !c.flush(b) {
		return false
	}
	var from hlc.Timestamp
	var reason stream.Reason
	if !c.withLog(c.server.openings, func(ctx context.Context) (err error) {
		from, reason, err = c.resolve(ctx)
		return err
	}) {
		return false
	}
	c.moveTo(stream.Position{Hlc: from})
	if reason == stream.Complete {
		c.resumed.Store(uint64(from))
	}
	c.incomplete = reason != stream.Complete
	c.tell(from)
	cfg := &c.server.cfg
	b.text(appendWelcome(b.scratch[:0], welcome{
		connection: c.id, user: c.user, device: c.device, node: cfg.Node,
		serverTime: time.Now().UnixMilli(),
		pingMS:     cfg.PingInterval.Milliseconds(),
		idleMS:     cfg.IdleTimeout.Milliseconds(),
		since:      from, reason: reason,
	}))
	c.server.metrics.resumed(reason)
	c.phase.Store(phaseReplaying)
	close(c.welcomed)
	return true
}

// resolve turns what the device asked for into a stamp, and judges it.
func (c *conn) resolve(ctx context.Context) (hlc.Timestamp, stream.Reason, error) {
	asked := c.asked
	if asked.kind == sinceAcked {
		at, ok, err := c.server.cursors.acked(ctx, c.user, c.device)
		if err != nil {
			return 0, "", err
		}
		asked = since{kind: sinceLatest}
		if ok {
			asked = since{sinceCursor, at}
		}
	}
	if asked.kind == sinceLatest {
		return c.shard.dispatched().Hlc, stream.Complete, nil
	}
	return c.server.cfg.Log.Resume(ctx, c.user, asked.at, c.tail.floor().Hlc)
}

// replay reads one chunk of what lies between the position and the tail's floor
// and sends it. It reports false when the connection is ending.
func (c *conn) replay(b *outbox) bool {
	if !c.flush(b) {
		return false
	}
	in := &c.server.recent
	if time.Since(c.pos.Hlc.Time()) > deepAge {
		in = &c.server.deep
	}
	if !acquire(in.chunks, c) {
		return false
	}
	defer release(in.chunks)
	var chunk stream.Chunk
	if !c.withLog(in.reads, func(ctx context.Context) (err error) {
		chunk, err = c.server.cfg.Log.Read(ctx, c.user, c.pos, c.tail.floor())
		if c.incomplete && errors.Is(err, stream.ErrTrimmed) {
			return nil // the device knows already that something is missing
		}
		return err
	}) {
		return false
	}
	for i := range chunk.Records {
		r := &chunk.Records[i]
		b.events = append(b.events[:0], event{at: r.Position, frame: r.Frame, device: r.Device, expires: r.Expires})
		if !c.events(b, c.phase.Load() == phaseLive) {
			return false
		}
	}
	if chunk.Next.Hlc >= c.pos.Hlc {
		c.moveTo(chunk.Next)
	}
	return true
}

// withLog asks the log, again and again while it is out of reach. It reports
// false when the connection is ending.
func (c *conn) withLog(s slots, ask func(context.Context) error) bool {
	c.inLog.Store(true)
	defer c.inLog.Store(false)
	for wait := backoffMin; ; wait = min(2*wait, backoffMax) {
		if !acquire(s, c) {
			return false
		}
		ctx, cancel := context.WithTimeout(context.Background(), logTimeout)
		c.mu.Lock()
		c.cancel = cancel
		c.mu.Unlock()
		var err error
		if c.ending.Load() == 0 {
			err = ask(ctx)
		}
		c.mu.Lock()
		c.cancel = nil
		c.mu.Unlock()
		cancel()
		release(s)
		switch {
		case c.ending.Load() != 0:
			return false
		case err == nil:
			return true
		case errors.Is(err, stream.ErrTrimmed):
			c.close(codeResumeAgain, "retention overtook the replay")
			return false
		}
		c.server.complain("log read failed", "user", c.user, "conn", c.id, "err", err)
		select {
		case <-time.After(wait):
		case <-c.gone:
			return false
		}
	}
}
