package stream

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// keyFollower follows keys of a bucket: the newest record of each, and then what
// comes. Its fields are owned by the goroutine of follow.
type keyFollower struct {
	log     *Log
	bucket  string
	filter  string
	fn      func(m jetstream.Msg, seq uint64)
	current func()        // nil once it was called
	at      atomic.Uint64 // newest record that was handed out since the consumer was made
}

// follow consumes, again and again, until ctx ends. anew is what it says in the
// log when it has to begin again.
func (f *keyFollower) follow(ctx context.Context, anew string) {
	for n := 0; ctx.Err() == nil; n++ {
		f.at.Store(0)
		err := f.consume(ctx)
		if f.at.Load() != 0 {
			n = 0
		}
		if ctx.Err() == nil {
			f.log.logger.Warn(anew, "filter", f.filter, "err", err)
			retry(ctx, n)
		}
	}
}

// currentPatience is how long nothing comes before the end is looked for anew:
// the record there may have been deleted before it was handed out.
const currentPatience = time.Second

// consume hands out the newest record of every key and then what comes.
func (f *keyFollower) consume(ctx context.Context) error {
	ctx, release := f.log.untilReconnected(ctx)
	defer release()
	ctx, stop := f.log.untilStalled(ctx, &f.at, f.end)
	defer stop()
	end, err := f.end(ctx)
	if err != nil {
		return err
	}
	return f.deliver(ctx, end)
}

// deliver makes a consumer and hands out what it delivers. With the record at
// end, all that there were have been handed out.
func (f *keyFollower) deliver(ctx context.Context, end uint64) error {
	c, err := f.log.ephemeral(ctx, kvStream(f.bucket), jetstream.ConsumerConfig{
		FilterSubject: f.filter, DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy,
	})
	if err != nil {
		return err
	}
	defer c.stop()
	for {
		wait, cancel := ctx, context.CancelFunc(func() {})
		if f.current != nil {
			if f.at.Load() >= end {
				f.current()
				f.current = nil
				continue
			}
			wait, cancel = context.WithTimeout(ctx, currentPatience)
		}
		m, d, err := c.next(wait)
		cancel()
		switch {
		case err == nil:
			// What fn makes nothing of, the mark of a deletion say, only moves the position.
			f.at.Store(d.seq)
			f.fn(m, d.seq)
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			if end, err = f.end(ctx); err != nil {
				return err
			}
		default:
			return cmp.Or(context.Cause(ctx), err)
		}
	}
}

// end is the sequence of the newest record as the bucket's leader knows it, 0 when there is none.
func (f *keyFollower) end(ctx context.Context) (uint64, error) {
	return f.log.lastOn(ctx, kvStream(f.bucket), f.filter)
}
