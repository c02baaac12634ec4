package stream

import (
	"context"
	"errors"
	"hash/maphash"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"reprise/hlc"
)

// recall asks a writer which ids it does not remember.
type recall struct {
	events []Event
	done   chan<- recalled // sent to once by run; room for one
}

// recalled is the answer. Every id in the log with a stamp greater than covers is
// remembered.
type recalled struct {
	unknown []Event
	covers  hlc.Timestamp
}

// AppendLate appends those of events that the log does not have under their
// ids, whatever the deduplication window, and returns how many those were. All
// are of one user, and none was stored before since, by the log's clock. Only
// ids are compared, not bytes: PubNub's history may write a message otherwise
// than its feed did.
//
// It reads the user's log only where the writer's own memory of ids does not
// reach: all of it since then once, and what has come since the last time when the
// memory has moved past that. Errors: ErrDeposed, ErrClosed, ctx's, and what
// [Log.Read] returns.
func (w *Writer) AppendLate(ctx context.Context, user string, since time.Time, events []Event) (appended int, err error) {
	own, err := w.recall(ctx, events)
	if err != nil {
		return 0, err
	}
	if len(own.unknown) == 0 {
		w.repeated(ctx, len(events))
		return 0, nil
	}
	l := w.lookedOf(user)
	l.mu.Lock()
	defer l.mu.Unlock()
	own, there, err := w.lookup(ctx, user, l, before(since), events)
	if err != nil {
		return 0, err
	}
	for _, ev := range own.unknown {
		if _, found := there[maphash.String(printSeed, ev.ID)]; found {
			continue
		}
		ev.Once = true
		if err := w.Append(ctx, ev); err != nil {
			return appended, err
		}
		appended++
	}
	w.repeated(ctx, len(events)-appended)
	return appended, nil
}

// repeated counts events that were in the log already.
func (w *Writer) repeated(ctx context.Context, n int) {
	w.count(func(s *WriterStats) { s.Duplicates += uint64(n) })
	w.log.inst.duplicates.Add(ctx, int64(n))
}

// recall returns the events whose ids the writer does not remember, and how far
// it remembers.
func (w *Writer) recall(ctx context.Context, events []Event) (recalled, error) {
	done := make(chan recalled, 1)
	if err := w.do(ctx, op{ask: &recall{events: events, done: done}}); err != nil {
		return recalled{}, err
	}
	select {
	case own := <-done:
		return own, nil
	case <-w.stop:
		return recalled{}, w.Err()
	case <-ctx.Done():
		return recalled{}, ctx.Err()
	}
}

// lookups bounds the ids of all users that are kept to be looked up, some 6 MiB.
const lookups = 256 << 10

// looked is what was read of one user's log: hashes of the ids, of which two
// different ones are equal once in 10^12 events.
type looked struct {
	size int // how many ids are counted for it; guarded by the writer's lookMu

	mu       sync.Mutex // held over reads of the log, and until what it lacks is appended
	from, to hlc.Timestamp
	ids      map[uint64]struct{}
}

// lookedOf is what was read of user's log, to begin with nothing.
func (w *Writer) lookedOf(user string) *looked {
	w.lookMu.Lock()
	defer w.lookMu.Unlock()
	l := w.looked[user]
	if l == nil {
		l = new(looked)
		w.looked[user] = l
		w.resize(user, l, 1) // it takes room without ids too
	}
	return l
}

// resize notes how many ids count for user's l, and forgets others where those of all
// are too many. Called with lookMu held.
func (w *Writer) resize(user string, l *looked, n int) {
	if w.looked[user] != l {
		return // it was forgotten
	}
	w.lookedIDs += n - l.size
	l.size = n
	for other := range w.looked {
		if w.lookedIDs <= lookups {
			break
		}
		if other != user {
			w.forgetLooked(other)
		}
	}
}

// forgetLooked forgets what was read of user's log. Called with lookMu held.
func (w *Writer) forgetLooked(user string) {
	if l := w.looked[user]; l != nil {
		w.lookedIDs -= l.size
		delete(w.looked, user)
	}
}

