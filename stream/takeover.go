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
	if shard < 0 || shard >= len(l.shards) {
		return nil, fmt.Errorf("stream: shard %d of %d", shard, len(l.shards))
	}
	for after := uint64(0); ; {
		le, err := l.takeLease(ctx, "shard."+strconv.Itoa(shard), after, 0)
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

// noteLoss writes a gap marker when the checkpoint is ahead of where the log
// ended: what lay between was lost with a disk, and PubNub will not be asked
// for it again.
func (w *Writer) noteLoss(ctx context.Context) error {
	if w.lost == (Gap{}) {
		return nil
	}
	w.log.logger.Error("the log ends before its checkpoint: events were lost", "shard", w.shard, "from", w.lost.From, "to", w.lost.To)
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
		if !errors.Is(err, errMoved) {
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
	if w.ckpt, w.ckptRev, err = w.readCheckpoint(ctx); err != nil {
		return err
	}
	if end.known && w.ckpt.Hlc > end.Hlc {
		w.lost = Gap{From: end.Hlc, To: w.ckpt.Hlc}
	}
	return w.loadKnown(ctx)
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
		ask, cancel := context.WithTimeout(ctx, appendTimeout)
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

// readCheckpoint reads the shard's checkpoint from the bucket's leader; the
// zero record and revision mean that there is none.
func (w *Writer) readCheckpoint(ctx context.Context) (rec checkpointRecord, rev uint64, err error) {
	m, err := w.log.leaderGet(ctx, kvStream(checkpointsBucket), msgGet{LastFor: kvSubject(checkpointsBucket, w.checkpointKey())})
	if errors.Is(err, errNoMessage) {
		return rec, 0, nil
	}
	if err != nil {
		return rec, 0, err
	}
	err = json.Unmarshal(m.Data, &rec)
	return rec, m.Seq, wrap("checkpoint "+w.checkpointKey(), err)
}

// checkpointRecord is a Checkpoint as the bucket keeps it.
type checkpointRecord struct {
	Checkpoint
	Epoch uint64 `json:"epoch"` // of the lease of who saved it
}

func (w *Writer) checkpointKey() string { return "shard." + strconv.Itoa(w.shard) }

// Checkpoint is what was last saved for this shard, by whomever.
func (w *Writer) Checkpoint() Checkpoint {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ckpt.Checkpoint
}

// Save flushes, then moves the shard's checkpoint to PubNub's cursor
// (timetoken, region). It returns ErrDeposed if somebody else moved it. Calls
// must not overlap.
func (w *Writer) Save(ctx context.Context, timetoken string, region int) error {
	if err := w.Flush(ctx); err != nil {
		return err
	}
	w.mu.Lock()
	rev := w.ckptRev
	rec := checkpointRecord{Epoch: w.lease.epoch, Checkpoint: Checkpoint{
		Timetoken: timetoken, Region: region, Seq: w.last.Seq, Hlc: w.last.Hlc, SavedAt: w.log.cfg.Wall().UTC().Truncate(time.Millisecond),
	}}
	w.mu.Unlock()
	for n := 0; ; n++ {
		now, err := w.log.swap(ctx, checkpointsBucket, w.checkpointKey(), rec, rev)
		switch {
		case err == nil:
			w.mu.Lock()
			w.ckpt, w.ckptRev = rec, now
			w.mu.Unlock()
			return nil
		case errors.Is(err, errSwapped):
			// A write of ours whose answer was lost, an older writer's that does not
			// know yet that it was deposed, or our successor's?
			if there, at, rerr := w.readCheckpoint(ctx); rerr == nil {
				if there.Epoch > rec.Epoch {
					w.fail(ErrDeposed)
					return ErrDeposed
				}
				rev = at
			}
		}
		if err := w.Err(); err != nil {
			return err
		}
		if !retry(ctx, n) {
			return errors.Join(ctx.Err(), err)
		}
	}
}
