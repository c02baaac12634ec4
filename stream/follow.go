package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"reprise/hlc"
)

const (
	// pullBatch is how many records are asked for at a time.
	pullBatch = 2000
	// ackEvery and ackAfter are how often the newest record handed out is acknowledged.
	ackEvery = 500
	ackAfter = 100 * time.Millisecond
	// consumerIdle is how long the server keeps the consumer of an edge that is gone.
	consumerIdle = 10 * time.Minute
)

// FollowOptions says where to start. The zero value starts at the end.
type FollowOptions struct {
	// Warm is how far back to start, by the time of storing; 0 is not at all.
	Warm time.Duration
}

// Follow calls fn, from one goroutine, for each step of shard's log, beginning
// with a KindStart, until ctx ends; then it returns nil. Lost connections,
// deleted consumers and restarted servers are waited out, and nothing is
// skipped over them: sequences are consecutive, and a record that is not the
// next one is not handed out. An error says that the arguments are wrong or
// that another process follows under this node's name.
//
// A shard is followed once at a time in a process.
func (l *Log) Follow(ctx context.Context, shard int, opts FollowOptions, fn func(*Record)) error {
	if shard < 0 || shard >= len(l.shards) {
		return fmt.Errorf("stream: shard %d of %d", shard, len(l.shards))
	}
	outer := ctx
	ctx, release, err := l.holdNode(outer, shard)
	if err != nil {
		if outer.Err() != nil {
			return nil
		}
		return err
	}
	defer release()
	f := &follower{log: l, shard: l.shards[shard], durable: edgePrefix + l.cfg.Node, acks: true, fn: fn, warm: opts.Warm, halfOpen: -1}
	f.follow(ctx)
	if outer.Err() != nil {
		return nil
	}
	return context.Cause(ctx)
}

// followFrom is Follow from a position that was kept, by a consumer of that name that
// nothing is acknowledged to: the position is. No KindStart is handed out, and what
// readers of the log know of the shard is not touched.
func (l *Log) followFrom(ctx context.Context, shard int, durable string, at Position, fn func(*Record)) {
	f := &follower{log: l, shard: newShard(l, shard), durable: durable, fn: fn, at: at, halfOpen: -1}
	f.goOn(ctx)
}

// follow starts and consumes until ctx ends.
func (f *follower) follow(ctx context.Context) {
	l := f.log
	for n := 0; ; n++ {
		err := f.start(ctx)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return
		}
		l.logger.Warn("shard cannot be followed yet", "shard", f.shard.n, "err", err)
		if !retry(ctx, n) {
			return
		}
	}
	f.goOn(ctx)
}

// goOn consumes until ctx ends.
func (f *follower) goOn(ctx context.Context) {
	l := f.log
	for n := 0; ctx.Err() == nil; n++ {
		handed := f.at.Seq
		err := f.consume(ctx)
		if ctx.Err() != nil {
			return
		}
		if f.at.Seq != handed {
			n = 0
		}
		if errors.Is(err, jetstream.ErrConsumerDeleted) {
			f.doubt() // perhaps with its stream
		}
		l.inst.remade.Add(ctx, 1)
		l.logger.Warn("consumer is made anew", "shard", f.shard.n, "seq", f.at.Seq, "err", err)
		retry(ctx, n)
	}
}

// follower follows one shard. Its fields are owned by Follow's goroutine, but
// for newest.
type follower struct {
	log     *Log
	shard   *shard
	durable string // the consumer's name
	acks    bool   // it is told how far this is
	fn      func(*Record)
	warm    time.Duration
	at      Position // handed out and everything before it
	end     uint64   // sequence that a KindCurrent follows; 0 is none
	// misses is how often the consumer that is there did not answer.
	misses int
	// halfOpen is how many connections of the log were half open when the consumer was
	// deleted last; -1 is never: the process before may have been on a machine that died.
	halfOpen int64
	stalled  bool // the consumer that is there has come to a stand

	mu     sync.Mutex
	newest string // reply subject that acknowledges the newest record, "" when it is acknowledged
}

// hand lets readers of the log know r and then gives it to the caller: who
// resumes because of a gap must find it noted.
func (f *follower) hand(r *Record, previous hlc.Timestamp, hasPrevious bool) {
	s := f.shard
	s.mu.Lock()
	s.at, s.followed = r.Position, true
	s.points.add(r.Position)
	s.mark(r, previous, hasPrevious)
	s.mu.Unlock()
	f.at = r.Position
	f.fn(r)
	if f.end != 0 && f.at.Seq >= f.end {
		f.end = 0
		f.fn(&Record{Kind: KindCurrent, Position: f.at})
	}
}

