package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// store publishes m until the server has stored it or ctx ends. The id makes
// repetition harmless: fresh says that it was not there before.
func (l *Log) store(ctx context.Context, what string, m *nats.Msg) (fresh bool, err error) {
	if err := l.disk.await(ctx); err != nil {
		return false, fmt.Errorf("stream: %s: %w", what, err)
	}
	for n := 0; ; n++ {
		ask, cancel := context.WithTimeout(ctx, apiTimeout)
		ack, err := l.js.PublishMsg(ask, m)
		cancel()
		if err == nil {
			return !ack.Duplicate, nil
		}
		if n == 0 {
			l.logger.Warn("not stored yet", "what", what, "err", err)
		}
		if !retry(ctx, n) {
			return false, fmt.Errorf("stream: %s: %w", what, errors.Join(ctx.Err(), err))
		}
	}
}

// Announce stores an announcement frame under id and returns when it is
// stored; fresh says that it was not there before. Whoever writes shard 0 calls
// it, nobody else, so that announcements keep their order.
func (l *Log) Announce(ctx context.Context, id string, frame []byte) (fresh bool, err error) {
	return l.store(ctx, "announce", &nats.Msg{Subject: announcementsSubject, Data: frame, Header: nats.Header{
		headerFormat: {formatVersion},
		headerMsgID:  {id},
	}})
}

// FollowAnnouncements calls fn, from one goroutine, for each announcement that
// is stored from now on, until ctx ends; then it returns nil.
func (l *Log) FollowAnnouncements(ctx context.Context, fn func(frame []byte, stored time.Time)) error {
	next := uint64(0) // sequence to go on with; 0 until the end was found once
	for n := 0; ctx.Err() == nil; n++ {
		before := next
		err := l.followAnnouncements(ctx, &next, fn)
		if next != before {
			n = 0
		}
		if ctx.Err() == nil {
			l.logger.Warn("announcements are followed anew", "err", err)
			retry(ctx, n)
		}
	}
	return nil
}

// followAnnouncements follows from *next on, or from the end when that is
// zero, and keeps *next up to date. A stream that ends before *next was made
// anew: all it has is new.
func (l *Log) followAnnouncements(ctx context.Context, next *uint64, fn func([]byte, time.Time)) error {
	s, err := l.js.Stream(ctx, announcementsStream)
	if err != nil {
		return err
	}
	switch last := s.CachedInfo().State.LastSeq; {
	case *next == 0:
		*next = last + 1
	case *next > last+1:
		*next = 1
	}
	ctx, release := l.untilReconnected(ctx)
	defer release()
	var at atomic.Uint64
	at.Store(*next - 1)
	ctx, stop := l.untilStalled(ctx, &at, func(ctx context.Context) (uint64, error) { return l.lastOn(ctx, announcementsStream, ">") })
	defer stop()
	c, err := l.ephemeral(ctx, announcementsStream, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: *next,
	})
	if err != nil {
		return err
	}
	defer c.stop()
	for {
		m, d, err := c.next(ctx)
		if err != nil {
			return cmp.Or(context.Cause(ctx), err)
		}
		*next = d.seq + 1
		at.Store(d.seq)
		fn(m.Data(), d.stored)
	}
}
