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
	var snap *stream.Snapshot
	if !acquire(c.server.openings, c) {
		return false
	}
	asked := c.withLog(logTimeout, func(ctx context.Context) (err error) {
		if from, reason, err = c.resolve(ctx); err == nil && c.snapshot {
			snap, reason, err = c.snapshotFor(ctx, from, reason)
		}
		return err
	})
	release(c.server.openings)
	if !asked {
		return false
	}
	start := from
	if snap != nil {
		start = snap.Hlc
	}
	c.moveTo(stream.Position{Hlc: start})
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
	if snap != nil {
		b.text(appendSnapshot(b.scratch[:0], snap))
		c.tell(snap.Hlc)
	}
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

// snapshotFor is what a device gets that asked for a snapshot and whose replay from
// from would not be complete, or which begins at the beginning. With it nothing is
// missing, but for what is in no state: what PubNub lost before it came here, and what
// went with a log that was replaced.
func (c *conn) snapshotFor(ctx context.Context, from hlc.Timestamp, reason stream.Reason) (*stream.Snapshot, stream.Reason, error) {
	if reason == stream.Complete && from != hlc.Zero {
		return nil, reason, nil
	}
	snap, ok, err := c.server.cfg.Log.Snapshot(ctx, c.user)
	if err != nil || !ok {
		return nil, reason, err
	}
	switch {
	case reason != stream.Complete && reason != stream.Trimmed:
	case snap.Gap > from:
		reason = stream.UpstreamGap
	default:
		reason = stream.Complete
	}
	return &snap, reason, nil
}

// replay reads one chunk of what lies between the position and the tail's floor
// and sends it. It reports false when the connection is ending.
func (c *conn) replay(b *outbox) bool {
	if !c.flush(b) {
		return false
	}
	chunk, ok := c.readAt(c.pos)
	if !ok {
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