// lookup returns which of events the writer does not remember, and hashes of the
// ids that user's log has after from beyond what it remembers, or of more. Called
// with l.mu held.
func (w *Writer) lookup(ctx context.Context, user string, l *looked, from hlc.Timestamp, events []Event) (own recalled, ids map[uint64]struct{}, err error) {
	for {
		if own, err = w.recall(ctx, events); err != nil || own.covers <= from {
			return own, nil, err
		}
		if l.ids == nil || from < l.from {
			l.from, l.to, l.ids = from, from, make(map[uint64]struct{})
		}
		if own.covers <= l.to {
			return own, l.ids, nil
		}
		if err := w.look(ctx, user, l, own.covers); err != nil {
			return own, nil, err
		}
	}
}

// look reads user's log to its end. All that there is up to covers is stored, for
// more are remembered than can be under way. Called with l.mu held.
func (w *Writer) look(ctx context.Context, user string, l *looked, covers hlc.Timestamp) error {
	to, err := w.each(ctx, user, l.to, func(r *Record) {
		l.ids[maphash.String(printSeed, r.ID)] = struct{}{}
	})
	l.to = to
	w.lookMu.Lock()
	w.resize(user, l, len(l.ids)+1)
	w.lookMu.Unlock()
	if err != nil {
		return err
	}
	l.to = max(to, covers)
	return nil
}

// before is the greatest stamp before t.
func before(t time.Time) hlc.Timestamp { return hlc.New(max(t.UnixMilli(), 1), 0) - 1 }

// Kept is what the log keeps of an event beside its frame.
type Kept struct {
	ID        string
	Timetoken string // PubNub's, "" where there was none
	Position
}

// Since lists the events of user that were stored at or after t, by the log's
// own clock, oldest first, up to what was appended before the call.
func (w *Writer) Since(ctx context.Context, user string, t time.Time) (all []Kept, err error) {
	if err := w.Flush(ctx); err != nil {
		return nil, err
	}
	_, err = w.each(ctx, user, before(t), func(r *Record) {
		all = append(all, Kept{ID: r.ID, Timetoken: r.Timetoken, Position: r.Position})
	})
	return all, err
}

// readTries is how often a writer tries to read on where it comes no farther.
const readTries = 8

// each calls fn for the stored events of user after a stamp, and returns up to
// where that was, after an error too.
func (w *Writer) each(ctx context.Context, user string, after hlc.Timestamp, fn func(*Record)) (hlc.Timestamp, error) {
	upTo := w.Stats().Last
	at := Position{Hlc: after}
	for fails := 0; at.Hlc < upTo.Hlc; {
		chunk, err := w.log.Read(ctx, user, at, upTo)
		// What retention has taken meanwhile is older than all that is looked for.
		if err != nil && !errors.Is(err, ErrTrimmed) {
			if fails++; fails == readTries || w.Err() != nil || !retry(ctx, fails) {
				return at.Hlc, err
			}
			continue
		}
		fails = 0
		for i := range chunk.Records {
			fn(&chunk.Records[i])
		}
		at = chunk.Next
	}
	return max(after, upTo.Hlc), nil
}

// Active is the users of whom the shard has events that were stored at or after
// t, by the log's own clock; of more than most events only the oldest count.
func (w *Writer) Active(ctx context.Context, t time.Time, most int) (map[string]struct{}, error) {
	if err := w.Flush(ctx); err != nil {
		return nil, err
	}
	s, end := w.log.shards[w.shard], w.Stats().Last
	next, err := w.log.locate(ctx, s, before(t), end)
	if err != nil {
		return nil, err
	}
	users := make(map[string]struct{})
	for n, fails := 0, 0; next <= end.Seq && n < most; {
		from := next
		_, err := w.log.direct.get(ctx, s.stream, msgGet{Seq: next, NextFor: eventsPrefix(s.n) + "*", Batch: readBatch, MaxBytes: readBytes}, readBatch, func(m *nats.Msg) error {
			r, err := parseDirect(m)
			next = r.Seq + 1
			if err == nil && r.Kind == KindEvent && r.Hlc > before(t) {
				users[r.User] = struct{}{}
				n++
			}
			return nil
		})
		switch {
		case errors.Is(err, errNoMessage):
			return users, nil
		case err != nil && !errors.Is(err, errHole):
			return nil, wrap("active users", err)
		case next != from:
			fails = 0
		default: // a replica that lags
			if fails++; fails > 20 || !retry(ctx, fails) {
				return nil, wrap("active users", errors.Join(errStale, ctx.Err()))
			}
		}
	}
	return users, nil
}
