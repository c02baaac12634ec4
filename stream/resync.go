package stream

import (
	"context"
	"errors"
	"time"
)

// resync finds out what of the pipeline is stored and sends the rest again.
// It ends when the pipeline flies again or the writer has ended: a leader that
// is lost, a full disk, a cut connection are waited out here, with Append and
// Flush blocked.
func (w *Writer) resync(ctx context.Context) {
	w.count(func(s *WriterStats) { s.Resyncs++ })
	w.log.inst.resyncs.Add(ctx, 1)
	for ; ; w.stalls++ {
		if w.stalls > 0 {
			w.log.hold(w)
			if !retry(ctx, w.stalls-1) {
				return
			}
		}
		if w.stalls%10 == 1 {
			w.log.logger.Warn("appends are refused", "shard", w.shard, "flying", len(w.flying), "err", w.refusal)
		}
		w.drain()
		ask, cancel := context.WithTimeout(ctx, leaderTimeout)
		at, err := w.log.end(ask, w.shard)
		cancel()
		// A log that ends before what was acknowledged was put back from a backup:
		// whoever takes the shard next tells edges so, and asks PubNub again.
		if err == nil && (!at.known || at.epoch != w.lease.epoch || at.Hlc < w.last.Hlc) {
			w.log.logger.Warn("deposed", "shard", w.shard, "epoch", w.lease.epoch, "by", at.epoch, "end", at.Seq, "last", w.last.Seq)
			w.fail(ErrDeposed)
			return
		}
		if err == nil {
			err = w.identify(ctx, at.Position)
		}
		if err == nil {
			w.stalls++ // until something is stored
			w.again(ctx, at.Position)
			if len(w.flying) == 0 {
				w.stalls = 0
				w.log.unhold(w)
			}
			return
		}
		if ctx.Err() != nil {
			return
		}
		if w.stalls%10 == 0 {
			w.log.logger.Warn("appends are held until the log answers", "shard", w.shard, "flying", len(w.flying), "err", err)
		}
	}
}

// drain enters the answers that are there already.
func (w *Writer) drain() {
	for {
		select {
		case m := <-w.acks:
			w.note(m)
		default:
			return
		}
	}
}

// identify looks at what the server called a duplicate. It is either an
// earlier copy of the same append, or the same event stored before, or another
// event that came under a known id: that one flies on under an id of its own.
func (w *Writer) identify(ctx context.Context, at Position) error {
	for i := range w.flying {
		f := &w.flying[i]
		if f.state != isDuplicate || f.marker {
			continue
		}
		m, err := w.log.leaderGet(ctx, eventsStream(w.shard), msgGet{Seq: f.seq})
		if errors.Is(err, errNoMessage) && f.seq > at.Seq {
			// The server remembers an id whose record it has lost: only another id helps.
			w.log.logger.Error("a duplicate of a record that is not there", "shard", w.shard, "id", f.id, "seq", f.seq, "end", at.Seq)
			w.known.learn(f.id, 0, w.clock.Last())
			again := f.ev
			again.Once = false
			if id, fresh := w.known.admit(again, w.clock.Last()); fresh {
				f.id, f.state = id, inFlight
				w.conflict(ctx, f)
			}
			continue
		}
		if errors.Is(err, errNoMessage) {
			continue // retention took it: nothing to compare with
		}
		if err != nil {
			return err
		}
		r, _, err := parseLeader(m)
		if err != nil {
			return err
		}
		if r.Hlc == f.stamp {
			f.state = isStored
			continue
		}
		if there := printOf(r); there != fingerprint(f.ev) && !f.ev.Once {
			w.known.learn(f.id, there, w.clock.Last())
			if id, fresh := w.known.admit(f.ev, w.clock.Last()); fresh {
				f.id, f.state = id, inFlight
				w.conflict(ctx, f)
			}
		}
	}
	return nil
}

// again takes everything up to the log's end as stored and sends the rest,
// with the same bytes and stamps: copies of the first sending may still
// arrive, and whichever is first is the one that is stored. What the server
// has under its id already keeps its place in the pipeline but is not sent.
func (w *Writer) again(ctx context.Context, at Position) {
	for i := range w.flying {
		f := &w.flying[i]
		if f.state == inFlight && f.stamp <= at.Hlc {
			f.state, f.seq = isStored, at.Seq
		}
	}
	w.settle(ctx)
	w.mu.Lock()
	if at.Hlc >= w.last.Hlc {
		w.last = at
	}
	w.mu.Unlock()
	w.head = at.Seq
	now := time.Now()
	for i := range w.flying {
		f := &w.flying[i]
		f.sent = now
		if f.state == inFlight {
			w.send(f)
		} else {
			f.token = w.token
			w.token++
		}
	}
}
