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

// Bounds of the waits for the log. A read may have to wait for others that are far
// back.
const (
	logTimeout  = 10 * time.Second
	readTimeout = 2 * time.Minute
	backoffMin  = 20 * time.Millisecond
	backoffMax  = 2 * time.Second
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
	if !acquire(c.server.openings, c) {
		return false
	}
	asked := c.withLog(logTimeout, func(ctx context.Context) (err error) {
		from, reason, err = c.resolve(ctx)
		return err
	})
	release(c.server.openings)
	if !asked {
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
	from, reason, err := c.server.cfg.Log.Resume(ctx, c.user, asked.at, c.tail.floor().Hlc)
	if reason == stream.Complete && c.server.forgotten(c.user, from) {
		reason = stream.Trimmed
	}
	return from, reason, err
}

// replay reads one chunk of what lies between the position and the tail's floor
// and sends it. It reports false when the connection is ending.
func (c *conn) replay(b *outbox) bool {
	if !c.flush(b) {
		return false
	}
	in := c.server.recent
	if time.Since(c.pos.Hlc.Time()) > c.server.cfg.TailLinger {
		in = c.server.deep
	}
	if !acquire(in, c) {
		return false
	}
	defer release(in)
	var chunk stream.Chunk
	if !c.withLog(readTimeout, func(ctx context.Context) (err error) {
		chunk, err = c.server.cfg.Log.Read(ctx, c.user, c.pos, c.tail.floor())
		if c.incomplete && errors.Is(err, stream.ErrTrimmed) {
			return nil // the device knows already that something is missing
		}
		return err
	}) {
		return false
	}
	for i := range chunk.Records {
		c.fromLog = true
		r := &chunk.Records[i]
		b.events = append(b.events[:0], event{at: r.Position, frame: r.Frame, device: r.Device, expires: r.Expires, trace: newSpan(r)})
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
func (c *conn) withLog(timeout time.Duration, ask func(context.Context) error) bool {
	c.inLog.Store(true)
	defer c.inLog.Store(false)
	for wait := backoffMin; ; wait = min(2*wait, backoffMax) {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
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
