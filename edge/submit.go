package edge

import (
	"context"
	"errors"
	"time"

	"reprise/hlc"
	"reprise/stream"
)

// submitTime is how long the log may take to store an update. After that the
// device is asked to send it again; if it has been stored all the same, its id
// tells.
const submitTime = 5 * time.Second

// submit stores an update and answers it. The reader waits here, so that a
// device's updates are stored in its order and a log that is slow slows down
// the device. Nobody else waits: the writer is another goroutine, and the wait
// ends with the connection.
func (c *conn) submit(f *deviceFrame) {
	s := c.server
	if s.cfg.ReadOnly {
		s.metrics.updates.add("read_only")
		c.answerBad(f.id, &badFrame{"read_only", "updates from devices are not taken here"})
		return
	}
	body, bad := f.body(c.device, c.now)
	if bad != nil {
		c.answerBad(f.id, bad)
		return
	}
	ctx, cancel := context.WithTimeout(lifetime{context.Background(), c.gone}, submitTime)
	defer cancel()
	err := s.cfg.Log.Submit(ctx, stream.Update{
		ID: f.id, User: c.user, Device: c.device, Channel: f.kind.channel(c.user), Expires: f.expires, Body: body,
	})
	switch {
	case err == nil:
		s.metrics.updates.add("accepted")
		c.reply(appendAccepted(nil, f.id))
	case c.ending.Load() != 0: // nobody is left to be told
	case errors.Is(err, stream.ErrOutboxFull):
		s.metrics.updates.add("outbox_full")
		c.reply(appendError(nil, f.id, "outbox_full", "the outbox takes no more for now"))
	default:
		s.metrics.updates.add("unanswered")
		s.complain("update not stored", "user", c.user, "device", c.device, "conn", c.id, "err", err)
		c.reply(appendError(nil, f.id, "outbox_full", "the outbox does not answer for now"))
	}
}

// now is a stamp for an update of c that has none: above every event that c can
// have been sent.
func (c *conn) now() hlc.Timestamp {
	c.server.clock.Merge(c.shard.dispatched().Hlc)
	return c.server.clock.Now()
}

// lifetime is a context that ends with a connection.
type lifetime struct {
	context.Context
	gone <-chan struct{}
}

func (l lifetime) Done() <-chan struct{} { return l.gone }

func (l lifetime) Err() error {
	select {
	case <-l.gone:
		return context.Canceled
	default:
		return nil
	}
}
