package stream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// run owns the pipeline. It ends with the writer.
func (w *Writer) run(ctx context.Context) {
	sub, err := w.nc.ChanSubscribe(w.inbox+"*", w.acks)
	if err != nil {
		w.fail(wrap("append", err))
		return
	}
	defer sub.Unsubscribe()
	defer w.log.unhold(w)
	connected := w.nc.StatusChanged(nats.CONNECTED)
	defer w.nc.RemoveStatusListener(connected)
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		ops := w.ops
		if len(w.flying) == window {
			ops = nil // blocks Append until something is stored
		}
		select {
		case <-ctx.Done():
		case o := <-ops:
			w.accept(ctx, o)
		case m := <-w.acks:
			w.answer(ctx, m)
		case _, open := <-connected: // answers were lost with the old connection
			if !open {
				connected = nil
			} else {
				w.resync(ctx) // the server may have come back with another log
			}
		case <-tick.C:
			w.idle(ctx)
		}
	}
}

// accept takes one request.
func (w *Writer) accept(ctx context.Context, o op) {
	if o.flush != nil {
		w.waiters = append(w.waiters, waiter{at: w.taken, done: o.flush})
		w.release()
		return
	}
	if o.ask != nil {
		o.ask.done <- recalled{w.known.unknown(o.ask.events), w.known.covers}
		return
	}
	f := flying{ev: o.ev, marker: o.marker, gap: o.gap}
	if !o.marker {
		id, fresh := w.known.admit(o.ev, w.clock.Last())
		if !fresh {
			w.count(func(s *WriterStats) { s.Duplicates++ })
			w.log.inst.duplicates.Add(ctx, 1)
			return
		}
		f.id = id
		if id != o.ev.ID {
			w.conflict(ctx, &f)
		}
	}
	f.stamp = w.clock.Now()
	for n := 0; !w.lease.covers(f.stamp); n++ { // the clock has jumped ahead
		if err := w.raise(ctx); errors.Is(err, errLeaseLost) {
			w.fail(ErrDeposed)
			return
		} else if err != nil && !retry(ctx, n) {
			return
		}
	}
	if !f.marker {
		f.stamp.AppendTo(f.ev.Frame[f.ev.StampAt:f.ev.StampAt])
	}
	w.taken++
	w.active = time.Now()
	f.sent = w.active
	w.flying = append(w.flying, f)
	w.send(&w.flying[len(w.flying)-1])
}

// conflict notes that f came under a known id with other bytes.
func (w *Writer) conflict(ctx context.Context, f *flying) {
	w.log.logger.Warn("one id came with different bytes", "shard", w.shard, "id", f.ev.ID, "stored_as", f.id)
	w.count(func(s *WriterStats) { s.Conflicts++ })
	w.log.inst.conflicts.Add(ctx, 1)
}

func (w *Writer) count(fn func(*WriterStats)) {
	w.mu.Lock()
	fn(&w.stats)
	w.mu.Unlock()
}

// send publishes f to follow the newest flying append. An error needs no
// handling here: without an answer the timeout finds it.
func (w *Writer) send(f *flying) {
	f.token = w.token
	w.token++
	h := w.msg.Header
	clear(h)
	h[headerFormat] = []string{formatVersion}
	h[headerWriter] = []string{w.epoch}
	h[headerHlc] = []string{f.stamp.String()}
	h[headerExpectedSeq] = []string{strconv.FormatUint(w.head, 10)}
	w.head++
	if f.marker {
		w.msg.Subject, w.msg.Data = subjectOf(w.shard, markerToken), nil
		h[headerMsgID] = []string{"marker:" + f.stamp.String()}
		if f.gap != (Gap{}) {
			h[headerGapFrom] = []string{f.gap.From.String()}
			h[headerGapTo] = []string{f.gap.To.String()}
			set(h, headerGapUser, f.gap.User)
		}
	} else {
		w.msg.Subject, w.msg.Data = subjectOf(w.shard, f.ev.User), f.ev.Frame
		h[headerMsgID] = []string{f.id}
		set(h, headerDevice, f.ev.Device)
		set(h, headerTimetoken, f.ev.Timetoken)
		set(h, headerTraceparent, f.ev.Traceparent)
		set(h, headerTracestate, f.ev.Tracestate)
		if f.ev.Expires != 0 {
			h[headerExpires] = []string{strconv.FormatInt(f.ev.Expires, 10)}
		}
	}
	w.msg.Reply = w.inbox + strconv.FormatUint(f.token, 10)
	_ = w.nc.PublishMsg(w.msg)
}

