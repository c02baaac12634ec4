package stream

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/nats-io/nats.go"
)

const (
	// readBatch and readBytes bound one chunk of a replay.
	readBatch = 500
	readBytes = 1 << 20
	// probeMost is how many users one probe asks for; the server answers at
	// most 1,024 subjects, and the marker is one of them.
	probeMost = 1000
)

// Chunk is a stretch of one user's log.
type Chunk struct {
	// Records are the user's events, oldest first.
	Records []Record
	// Next is up to where the user's log has been read.
	Next Position
}

// head is the newest event of a user as one replica knows it.
type head struct {
	at   Position // zero: none
	upTo uint64   // last sequence of that replica
}

// Read returns the events of user after `after` and at or before upTo, oldest
// first: at most 500, about 1 MiB. Next equals upTo when there are no more,
// or after where that is beyond upTo, and otherwise is where to go on. upTo must
// be a position that Follow handed out or that a Writer has reached.
//
// An answer is taken only from a replica that has everything up to upTo, and
// only if it holds the newest event that this replica knows of. Equal reads at the
// same time are one: the records are shared.
//
// With ErrTrimmed the Chunk is valid, but retention may have removed events
// after `after` that are not in it.
func (l *Log) Read(ctx context.Context, user string, after, upTo Position) (Chunk, error) {
	s := l.shards[l.Shard(user)]
	if after.Hlc >= upTo.Hlc {
		if after.Hlc > upTo.Hlc {
			upTo = after
		}
		return Chunk{Next: upTo}, nil
	}
	return s.readings.do(ctx, span{user, after, upTo}, func(ctx context.Context) (Chunk, error) {
		return l.read(ctx, s, user, after, upTo)
	})
}

func (l *Log) read(ctx context.Context, s *shard, user string, after, upTo Position) (Chunk, error) {
	for n, at := 0, after; ; n++ {
		chunk, from, err := l.tryRead(ctx, s, user, at, upTo)
		if err == nil && len(chunk.Records) == 0 && chunk.Next != upTo {
			at, n = chunk.Next, 0 // the search ended far before the first event
			continue
		}
		if err == nil {
			return chunk, l.trimmed(ctx, s, at, from)
		}
		passing := errors.Is(err, errStale) || errors.Is(err, errHole) || errors.Is(err, nats.ErrNoResponders) // no replica is there yet
		if !passing || n == 20 {
			return Chunk{}, fmt.Errorf("stream: read user %s after %s: %w", user, after.Hlc, err)
		}
		l.inst.staleReads.Add(ctx, 1)
		if !retry(ctx, n) {
			return Chunk{}, ctx.Err()
		}
	}
}

// errStale says that a replica answered that lags behind.
var errStale = errors.New("the replica that answered lags behind")

// tryRead reads one chunk. from is the first sequence that was asked for, 0
// when the log was not read.
func (l *Log) tryRead(ctx context.Context, s *shard, user string, after, upTo Position) (chunk Chunk, from uint64, err error) {
	newest, err := s.probes.do(ctx, user)
	switch {
	case err != nil:
		return Chunk{}, 0, err
	case newest.upTo < upTo.Seq:
		return Chunk{}, 0, errStale
	case newest.at == (Position{}):
		return Chunk{Next: upTo}, after.Seq + 1, nil // or retention took all there was
	case newest.at.Hlc <= after.Hlc:
		return Chunk{Next: upTo}, 0, nil // most devices missed nothing
	}
	if from = after.Seq + 1; after.Seq == 0 {
		if from, err = l.locate(ctx, s, after.Hlc, upTo); err != nil {
			return Chunk{}, 0, err
		}
	}
	if upTo.Seq >= from+farSpan {
		last := min(newest.at.Seq, upTo.Seq)
		chunk, err = s.far.do(ctx, &farRead{user: user, after: after, from: from, upTo: upTo, last: last})
		return chunk, from, err
	}
	select {
	case s.near <- struct{}{}:
		defer func() { <-s.near }()
	case <-ctx.Done():
		return Chunk{}, 0, ctx.Err()
	}
	chunk, err = l.fetch(ctx, s, user, after, from, newest.at.Seq, upTo)
	return chunk, from, err
}

