package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// Bookmark is one saved cursor of PubNub's feed in a shard: the shard's own, or
// that of one of its lanes. It is decided by compare-and-set against the
// bucket's leader.
//
// Saved may be called at any time; calls to Save must not overlap.
type Bookmark struct {
	// static after construction
	w    *Writer
	key  string
	lost Gap

	mu  sync.Mutex
	rec checkpointRecord
	rev uint64
}

// checkpointRecord is a Checkpoint as the bucket keeps it.
type checkpointRecord struct {
	Checkpoint
	Epoch uint64 `json:"epoch"` // of the lease of who saved it
}

// Bookmark reads the shard's saved cursor, or with a name that of a lane:
// letters, digits and '-'. There need not be one yet.
func (w *Writer) Bookmark(ctx context.Context, lane string) (*Bookmark, error) {
	b := &Bookmark{w: w, key: checkpointKey(w.shard)}
	if lane != "" {
		if SafeName(lane) != lane {
			return nil, fmt.Errorf("stream: lane %q: not letters, digits and hyphens", lane)
		}
		b.key += "." + lane
	}
	for n := 0; ; n++ {
		rec, rev, err := b.read(ctx)
		if err == nil {
			b.lost, err = w.lossSince(ctx, rec.Checkpoint, w.Stats().Last.Seq)
		}
		if err == nil {
			b.rec, b.rev = rec, rev
			return b, nil
		}
		if werr := w.Err(); werr != nil {
			return nil, werr
		}
		if !retry(ctx, n) {
			return nil, errors.Join(ctx.Err(), err)
		}
	}
}

func checkpointKey(shard int) string { return "shard." + strconv.Itoa(shard) }

// read asks the bucket's leader; the zero record and revision mean that there
// is none.
func (b *Bookmark) read(ctx context.Context) (rec checkpointRecord, rev uint64, err error) {
	m, err := b.w.log.leaderGet(ctx, kvStream(checkpointsBucket), msgGet{LastFor: kvSubject(checkpointsBucket, b.key)})
	if errors.Is(err, errNoMessage) {
		return rec, 0, nil
	}
	if err != nil {
		return rec, 0, err
	}
	err = json.Unmarshal(m.Data, &rec)
	return rec, m.Seq, wrap("checkpoint "+b.key, err)
}

// Saved is what was saved last, by whomever; zero if nothing was.
func (b *Bookmark) Saved() Checkpoint {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rec.Checkpoint
}

// Lost is what the log had when the bookmark was saved that was there at first, and
// has no more; the zero Gap is nothing. A marker tells readers of it; what PubNub's
// history still has of the stretch can be appended again.
func (b *Bookmark) Lost() Gap { return b.lost }

// Save waits until everything that was appended before the call is stored, and
// then moves the bookmark to PubNub's cursor (timetoken, region), with note
// beside it: see [Checkpoint]. It tries until it has succeeded, ctx ends or the
// writer does; it returns ErrDeposed if a later writer moved the bookmark.
func (b *Bookmark) Save(ctx context.Context, timetoken string, region int, note json.RawMessage) error {
	w := b.w
	if err := w.Flush(ctx); err != nil {
		return err
	}
	last := w.Stats().Last
	rec := checkpointRecord{Epoch: w.lease.epoch, Checkpoint: Checkpoint{
		Timetoken: timetoken, Region: region, Seq: last.Seq, Hlc: last.Hlc,
		SavedAt: w.log.cfg.Wall().UTC().Truncate(time.Millisecond), Note: note,
	}}
	b.mu.Lock()
	rev := b.rev
	b.mu.Unlock()
	for n := 0; ; n++ {
		now, err := w.log.swap(ctx, checkpointsBucket, b.key, rec, rev)
		switch {
		case err == nil:
			b.mu.Lock()
			b.rec, b.rev = rec, now
			b.mu.Unlock()
			return nil
		case errors.Is(err, errSwapped):
			// A write of ours whose answer was lost, an older writer's that does not
			// know yet that it was deposed, or our successor's?
			if there, at, rerr := b.read(ctx); rerr == nil {
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

// checkpoints reads all bookmarks of the shard. The shard's own is as its
// leader knows it; a replica that lags may show a lane's of some moments ago.
func (w *Writer) checkpoints(ctx context.Context) ([]Checkpoint, error) {
	own := Bookmark{w: w, key: checkpointKey(w.shard)}
	rec, rev, err := own.read(ctx)
	if err != nil {
		return nil, err
	}
	var all []Checkpoint
	if rev != 0 {
		all = append(all, rec.Checkpoint)
	}
	_, err = w.log.direct.get(ctx, kvStream(checkpointsBucket), msgGet{MultiLast: []string{kvSubject(checkpointsBucket, own.key+".*")}}, probeMost+1, func(m *nats.Msg) error {
		var rec checkpointRecord
		if err := json.Unmarshal(m.Data, &rec); err != nil {
			return wrap("checkpoint of a lane of shard "+strconv.Itoa(w.shard), err)
		}
		all = append(all, rec.Checkpoint)
		return nil
	})
	if err != nil && !errors.Is(err, errNoMessage) {
		return nil, err
	}
	return all, nil
}

// originKey is where the first cursor of all is kept.
const originKey = "origin"

// Origin is PubNub's cursor at which the log began: what a shard without a
// checkpoint is followed from. An empty timetoken means that there is none yet.
func (l *Log) Origin(ctx context.Context) (timetoken string, region int, err error) {
	m, err := l.leaderGet(ctx, kvStream(checkpointsBucket), msgGet{LastFor: kvSubject(checkpointsBucket, originKey)})
	if errors.Is(err, errNoMessage) {
		return "", 0, nil
	}
	var at Checkpoint
	if err == nil {
		err = json.Unmarshal(m.Data, &at)
	}
	return at.Timetoken, at.Region, wrap("origin", err)
}

// SetOrigin makes a cursor the origin if there is none, and returns what is the
// origin then. It tries until it knows or ctx ends.
func (l *Log) SetOrigin(ctx context.Context, timetoken string, region int) (string, int, error) {
	for n := 0; ; n++ {
		_, err := l.swap(ctx, checkpointsBucket, originKey, Checkpoint{Timetoken: timetoken, Region: region, SavedAt: l.cfg.Wall().UTC().Truncate(time.Millisecond)}, 0)
		if err == nil {
			return timetoken, region, nil
		}
		if errors.Is(err, errSwapped) {
			if timetoken, region, rerr := l.Origin(ctx); rerr == nil && timetoken != "" {
				return timetoken, region, nil
			}
		}
		if !retry(ctx, n) {
			return "", 0, errors.Join(ctx.Err(), err)
		}
	}
}