// start finds the first position and loads the markers up to it.
func (f *follower) start(ctx context.Context) error {
	end, err := f.log.End(ctx, f.shard.n)
	if err != nil {
		return err
	}
	at := end
	if f.warm > 0 && at.Seq > 0 {
		if at, err = f.log.before(ctx, f.shard, time.Now().Add(-f.warm), at); err != nil {
			return err
		}
	}
	if err := f.log.loadMarks(ctx, f.shard, at); err != nil {
		return err
	}
	warm := at.Seq < end.Seq
	f.hand(&Record{Kind: KindStart, Position: at, Warm: warm}, 0, false)
	if warm {
		f.end = end.Seq
	}
	return nil
}

// doubt has no cursor judged until it is known which log this is.
func (f *follower) doubt() {
	f.shard.mu.Lock()
	f.shard.followed = false
	f.shard.mu.Unlock()
}

// reset starts over at the end of a log that is not the one that was followed.
func (f *follower) reset(ctx context.Context) error {
	f.doubt()
	at, err := f.log.End(ctx, f.shard.n)
	if err != nil {
		return err
	}
	if err := f.log.loadMarks(ctx, f.shard, at); err != nil {
		return err
	}
	f.end = 0
	f.log.logger.Warn("the log was replaced by an older one", "shard", f.shard.n, "seq", f.at.Seq, "now", at.Seq)
	f.hand(&Record{Kind: KindReset, Position: at}, 0, false)
	return nil
}

// errReconnected says that the connection to the server is a new one.
var errReconnected = errors.New("reconnected")

// errReplaced says that the stream is not the one that was followed.
var errReplaced = errors.New("the stream was replaced")

// compare says whether the stream, as who answers for it knows it, is not the one that
// was followed.
func (f *follower) compare(ctx context.Context) (state streamState, replaced bool, err error) {
	ask, cancel := context.WithTimeout(ctx, leaderTimeout)
	state, err = f.log.info(ask, f.shard.n)
	cancel()
	if err != nil || state.Last < f.at.Seq {
		return state, err == nil, err
	}
	if f.at.Seq < max(state.First, 1) {
		return state, false, nil
	}
	m, err := f.log.leaderGet(ctx, f.shard.stream, msgGet{Seq: f.at.Seq})
	if errors.Is(err, errNoMessage) {
		return state, false, nil
	}
	if err != nil {
		return state, false, err
	}
	r, _, err := parseLeader(m)
	return state, err == nil && r.Hlc != f.at.Hlc, nil
}

// check compares the stream with the position before following goes on. It
// hands out a KindLost when retention has overtaken, a KindReset when the
// stream was replaced.
func (f *follower) check(ctx context.Context) error {
	state, replaced, err := f.compare(ctx)
	var refused *apiError
	if replaced || errors.As(err, &refused) && refused.ErrCode == codeNoStream {
		f.doubt()
	}
	if err == nil && replaced {
		if err = f.log.sure(ctx, f.shard.n); err == nil {
			state, replaced, err = f.compare(ctx)
		}
	}
	if err != nil {
		return err
	}
	if replaced {
		return f.reset(ctx)
	}
	if state.First > f.at.Seq+1 {
		lost := Position{Seq: state.First - 1, Hlc: f.at.Hlc}
		if m, err := f.log.leaderGet(ctx, f.shard.stream, msgGet{Seq: state.First, NextFor: ">"}); err == nil {
			r, _, err := parseLeader(m)
			if err != nil {
				return err
			}
			lost.Hlc = max(lost.Hlc, r.Hlc-1)
		} else if !errors.Is(err, errNoMessage) {
			return err
		} else if at, err := f.log.End(ctx, f.shard.n); err != nil {
			return err
		} else {
			lost.Hlc = max(lost.Hlc, at.Hlc)
		}
		f.log.logger.Warn("retention overtook this edge", "shard", f.shard.n, "from", f.at.Seq+1, "to", lost.Seq)
		f.hand(&Record{Kind: KindLost, Position: lost}, 0, false)
	}
	// It is the log that was followed, whatever was thought of it meanwhile.
	f.shard.mu.Lock()
	f.shard.followed = true
	f.shard.mu.Unlock()
	return nil
}