// fetch asks any replica for the user's events from a sequence on. newest is the
// sequence of the last one that must be there.
func (l *Log) fetch(ctx context.Context, s *shard, user string, after Position, from, newest uint64, upTo Position) (chunk Chunk, err error) {
	last, past := Position{}, false
	found, err := l.direct.get(ctx, s.stream, msgGet{Seq: from, NextFor: subjectOf(s.n, user), Batch: readBatch, MaxBytes: readBytes}, readBatch, func(m *nats.Msg) error {
		r, err := parseDirect(m)
		last.Seq = r.Seq
		switch {
		case r.Seq > upTo.Seq:
			past = true
		case err != nil: // Follow passes it over as well
		case r.Hlc > after.Hlc:
			last.Hlc = r.Hlc
			chunk.Records = append(chunk.Records, r)
		}
		return nil
	})
	switch {
	case errors.Is(err, errNoMessage):
		// Nothing at or after from: retention took it, or this replica lags.
		if newest >= from {
			state, ierr := l.info(ctx, s.n)
			if ierr != nil || newest >= state.First {
				return Chunk{}, errors.Join(errStale, ierr)
			}
		}
		past = true
	case err != nil:
		return Chunk{}, err
	case !past && found.pending == 0 && last.Seq < newest:
		return Chunk{}, errStale
	}
	// The search ends before after.Hlc, not on it: the stamp does not go back.
	chunk.Next = Position{Seq: last.Seq, Hlc: max(last.Hlc, after.Hlc)}
	if past || found.pending == 0 {
		chunk.Next = upTo
	}
	return chunk, nil
}

// probe asks one replica for the newest event of each user. The marker's
// subject is asked for too: it exists as a rule, so that the answer has a
// position even if no user has an event.
func (l *Log) probe(ctx context.Context, s *shard, users []string) (map[string]head, error) {
	subjects := make([]string, 0, len(users)+1)
	for _, u := range users {
		subjects = append(subjects, subjectOf(s.n, u))
	}
	subjects = append(subjects, subjectOf(s.n, markerToken))
	heads := make(map[string]head, len(users))
	found, err := l.direct.get(ctx, s.stream, msgGet{MultiLast: subjects}, len(subjects), func(m *nats.Msg) error {
		heads[userOf(header(m.Header, headerSubject))] = head{at: headOf(parseDirect(m))}
		return nil
	})
	if errors.Is(err, errNoMessage) {
		// Not even a marker: this replica is empty, or the shard has been busy for
		// so long that retention took the last one. The leader knows.
		return l.probeLeader(ctx, s, users)
	}
	if err != nil {
		return nil, err
	}
	if found.pending > 0 {
		return nil, fmt.Errorf("probe of %d users: %d answers are missing", len(users), found.pending)
	}
	for _, u := range users {
		heads[u] = head{at: heads[u].at, upTo: found.upTo}
	}
	return heads, nil
}

// probeLeader is probe where no replica's word will do.
func (l *Log) probeLeader(ctx context.Context, s *shard, users []string) (map[string]head, error) {
	state, err := l.info(ctx, s.n)
	if err != nil {
		return nil, err
	}
	heads := make(map[string]head, len(users))
	for _, u := range users {
		m, err := l.leaderGet(ctx, s.stream, msgGet{LastFor: subjectOf(s.n, u)})
		if errors.Is(err, errNoMessage) {
			heads[u] = head{upTo: state.Last}
			continue
		}
		if err != nil {
			return nil, err
		}
		r, _, err := parseLeader(m)
		heads[u] = head{at: headOf(r, err), upTo: state.Last}
	}
	return heads, nil
}

// headOf is the position of a user's newest record. One that no bridge wrote
// has no stamp, so that only reading the log can tell what lies before it.
func headOf(r Record, err error) Position {
	if err != nil {
		return Position{Seq: r.Seq, Hlc: math.MaxUint64}
	}
	return r.Position
}

// trimmed is ErrTrimmed if the leader, asked after the chunk was read, has no
// longer every record from `from` on that could have been in it.
func (l *Log) trimmed(ctx context.Context, s *shard, after Position, from uint64) error {
	if from == 0 {
		return nil // an event that is not newer is still there: nothing after it was cut
	}
	h, err := s.firsts.do(ctx, struct{}{})
	if err != nil {
		return fmt.Errorf("stream: %s: %w", s.stream, err)
	}
	if h.first.Seq <= max(from, after.Seq+1) || h.first.Hlc <= after.Hlc {
		return nil
	}
	return ErrTrimmed
}
