package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// ErrNoDeadLetter says that there is no dead letter with that number.
var ErrNoDeadLetter = errors.New("stream: no such dead letter")

// Buried is a dead letter as the log keeps it.
type Buried struct {
	DeadLetter
	Seq  uint64    // its number
	At   time.Time // when it was buried
	Size int       // bytes of the payload; more than len(Raw) where that was cut
}

// DeadLetters lists at most most dead letters with numbers above after, oldest
// first; reason "" is any. A replica that lags answers as things were some
// moments ago.
func (l *Log) DeadLetters(ctx context.Context, after uint64, reason string, most int) ([]Buried, error) {
	if reason == "" {
		reason = "*"
	} else if !validReason.MatchString(reason) {
		return nil, fmt.Errorf("stream: dead letters: reason %q: not one of a dead letter", reason)
	}
	list := []Buried{}
	err := l.buried(ctx, msgGet{Seq: after + 1, NextFor: deadSubject + reason}, max(most, 0), func(b Buried) { list = append(list, b) })
	if err != nil {
		return nil, fmt.Errorf("stream: dead letters after %d: %w", after, err)
	}
	return list, nil
}

// DeadLetter returns the dead letter numbered seq, or [ErrNoDeadLetter].
func (l *Log) DeadLetter(ctx context.Context, seq uint64) (Buried, error) {
	if seq == 0 {
		return Buried{}, ErrNoDeadLetter
	}
	m, err := l.leaderGet(ctx, deadStream, msgGet{Seq: seq})
	if errors.Is(err, errNoMessage) {
		return Buried{}, ErrNoDeadLetter
	}
	if err != nil {
		return Buried{}, err
	}
	h, _ := decodeHeader(m.Header) // one without was not buried by us, and is shown as it is
	return parseBuried(m.Seq, m.Time, h, m.Data), nil
}

// Unbury deletes the dead letter numbered seq. One that is gone is no error.
func (l *Log) Unbury(ctx context.Context, seq uint64) error {
	if seq == 0 {
		return nil
	}
	return l.deleteMsg(ctx, deadStream, seq)
}

// BuriedSince is the set of the ids of the dead letters buried at or after t,
// by the server's clock.
func (l *Log) BuriedSince(ctx context.Context, t time.Time) (map[string]struct{}, error) {
	req := msgGet{StartTime: &t, NextFor: deadSubject + "*"}
	if t.Unix() <= 0 { // earlier than a server can tell
		req.Seq, req.StartTime = 1, nil
	}
	ids := make(map[string]struct{})
	if err := l.buried(ctx, req, -1, func(b Buried) { ids[b.ID] = struct{}{} }); err != nil {
		return nil, fmt.Errorf("stream: dead letters since %s: %w", t.Format(time.RFC3339), err)
	}
	return ids, nil
}

// buried calls fn for each dead letter from req on, most at most; -1 is all.
func (l *Log) buried(ctx context.Context, req msgGet, most int, fn func(Buried)) error {
	for holes := 0; most != 0; {
		if req.Batch = readBatch; most > 0 {
			req.Batch = min(most, readBatch)
		}
		req.MaxBytes = readBytes
		end, err := l.direct.get(ctx, deadStream, req, req.Batch, func(m *nats.Msg) error {
			seq := number(m.Header, headerSequence)
			at, err := time.Parse(time.RFC3339Nano, header(m.Header, headerTimeStamp))
			if err != nil {
				return err
			}
			fn(parseBuried(seq, at, m.Header, m.Data))
			req.Seq, req.StartTime = seq+1, nil
			most = max(most-1, -1)
			return nil
		})
		switch {
		case errors.Is(err, errNoMessage), err == nil && end.pending == 0:
			return nil
		case errors.Is(err, errHole) && holes < 20:
			holes++
		case err != nil:
			return err
		}
	}
	return nil
}

// parseBuried reads a stored dead letter.
func parseBuried(seq uint64, at time.Time, h nats.Header, raw []byte) Buried {
	return Buried{
		DeadLetter: DeadLetter{
			ID: header(h, headerMsgID), Reason: header(h, headerReason), Detail: header(h, headerDetail),
			Channel: header(h, headerChannel), Timetoken: header(h, headerTimetoken), Publisher: header(h, headerPublisher),
			Raw: raw,
		},
		Seq: seq, At: at, Size: max(int(number(h, headerCut)), len(raw)),
	}
}
