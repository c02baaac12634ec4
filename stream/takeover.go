package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"reprise/hlc"
)

// Acquire waits until nobody holds the lease of shard, takes it, fences off
// every older writer and returns the writer. It returns ctx's error when ctx
// ends first.
func (l *Log) Acquire(ctx context.Context, shard int) (*Writer, error) {
	return l.AcquireWhen(ctx, shard, func() bool { return true })
}

// AcquireWhen is [Log.Acquire] for one of several processes that share the
// shards: a lease that was given back is taken only while willing returns true.
// One whose holder has died is taken in any case. willing is called a few times
// a second and must not block.
func (l *Log) AcquireWhen(ctx context.Context, shard int, willing func() bool) (*Writer, error) {
	if shard < 0 || shard >= len(l.shards) {
		return nil, fmt.Errorf("stream: shard %d of %d", shard, len(l.shards))
	}
	for after := uint64(0); ; {
		le, err := l.takeLease(ctx, "shard."+strconv.Itoa(shard), after, 0, willing)
		if err != nil {
			return nil, fmt.Errorf("stream: acquire shard %d: %w", shard, err)
		}
		w := newWriter(l, shard, le)
		ready := make(chan struct{})
		w.start(ready) // taking over may take longer than the lease lives
		if err = w.takeOver(ctx); err == nil {
			w.active = time.Now()
			close(ready)
			if err = w.noteLoss(ctx); err == nil {
				l.logger.Info("shard taken", "shard", shard, "epoch", le.epoch, "seq", w.Stats().Last.Seq, "hlc", w.Stats().Last.Hlc)
				return w, nil
			}
		}
		w.fail(ErrClosed)
		<-w.done
		if errors.Is(err, errLeaseLost) || errors.Is(err, ErrDeposed) {
			after = w.newest
			continue
		}
		le.giveBack(ctx, w.clock.Last())
		return nil, fmt.Errorf("stream: acquire shard %d: %w", shard, err)
	}
}

// noteLoss writes a gap marker for what was lost with a disk, or is not in a backup
// that was restored.
func (w *Writer) noteLoss(ctx context.Context) error {
	if w.lost == (Gap{}) {
		return nil
	}
	w.log.logger.Error("the log does not have what its checkpoint had seen: events were lost", "shard", w.shard, "from", w.lost.From, "to", w.lost.To)
	return w.Gap(ctx, w.lost)
}

// takeOver sets the clock above everything the shard ever saw, fences, and
// loads what the writer must know. It retries until ctx ends; it returns
// errLeaseLost when another process took the lease meanwhile.
func (w *Writer) takeOver(ctx context.Context) error {
	for n := 0; ; n++ {
		err := w.tryTakeOver(ctx)
		if err == nil || errors.Is(err, errLeaseLost) {
			return err
		}
		if werr := w.Err(); werr != nil {
			return werr
		}
		if !errors.Is(err, errMoved) || n > 2 { // it moves once, or NATS is of two minds about it
			w.log.logger.Warn("shard cannot be taken over yet", "shard", w.shard, "err", err)
		}
		if !retry(ctx, n) {
			return errors.Join(ctx.Err(), err)
		}
	}
}

// errMoved says that the log's end moved under a fence.
var errMoved = errors.New("the log's end moved")

func (w *Writer) tryTakeOver(ctx context.Context) error {
	end, err := w.log.end(ctx, w.shard)
	if err != nil {
		return err
	}
	if w.newest = end.epoch; end.epoch >= w.lease.epoch && !(end.epoch == w.lease.epoch && w.fenced) {
		// Leases that were lost begin with small epochs again.
		w.lease.giveBack(ctx, end.Hlc)
		return errLeaseLost
	}
	floor := max(end.Hlc, w.lease.already)
	ahead := w.clock.Merge(floor)
	w.log.inst.drift.Record(ctx, max(ahead, 0).Seconds())
	if ahead > w.log.cfg.MaxDrift {
		w.log.logger.Warn("the log's last stamp is ahead of this machine's clock", "shard", w.shard, "ahead", ahead)
	}
	if err := w.raise(ctx); err != nil {
		return err
	}
	previous := floor
	if end.known {
		previous = end.Hlc
	}
	if err := w.fence(ctx, end.Position, previous); err != nil {
		return err
	}
	w.fenced = true
	w.log.forget(w.log.shards[w.shard])
	saved, err := w.checkpoints(ctx)
	if err != nil {
		return err
	}
	var newest Checkpoint
	for _, c := range saved {
		if c.Hlc > newest.Hlc {
			newest = c
		}
	}
	if w.lost, err = w.lossSince(ctx, newest, w.head); err != nil {
		return err
	}
	return w.loadKnown(ctx, saved)
}

// lossSince is what the log, which ends at head, had when a checkpoint was saved, and has no
// more: the record at the checkpoint's sequence bears another stamp, or the log does
// not reach so far. It is the same however often the shard has been fenced since.
func (w *Writer) lossSince(ctx context.Context, saved Checkpoint, head uint64) (Gap, error) {
	if saved.Seq == 0 {
		return Gap{}, nil
	}
	m, err := w.log.leaderGet(ctx, eventsStream(w.shard), msgGet{Seq: saved.Seq})
	switch {
	case errors.Is(err, errNoMessage):
		if saved.Seq <= head {
			return Gap{}, nil // retention took it, or it was erased
		}
	case err != nil:
		return Gap{}, err
	default:
		if r, _, err := parseLeader(m); err == nil && r.Hlc == saved.Hlc {
			return Gap{}, nil
		}
	}
	from, err := w.lastUpTo(ctx, saved.Hlc, head)
	return Gap{From: from, To: saved.Hlc}, err
}

