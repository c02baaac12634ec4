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
	for {
		le, err := l.takeLease(ctx, "shard."+strconv.Itoa(shard))
		if err != nil {
			return nil, fmt.Errorf("stream: acquire shard %d: %w", shard, err)
		}
		w := newWriter(l, shard, le)
		err = w.takeOver(ctx)
		if err == nil {
			w.start()
			l.logger.Info("shard taken", "shard", shard, "epoch", le.epoch, "seq", w.head, "hlc", w.clock.Last())
			return w, nil
		}
		if !errors.Is(err, errLeaseLost) {
			return nil, fmt.Errorf("stream: acquire shard %d: %w", shard, err)
		}
	}
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
	if end.epoch > w.lease.epoch {
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
	if err := w.loadCheckpoint(ctx); err != nil {
		return err
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
		return end{Position: r.Position, epoch: number(h, headerWriter), known: true}, wrap(fmt.Sprintf("%s record %d", eventsStream(shard), m.Seq), err)
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
	r, h, err := parseLeader(m)
	e.Hlc, e.epoch = r.Hlc, number(h, headerWriter)
	return e, wrap(fmt.Sprintf("%s record %d", eventsStream(shard), m.Seq), err)
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

// fence writes window markers as one atomic batch (ADR-50) behind at. An older
// writer has at most window appends in flight, each with the sequence it
// expects; after the batch all of those lie behind the log's end, so none can
// be stored. One marker would not do: a paused writer that replays the same
// feed as its successor would fit exactly behind it.
func (w *Writer) fence(ctx context.Context, at Position, previous hlc.Timestamp) error {
	batch := uuid.NewString()
	var stamp hlc.Timestamp
	for i := range window {
		stamp = w.clock.Now()
		m := nats.NewMsg(subjectOf(w.shard, markerToken))
		m.Header[headerFormat] = []string{formatVersion}
		m.Header[headerWriter] = []string{w.epoch}
		m.Header[headerHlc] = []string{stamp.String()}
		m.Header[headerBatchID] = []string{batch}
		m.Header[headerBatchSeq] = []string{strconv.Itoa(i + 1)}
		if i == 0 {
			m.Header[headerExpectedSeq] = []string{strconv.FormatUint(at.Seq, 10)}
			if at.Seq > 0 {
				m.Header[headerPrevious] = []string{previous.String()}
			}
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
	w.last = Position{Seq: w.head, Hlc: stamp}
	return nil
}

// loadCheckpoint reads the shard's checkpoint from the bucket's leader.
func (w *Writer) loadCheckpoint(ctx context.Context) error {
	m, err := w.log.leaderGet(ctx, "KV_"+checkpointsBucket, msgGet{LastFor: "$KV." + checkpointsBucket + "." + w.checkpointKey()})
	if errors.Is(err, errNoMessage) {
		return nil
	}
	if err != nil {
		return err
	}
	var rec checkpointRecord
	if err := json.Unmarshal(m.Data, &rec); err != nil {
		return wrap("checkpoint "+w.checkpointKey(), err)
	}
	w.ckpt, w.ckptRev = rec, m.Seq
	return nil
}

// checkpointRecord is a Checkpoint as the bucket keeps it.
type checkpointRecord struct {
	Checkpoint
	Writer string `json:"writer"` // lease of who saved it
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
	rec := checkpointRecord{Writer: w.lease.boot, Checkpoint: Checkpoint{
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
			// A write of ours whose answer was lost, or another writer's?
			m, gerr := w.log.leaderGet(ctx, "KV_"+checkpointsBucket, msgGet{LastFor: "$KV." + checkpointsBucket + "." + w.checkpointKey()})
			var there checkpointRecord
			if gerr == nil && json.Unmarshal(m.Data, &there) == nil {
				if there.Writer != rec.Writer {
					w.fail(ErrDeposed)
					return ErrDeposed
				}
				rev = m.Seq
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