// consume makes the consumer and hands out what it delivers, until something
// is not as it must be.
func (f *follower) consume(ctx context.Context) error {
	if err := f.check(ctx); err != nil {
		return err
	}
	c, err := f.consumer(ctx)
	if err != nil {
		return err
	}
	it, err := c.Messages(jetstream.PullMaxMessages(pullBatch), jetstream.PullThresholdMessages(pullBatch/2),
		jetstream.PullExpiry(pullExpiry), jetstream.PullHeartbeat(pullHeartbeat))
	if err != nil {
		return err
	}
	defer it.Stop()
	ctx, release := f.log.untilReconnected(ctx)
	defer release()
	var at atomic.Uint64
	at.Store(f.at.Seq)
	ctx, calm := f.log.untilStalled(ctx, &at, func(ctx context.Context) (uint64, error) {
		if seen := f.log.sights.ends[f.shard.n].Load(); seen == nil || seen.seq <= at.Load() {
			return 0, nil
		}
		return f.log.lastOn(ctx, f.shard.stream, ">")
	})
	defer calm()
	acking, stop := context.WithCancel(ctx)
	var acker sync.WaitGroup
	if f.acks {
		acker.Go(func() { f.ack(acking) })
	}
	defer acker.Wait()
	defer stop()
	for n := 1; ; n++ {
		m, err := it.Next(jetstream.NextContext(ctx))
		if err != nil {
			err = cmp.Or(context.Cause(ctx), err)
			f.stalled = errors.Is(err, errStalled)
			return err
		}
		if err := f.deliver(ctx, m); err != nil {
			return err
		}
		at.Store(f.at.Seq)
		if !f.acks {
			continue
		}
		f.mu.Lock()
		f.newest = m.Reply()
		f.mu.Unlock()
		if n%ackEvery == 0 {
			f.ackNewest()
		}
	}
}

// consumer is this edge's consumer, about to deliver the next record. One that is
// there is reset, unless a connection was given up without the server's knowing: a
// pull that came over it would be given records, which the deletion ends. Nor is one
// that has come to a stand: another one may be led by another server. To make one takes
// an election, which takes seconds while a server is down, and an edge that made another
// one meanwhile would wait for the next.
func (f *follower) consumer(ctx context.Context) (jetstream.Consumer, error) {
	js, want := f.log.js, jetstream.ConsumerConfig{
		Durable:           f.durable,
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       f.at.Seq + 1,
		AckPolicy:         jetstream.AckAllPolicy,
		AckWait:           30 * time.Second,
		MaxAckPending:     10 * pullBatch,
		MaxDeliver:        -1,
		MemoryStorage:     true,
		InactiveThreshold: consumerIdle,
	}
	if !f.acks {
		want.AckPolicy, want.AckWait, want.MaxAckPending = jetstream.AckNonePolicy, 0, 0
	}
	halfOpen := f.log.halfOpen.Load()
	c, err := jetstream.Consumer(nil), errOther
	if halfOpen == f.halfOpen && !f.stalled {
		c, err = f.rewound(ctx, want)
	}
	switch {
	case err == nil:
		f.misses = 0
		return c, nil
	case errors.Is(err, jetstream.ErrConsumerNotFound):
	case !errors.Is(err, errOther) && f.misses < missesMost:
		f.misses++
		return nil, err
	default:
		if err := js.DeleteConsumer(ctx, f.shard.stream, want.Durable); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return nil, err
		}
		f.halfOpen, f.stalled = halfOpen, false
	}
	f.misses = 0
	return js.CreateConsumer(ctx, f.shard.stream, want)
}

// errOther says that a consumer is there that cannot be used.
var errOther = errors.New("the consumer is another one")

// missesMost is how often a consumer that does not answer is asked before another one
// is made.
const missesMost = 8

// rewound is the consumer that is there, reset to where want begins.
func (f *follower) rewound(ctx context.Context, want jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, leaderTimeout)
	defer cancel()
	c, err := f.log.js.Consumer(ctx, f.shard.stream, want.Durable)
	if err != nil {
		return nil, err
	}
	have := c.CachedInfo().Config
	if have.FilterSubject != "" || len(have.FilterSubjects) > 0 || have.DeliverPolicy != want.DeliverPolicy || have.OptStartSeq > want.OptStartSeq ||
		have.AckPolicy != want.AckPolicy || have.AckWait != want.AckWait || have.MaxAckPending != want.MaxAckPending ||
		have.MaxDeliver != want.MaxDeliver || have.MemoryStorage != want.MemoryStorage || have.InactiveThreshold != want.InactiveThreshold {
		return nil, errOther
	}
	_, err = f.log.js.ResetConsumerToSequence(ctx, f.shard.stream, want.Durable, want.OptStartSeq)
	switch {
	case errors.Is(err, jetstream.ErrConsumerInvalidReset), errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrJetStreamNotEnabled):
		return nil, errOther // of a log that was replaced, or of a server before 2.14
	case err != nil:
		return nil, err
	}
	return c, nil
}