// lastUpTo is the greatest stamp in the log up to at; zero if there is none.
func (w *Writer) lastUpTo(ctx context.Context, at hlc.Timestamp, head uint64) (found hlc.Timestamp, err error) {
	for lo, hi := uint64(1), head+1; lo < hi; {
		mid := lo + (hi-lo)/2
		m, err := w.log.leaderGet(ctx, eventsStream(w.shard), msgGet{Seq: mid, NextFor: ">"})
		if errors.Is(err, errNoMessage) {
			hi = mid
			continue
		}
		if err != nil {
			return 0, err
		}
		switch r, _, err := parseLeader(m); {
		case err != nil: // no bridge wrote it
			lo = m.Seq + 1
		case r.Hlc > at:
			hi = mid
		default:
			found, lo = r.Hlc, m.Seq+1
		}
	}
	return found, nil
}

// end is the last position of a shard and the epoch of who wrote it.
type end struct {
	Position
	epoch uint64
	known bool // Hlc is the stamp of the record at Seq
}

// end asks the leader. Sequence and stamp come from one answer where the last
// record still exists. Where it is gone (expired, erased), Hlc is zero or the
// stamp of an earlier record, and known is false.
func (l *Log) end(ctx context.Context, shard int) (end, error) {
	m, err := l.leaderGet(ctx, eventsStream(shard), msgGet{LastFor: ">"})
	if err == nil {
		r, h, err := parseLeader(m)
		if err != nil { // no bridge wrote it: it counts as a sequence, no more
			return end{Position: Position{Seq: m.Seq}}, nil
		}
		return end{Position: r.Position, epoch: number(h, headerWriter), known: true}, nil
	}
	if !errors.Is(err, errNoMessage) {
		return end{}, err
	}
	state, err := l.info(ctx, shard)
	if err != nil {
		return end{}, err
	}
	e := end{Position: Position{Seq: state.Last}, known: state.Last == 0}
	if state.Messages == 0 {
		return e, nil
	}
	// The last record was deleted: the newest that is left tells the stamp.
	m, err = l.leaderGet(ctx, eventsStream(shard), msgGet{LastFor: eventsPrefix(shard) + "*"})
	if errors.Is(err, errNoMessage) {
		return e, nil
	}
	if err != nil {
		return end{}, err
	}
	if r, h, err := parseLeader(m); err == nil {
		e.Hlc, e.epoch = r.Hlc, number(h, headerWriter)
	}
	return e, nil
}

// End asks the shard's leader for the last position. Where the last record is
// gone, its stamp is not known any more and the lease's ceiling, which is at or
// above it, stands for it.
func (l *Log) End(ctx context.Context, shard int) (Position, error) {
	e, err := l.end(ctx, shard)
	if err != nil || e.known {
		return e.Position, err
	}
	lease, _, err := l.readLease(ctx, "shard."+strconv.Itoa(shard))
	e.Hlc = max(e.Hlc, lease.Ceiling)
	return e.Position, err
}

// beforeRelays is a stamp below all that a relay ever gave.
var beforeRelays = hlc.New(time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli(), 0)

// fence writes window markers as one atomic batch (ADR-50) behind at. An older
// writer has at most window appends in flight, each with the sequence it
// expects; after the batch all of those lie behind the log's end, so none can
// be stored. One marker would not do: a paused writer that replays the same
// feed as its successor would fit exactly behind it.
func (w *Writer) fence(ctx context.Context, at Position, previous hlc.Timestamp) error {
	batch := uuid.NewString()
	if at.Seq == 0 {
		// A new log, or one whose files are gone: a cursor that some relay once
		// gave is from another log. What is older than any relay is just small.
		previous = max(previous, beforeRelays)
	}
	var stamps [window]hlc.Timestamp
	for i := range stamps {
		stamps[i] = w.clock.Now() // all under the ceiling, however long the batch takes
	}
	for i := range window {
		m := nats.NewMsg(subjectOf(w.shard, markerToken))
		m.Header[headerFormat] = []string{formatVersion}
		m.Header[headerWriter] = []string{w.epoch}
		m.Header[headerHlc] = []string{stamps[i].String()}
		m.Header[headerBatchID] = []string{batch}
		m.Header[headerBatchSeq] = []string{strconv.Itoa(i + 1)}
		if i == 0 {
			m.Header[headerExpectedSeq] = []string{strconv.FormatUint(at.Seq, 10)}
			m.Header[headerPrevious] = []string{previous.String()}
		}
		if i < window-1 {
			if err := w.nc.PublishMsg(m); err != nil {
				return wrap("fence", err)
			}
			continue
		}
		m.Header[headerBatchCommit] = []string{"1"}
		ask, cancel := context.WithTimeout(ctx, fenceTimeout)
		answer, err := w.nc.RequestMsgWithContext(ask, m)
		cancel()
		if err != nil {
			return wrap("fence", err)
		}
		var ack struct {
			Seq   uint64    `json:"seq"`
			Error *apiError `json:"error"`
		}
		if err := json.Unmarshal(answer.Data, &ack); err != nil {
			return wrap("fence", err)
		}
		if ack.Error != nil {
			if isWrongSequence(ack.Error.ErrCode) {
				return errMoved
			}
			return wrap("fence", ack.Error)
		}
		w.head = ack.Seq
	}
	w.last = Position{Seq: w.head, Hlc: stamps[window-1]}
	return nil
}
