package edge

import (
	"context"
	"errors"
	"time"

	"reprise/stream"
)

// lookAhead reads what lies between the position and the tail's end once before it is
// sent, to know which positions need not be: those that a newer one of the same content
// supersedes. That costs the reads twice, and memory for a stamp a content; what comes
// meanwhile is sent as it is. It reports false when the connection is ending.
func (c *conn) lookAhead(b *outbox) bool {
	if !c.flush(b) {
		return false
	}
	n := new(stream.Newest)
	for at := c.pos; ; {
		events, above := c.tail.after(at.Hlc, b.events[:0])
		b.events = events
		if !above {
			var chunk stream.Chunk
			var ok bool
			if chunk, ok = c.readAt(at); !ok {
				return false
			}
			for i := range chunk.Records {
				if r := &chunk.Records[i]; c.hears(r.Device) {
					n.Add(r.Frame, r.Hlc)
				}
			}
			at = chunk.Next
			continue
		}
		if len(events) == 0 {
			c.newest = n
			return true
		}
		for i := range events {
			if e := &events[i]; c.hears(e.device) {
				n.Add(e.frame, e.at.Hlc)
			}
			at = events[i].at
		}
	}
}

// hears reports whether events of a device are for this one.
func (c *conn) hears(device string) bool { return device != c.device || c.echo }

// readAt reads one chunk of what lies between a position and where the tail goes on. It
// reports false when the connection is ending.
func (c *conn) readAt(at stream.Position) (chunk stream.Chunk, ok bool) {
	in := c.server.recent
	if time.Since(at.Hlc.Time()) > c.server.cfg.TailLinger {
		in = c.server.deep
	}
	if !acquire(in, c) {
		return chunk, false
	}
	defer release(in)
	ok = c.withLog(readTimeout, func(ctx context.Context) (err error) {
		chunk, err = c.server.cfg.Log.Read(ctx, c.user, at, c.tail.meeting(c.shard.limit))
		if c.incomplete && errors.Is(err, stream.ErrTrimmed) {
			return nil // the device knows already that something is missing
		}
		return err
	})
	return chunk, ok
}
