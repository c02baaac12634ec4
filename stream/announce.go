package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// store publishes m until the server has stored it or ctx ends. The id makes
// repetition harmless.
func (l *Log) store(ctx context.Context, what string, m *nats.Msg) error {
	for n := 0; ; n++ {
		ask, cancel := context.WithTimeout(ctx, apiTimeout)
		_, err := l.js.PublishMsg(ask, m)
		cancel()
		if err == nil {
			return nil
		}
		if n == 0 {
			l.logger.Warn("not stored yet", "what", what, "err", err)
		}
		if !retry(ctx, n) {
			return fmt.Errorf("stream: %s: %w", what, errors.Join(ctx.Err(), err))
		}
	}
}

// Announce stores an announcement frame under id and returns when it is
// stored. Whoever writes shard 0 calls it, nobody else, so that announcements
// keep their order.
func (l *Log) Announce(ctx context.Context, id string, frame []byte) error {
	return l.store(ctx, "announce", &nats.Msg{Subject: announcementsSubject, Data: frame, Header: nats.Header{
		headerFormat: {formatVersion},
		headerMsgID:  {id},
	}})
}

// FollowAnnouncements calls fn, from one goroutine, for each announcement that
// is stored from now on, until ctx ends; then it returns nil.
func (l *Log) FollowAnnouncements(ctx context.Context, fn func(frame []byte, stored time.Time)) error {
	var after uint64
	for n := 0; ctx.Err() == nil; n++ {
		err := l.followAnnouncements(ctx, &after, fn)
		if ctx.Err() == nil {
			l.logger.Warn("announcements are followed anew", "err", err)
			retry(ctx, n)
		}
	}
	return nil
}

// followAnnouncements follows from behind *after on, or from the end when that
// is zero, and keeps *after up to date.
func (l *Log) followAnnouncements(ctx context.Context, after *uint64, fn func([]byte, time.Time)) error {
	if *after == 0 {
		s, err := l.js.Stream(ctx, announcementsStream)
		if err != nil {
			return err
		}
		*after = s.CachedInfo().State.LastSeq
	}
	c, err := l.js.OrderedConsumer(ctx, announcementsStream, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: *after + 1,
	})
	if err != nil {
		return err
	}
	it, err := c.Messages()
	if err != nil {
		return err
	}
	defer it.Stop()
	for {
		m, err := it.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		seq, stored, err := sequenceOf(m.Reply())
		if err != nil {
			return err
		}
		*after = seq
		fn(m.Data(), stored)
	}
}
