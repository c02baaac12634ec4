package stream

import (
	"context"
	"errors"
	"time"

	"reprise/hlc"
)

// recall asks a writer which ids it does not remember.
type recall struct {
	events []Event
	done   chan<- []Event // sent to once by run; room for one
}

// AppendLate appends those of events that the log does not have under their
// ids, whatever the deduplication window, and returns how many those were. All
// are of one user, and none was stored before since, by the log's clock. Only
// ids are compared, not bytes: PubNub's history may write a message otherwise
// than its feed did.
//
// It reads the user's log where the writer's own memory of ids does not reach,
// which costs about a millisecond. Errors: ErrDeposed, ErrClosed, ctx's, and
// what [Log.Read] returns.
func (w *Writer) AppendLate(ctx context.Context, user string, since time.Time, events []Event) (appended int, err error) {
	fresh, err := w.unknown(ctx, events)
	if err != nil || len(fresh) == 0 {
		return 0, err
	}
	there, err := w.Since(ctx, user, since)
	if err != nil {
		return 0, err
	}
	ids := make(map[string]struct{}, len(there))
	for _, s := range there {
		ids[s.ID] = struct{}{}
	}
	for _, ev := range fresh {
		if _, found := ids[ev.ID]; found {
			continue
		}
		ev.Once = true
		if err := w.Append(ctx, ev); err != nil {
			return appended, err
		}
		appended++
	}
	w.count(func(s *WriterStats) { s.Duplicates += uint64(len(events) - appended) })
	w.log.inst.duplicates.Add(ctx, int64(len(events)-appended))
	return appended, nil
}

// unknown returns the events whose ids the writer does not remember.
func (w *Writer) unknown(ctx context.Context, events []Event) ([]Event, error) {
	done := make(chan []Event, 1)
	if err := w.do(ctx, op{ask: &recall{events: events, done: done}}); err != nil {
		return nil, err
	}
	return <-done, nil // run answers at once what it has accepted
}

// Kept is what the log keeps of an event beside its frame.
type Kept struct {
	ID        string
	Timetoken string // PubNub's, "" where there was none
	Position
}

// Since lists the events of user that were stored at or after t, by the log's
// own clock, oldest first, up to what was appended before the call.
func (w *Writer) Since(ctx context.Context, user string, t time.Time) ([]Kept, error) {
	if err := w.Flush(ctx); err != nil {
		return nil, err
	}
	upTo := w.Stats().Last
	at := Position{Hlc: hlc.New(max(t.UnixMilli(), 1), 0) - 1}
	var all []Kept
	for at.Hlc < upTo.Hlc {
		chunk, err := w.log.Read(ctx, user, at, upTo)
		// What retention has taken meanwhile is older than all that is looked for.
		if err != nil && !errors.Is(err, ErrTrimmed) {
			return nil, err
		}
		for i := range chunk.Records {
			r := &chunk.Records[i]
			all = append(all, Kept{ID: r.ID, Timetoken: r.Timetoken, Position: r.Position})
		}
		at = chunk.Next
	}
	return all, nil
}
