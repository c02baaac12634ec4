package stream

import (
	"bytes"
	"context"
	"errors"
	"hash/maphash"
	"strconv"

	"github.com/nats-io/nats.go"

	"reprise/hlc"
)

// knownMost bounds the ids that a writer remembers, about 1 MiB. What is older
// is left to the server's deduplication window.
const knownMost = 8192

// known remembers ids that are in the log or in the pipeline, with a print of
// their bytes, so that a repeated event is dropped before it is sent: a
// duplicate inside the pipeline would refuse everything behind it.
type known struct {
	prints map[string]uint64
	order  []learned // ring, oldest at next
	next   int
	covers hlc.Timestamp // of every event of the shard that bears a greater stamp the id is remembered
}

// learned is an id in the order of learning.
type learned struct {
	id    string
	after hlc.Timestamp // what was learned before bears a stamp up to this
}

func newKnown(covers hlc.Timestamp) known {
	return known{prints: make(map[string]uint64), order: make([]learned, 0, knownMost), covers: covers}
}

// admit says under which id ev is to be stored, and whether it is to be stored
// at all: not fresh means that it is known under that id. The newest stamp that
// was given is last.
func (k *known) admit(ev Event, last hlc.Timestamp) (id string, fresh bool) {
	bytes := fingerprint(ev)
	id = ev.ID
	for n := 1; ; n++ {
		there, ok := k.prints[id]
		if !ok {
			k.learn(id, bytes, last)
			return id, true
		}
		if there == bytes || ev.Once {
			return id, false
		}
		id = ev.ID + ":" + strconv.Itoa(n)
	}
}

// learn remembers id, forgetting the oldest when there are knownMost. What was
// learned before bears a stamp up to after.
func (k *known) learn(id string, bytes uint64, after hlc.Timestamp) {
	if _, ok := k.prints[id]; !ok {
		if len(k.order) < knownMost {
			k.order = append(k.order, learned{id, after})
		} else {
			delete(k.prints, k.order[k.next].id)
			k.order[k.next] = learned{id, after}
			k.next = (k.next + 1) % knownMost
			k.covers = max(k.covers, k.order[k.next].after)
		}
	}
	k.prints[id] = bytes
}

var printSeed = maphash.MakeSeed()

// fingerprint is a hash of an event's bytes without its stamp.
func fingerprint(ev Event) uint64 { return printFrame(ev.Frame, ev.StampAt) }

// printOf is the fingerprint of a stored event.
func printOf(r Record) uint64 {
	return printFrame(r.Frame, bytes.Index(r.Frame, []byte(r.Hlc.String())))
}

func printFrame(frame []byte, stampAt int) uint64 {
	var h maphash.Hash
	h.SetSeed(printSeed)
	if stampAt >= 0 && stampAt+16 <= len(frame) {
		h.Write(frame[:stampAt])
		frame = frame[stampAt+16:]
	}
	h.Write(frame)
	return h.Sum64()
}

// unknown returns, in order, the events whose ids are not remembered.
func (k *known) unknown(events []Event) []Event {
	var some []Event
	for _, ev := range events {
		if _, ok := k.prints[ev.ID]; !ok {
			some = append(some, ev)
		}
	}
	return some
}

// loadKnown reads the ids behind the oldest of the shard's checkpoints, and a
// thousand at least, so that what PubNub hands out again after a take-over is
// known. It looks through at most 65,536 records: take-overs without a
// checkpoint between them leave their markers there.
func (w *Writer) loadKnown(ctx context.Context, saved []Checkpoint) error {
	const atLeast, atMost = 1024, 1 << 16
	w.known = newKnown(w.last.Hlc)
	last := w.head - window
	from := last - min(last, atLeast) + 1
	if len(saved) == 0 {
		from = 1
	}
	for _, c := range saved {
		from = min(from, c.Seq+1)
	}
	from = max(from, last-min(last, atMost)+1)
	for from <= last {
		next := from
		_, err := w.log.direct.get(ctx, eventsStream(w.shard), msgGet{Seq: from, NextFor: eventsPrefix(w.shard) + "*", Batch: readBatch, MaxBytes: readBytes}, readBatch, func(m *nats.Msg) error {
			r, err := parseDirect(m)
			next = r.Seq + 1
			if err == nil && r.ID != "" && r.Kind == KindEvent && r.Seq <= last {
				w.known.learn(r.ID, printOf(r), r.Hlc-1)
			}
			return nil
		})
		if errors.Is(err, errNoMessage) {
			return nil // erased, or of a replica that lags: it covers nothing
		}
		if err != nil {
			return wrap("load ids", err)
		}
		if next == from {
			return nil
		}
		from = next
	}
	if len(w.known.order) > 0 {
		w.known.covers = w.known.order[w.known.next].after
	}
	return nil
}