func set(h nats.Header, key, value string) {
	if value != "" {
		h[key] = []string{value}
	}
}

// pubAck is the server's answer to an append.
type pubAck struct {
	Seq       uint64    `json:"seq"`
	Duplicate bool      `json:"duplicate"`
	Error     *apiError `json:"error"`
}

// parseAck reads the common answer, {"stream":"…","seq":N}, without encoding/json.
func parseAck(data []byte) (ack pubAck, err error) {
	if at := bytes.LastIndex(data, []byte(`"seq":`)); at >= 0 && data[len(data)-1] == '}' {
		digits := bytes.TrimSpace(data[at+6 : len(data)-1])
		if n, err := strconv.ParseUint(string(digits), 10, 64); err == nil && !bytes.Contains(data, []byte(`"error"`)) {
			return pubAck{Seq: n}, nil
		}
	}
	return ack, json.Unmarshal(data, &ack)
}

// answer takes the server's answer to one append.
func (w *Writer) answer(ctx context.Context, m *nats.Msg) {
	if trouble := w.note(m); trouble {
		w.resync(ctx)
		return
	}
	w.settle(ctx)
}

// note enters an answer into the pipeline. It reports trouble when the answer
// is not that the append was stored where it was expected.
func (w *Writer) note(m *nats.Msg) (trouble bool) {
	token, err := strconv.ParseUint(m.Subject[len(w.inbox):], 10, 64)
	if err != nil || len(w.flying) == 0 || token < w.flying[0].token {
		return false // an old copy's answer: resync has settled that append
	}
	i := token - w.flying[0].token
	if i >= uint64(len(w.flying)) || w.flying[i].token != token {
		return false
	}
	f := &w.flying[i]
	ack, err := parseAck(m.Data)
	switch {
	case err != nil:
		w.refusal = err // no responders: an empty body is no JSON
		return true
	case ack.Error != nil:
		w.refusal = ack.Error
		return true
	case ack.Duplicate:
		f.state, f.seq = isDuplicate, ack.Seq
		return true
	}
	f.state, f.seq = isStored, ack.Seq
	return false
}

// settle takes stored appends off the pipeline's old end.
func (w *Writer) settle(ctx context.Context) {
	n := 0
	for n < len(w.flying) && w.flying[n].state != inFlight {
		n++
	}
	w.drop(ctx, n)
}

// drop takes the n oldest appends off: they are in the log.
func (w *Writer) drop(ctx context.Context, n int) {
	if n == 0 {
		return
	}
	w.mu.Lock()
	for i := range w.flying[:n] {
		f := &w.flying[i]
		switch {
		case f.state == isDuplicate:
			w.stats.Duplicates++
		case !f.marker:
			w.stats.Appended++
		}
		if f.state == isStored {
			w.last = Position{Seq: f.seq, Hlc: f.stamp}
		}
	}
	w.mu.Unlock()
	w.active = time.Now()
	w.heard = w.active
	w.log.inst.appendLatency.Record(ctx, w.active.Sub(w.flying[0].sent).Seconds())
	clear(w.flying[:n]) // let go of the frames
	w.flying = w.flying[n:]
	w.stored += uint64(n)
	if w.stalls > 0 {
		w.stalls = 0
		w.log.unhold(w)
	}
	w.release()
}

// release wakes who waits for what is stored by now.
func (w *Writer) release() {
	keep := w.waiters[:0]
	for _, x := range w.waiters {
		if x.at <= w.stored {
			close(x.done)
		} else {
			keep = append(keep, x)
		}
	}
	clear(w.waiters[len(keep):])
	w.waiters = keep
}

// cut reports whether the log was seen to end before what w has stored, although
// nothing was under way: a backup was put in its place.
func (w *Writer) cut() bool {
	seen := w.log.sights.ends[w.shard].Load()
	return seen != nil && seen.asked.After(w.active) && seen.seq < w.Stats().Last.Seq
}

// idle looks for appends without an answer, for a log that was replaced, and for a
// shard without appends.
func (w *Writer) idle(ctx context.Context) {
	switch {
	case len(w.flying) > 0:
		if now := time.Now(); now.Sub(w.flying[0].sent) > appendTimeout && now.Sub(w.heard) > appendTimeout {
			w.resync(ctx)
		}
	case w.cut():
		w.resync(ctx)
	case time.Since(w.active) >= markerEvery && !w.log.disk.full():
		w.accept(ctx, op{marker: true})
	}
}