// untilReconnected ends the returned context, with the cause errReconnected,
// once the connection to the server is a new one: what was under way on the old
// one will not come, nor is a consumer in memory there any more if its server
// was started anew. release must be called.
func (l *Log) untilReconnected(ctx context.Context) (same context.Context, release func()) {
	connected := l.nc.StatusChanged(nats.CONNECTED)
	same, cut := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-connected:
			cut(errReconnected)
		case <-same.Done():
		}
	}()
	return same, func() {
		cut(nil)
		l.nc.RemoveStatusListener(connected)
	}
}

// ack acknowledges the newest record from time to time.
func (f *follower) ack(ctx context.Context) {
	tick := time.NewTicker(ackAfter)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			f.ackNewest()
			return
		case <-tick.C:
			f.ackNewest()
		}
	}
}

func (f *follower) ackNewest() {
	f.mu.Lock()
	reply := f.newest
	f.newest = ""
	f.mu.Unlock()
	if reply != "" {
		_ = f.log.nc.Publish(reply, []byte("+ACK"))
	}
}

// deliver hands out m if it is the next record. A lower one was handed out
// before. A higher one is not handed out, nor acknowledged, unless the leader
// says that what lies between was deleted: AckAll would acknowledge records
// that a cut connection swallowed.
func (f *follower) deliver(ctx context.Context, m jetstream.Msg) error {
	d, err := deliveryOf(m.Reply())
	if err != nil {
		return err
	}
	seq := d.seq
	r := Record{Position: Position{Seq: seq}, Stored: d.stored}
	switch {
	case seq <= f.at.Seq:
		return nil
	case seq > f.at.Seq+1:
		next, err := f.log.leaderGet(ctx, f.shard.stream, msgGet{Seq: f.at.Seq + 1, NextFor: ">"})
		if err != nil {
			return err
		}
		state, err := f.log.info(ctx, f.shard.n)
		if err != nil {
			return err
		}
		if next.Seq != seq || state.First > f.at.Seq+1 {
			return fmt.Errorf("record %d came after %d", seq, f.at.Seq)
		}
	}
	h := m.Headers()
	if err := parseRecord(&r, m.Subject(), h, m.Data()); err != nil {
		// Not one of ours: a record that no bridge wrote. It moves the position.
		f.log.logger.Error("a record that is none is passed over", "shard", f.shard.n, "seq", seq, "err", err)
		r = Record{Kind: KindMarker, Position: Position{Seq: seq, Hlc: f.at.Hlc}}
	} else if r.Hlc <= f.at.Hlc {
		if rerr := f.reset(ctx); rerr != nil {
			return rerr
		}
		return errReplaced
	}
	previous, has := previousOf(h)
	f.hand(&r, previous, has)
	return nil
}

// previousOf is the last stamp before a take-over, where the record tells it.
func previousOf(h nats.Header) (hlc.Timestamp, bool) {
	t, err := hlc.Parse(header(h, headerPrevious))
	return t, err == nil
}

// delivery is what a delivery's reply subject says of it:
// $JS.ACK.[<domain>.<account hash>.]<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<ns>.<pending>[.<token>]
type delivery struct {
	seq     uint64 // of the record
	number  uint64 // of the delivery, from 1
	stored  time.Time
	pending uint64 // records that are to be delivered yet
}

func deliveryOf(reply string) (d delivery, err error) {
	tokens := strings.Split(reply, ".")
	at := 5
	if len(tokens) >= 11 {
		at = 7
	}
	if len(tokens) < at+4 {
		return delivery{}, fmt.Errorf("reply subject %q", reply)
	}
	var ns int64
	var errs [4]error
	d.seq, errs[0] = strconv.ParseUint(tokens[at], 10, 64)
	d.number, errs[1] = strconv.ParseUint(tokens[at+1], 10, 64)
	ns, errs[2] = strconv.ParseInt(tokens[at+2], 10, 64)
	d.pending, errs[3] = strconv.ParseUint(tokens[at+3], 10, 64)
	d.stored = time.Unix(0, ns)
	return d, errors.Join(errs[:]...)
}
