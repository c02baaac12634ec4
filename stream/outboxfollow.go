package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// outboxPull is how many entries are asked for at a time: they wait in this
	// process while fn is busy.
	outboxPull = 100
	// outboxAckWait is after how long the server offers an entry again that was
	// handed out. Nobody else may have it, so this is only not forever.
	outboxAckWait = time.Hour
)

// FollowOutbox calls fn, from one goroutine, for each entry of shard's outbox,
// oldest first and each once, until ctx ends; then it returns nil. Entries stay
// in the outbox until [Log.Settle]; those that are left come again with the
// next FollowOutbox. Lost connections, deleted consumers and
// restarted servers are waited out.
//
// Only who writes the shard calls it: a second follower takes the entries from
// the first. An error says that there is no such shard.
func (l *Log) FollowOutbox(ctx context.Context, shard int, fn func(Pending)) error {
	if shard < 0 || shard >= len(l.shards) {
		return fmt.Errorf("stream: shard %d of %d", shard, len(l.shards))
	}
	f := &outboxFollower{log: l, shard: shard, fn: fn}
	for n := 0; ctx.Err() == nil; n++ {
		before := f.seq.Load()
		err := f.consume(ctx)
		if f.seq.Load() != before {
			n = 0
		}
		if ctx.Err() == nil {
			l.inst.remade.Add(ctx, 1)
			l.logger.Warn("outbox is followed anew", "shard", shard, "seq", f.seq.Load(), "err", err)
			retry(ctx, n)
		}
	}
	return nil
}

// outboxFollower follows one shard's outbox. Its fields are owned by
// FollowOutbox's goroutine.
type outboxFollower struct {
	log    *Log
	shard  int
	fn     func(Pending)
	seq    atomic.Uint64 // the newest entry that was handed out
	stored time.Time     // and when it was stored
	making string        // the attempt whose consumer has not come; "" is none
	misses int           // how often that was asked for in vain
}

// consume makes the consumer anew and hands out what it delivers. The deletion
// ends a predecessor's pull, and frees what that was given.
func (f *outboxFollower) consume(ctx context.Context) error {
	ctx, release := f.log.untilReconnected(ctx)
	defer release()
	ctx, stop := f.log.untilStalled(ctx, &f.seq, func(ctx context.Context) (uint64, error) {
		return f.log.lastOn(ctx, outboxStream, outboxSubject(f.shard, "*"))
	})
	defer stop()
	c, err := f.consumer(ctx)
	if err != nil {
		return err
	}
	it, err := c.Messages(jetstream.PullMaxMessages(outboxPull), jetstream.PullExpiry(pullExpiry), jetstream.PullHeartbeat(pullHeartbeat))
	if err != nil {
		return err
	}
	defer it.Stop()
	for n := uint64(1); ; n++ {
		m, err := it.Next(jetstream.NextContext(ctx))
		if err != nil {
			return cmp.Or(context.Cause(ctx), err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		if meta.Sequence.Consumer != n {
			return fmt.Errorf("delivery %d came where %d was due", meta.Sequence.Consumer, n)
		}
		f.deliver(m, meta)
	}
}

// consumer is a new consumer. One that was asked for and did not come in time may have
// come since: with a server down it takes an election, and who made another one
// meanwhile would wait for the next.
func (f *outboxFollower) consumer(ctx context.Context) (jetstream.Consumer, error) {
	js, name := f.log.js, outboxConsumer(f.shard)
	if f.making != "" {
		ask, cancel := context.WithTimeout(ctx, leaderTimeout)
		c, err := js.Consumer(ask, outboxStream, name)
		cancel()
		switch {
		case err == nil && c.CachedInfo().Config.Metadata[metaMade] == f.making:
			f.making = ""
			return c, nil
		case err == nil, errors.Is(err, jetstream.ErrConsumerNotFound), f.misses == missesMost:
		default:
			f.misses++
			return nil, err
		}
	}
	f.misses = 0
	if err := js.DeleteConsumer(ctx, outboxStream, name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil, err
	}
	f.making = uuid.NewString()
	c, err := js.CreateConsumer(ctx, outboxStream, jetstream.ConsumerConfig{
		Durable:       name,
		FilterSubject: outboxSubject(f.shard, "*"),
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       outboxAckWait,
		MaxAckPending: -1, // bounded by the outbox
		MaxDeliver:    -1,
		MemoryStorage: true, // what it knows is forgotten with it
		Metadata:      map[string]string{metaMade: f.making},
	})
	if err == nil {
		f.making = ""
	}
	return c, err
}

// metaMade is the metadata key that says which attempt made a consumer.
const metaMade = "reprise-made"

// deliver hands out m. What this follower has handed out is passed over: the
// caller has it still. A number that comes again with a later time is another entry's, of a
// server that has lost its newest.
func (f *outboxFollower) deliver(m jetstream.Msg, meta *jetstream.MsgMetadata) {
	seq := meta.Sequence.Stream
	if seq <= f.seq.Load() && !meta.Timestamp.After(f.stored) {
		return
	}
	f.stored = meta.Timestamp
	f.seq.Store(seq)
	u, err := parseUpdate(m.Subject(), m.Headers(), m.Data())
	if err != nil {
		// Perhaps a newer build's, so it stays.
		f.log.logger.Error("an outbox entry that is none is passed over", "shard", f.shard, "seq", seq, "err", err)
		return
	}
	f.fn(Pending{Update: u, Seq: seq, Stored: meta.Timestamp})
}

// parseUpdate reads an entry of the outbox.
func parseUpdate(subject string, h nats.Header, body []byte) (Update, error) {
	u := Update{
		ID: header(h, headerID), User: userOf(subject), Device: header(h, headerDevice),
		Channel: header(h, headerChannel), Body: body,
	}
	if v := header(h, headerFormat); v != formatVersion {
		return u, fmt.Errorf("%s %q", headerFormat, v)
	}
	if u.ID == "" || u.Device == "" || u.Channel == "" {
		return u, fmt.Errorf("id %q, device %q, channel %q", u.ID, u.Device, u.Channel)
	}
	if x := header(h, headerExpires); x != "" {
		var err error
		if u.Expires, err = strconv.ParseInt(x, 10, 64); err != nil {
			return u, fmt.Errorf("%s: %w", headerExpires, err)
		}
	}
	return u, nil
}
