package stream

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"reprise/hlc"
)

// Reason says why a resume cannot be proven complete.
type Reason string

// The reasons, as devices are told them.
const (
	Complete     Reason = ""
	Trimmed      Reason = "trimmed"
	FutureCursor Reason = "future_cursor"
	StoreReset   Reason = "store_reset"
	UpstreamGap  Reason = "upstream_gap"
)

// Resume judges since, the cursor of a device of user. It says Complete only
// if no event of the user with a stamp above since can be missing from the
// log. floor is the stamp after which the caller holds all of the user's
// events itself: for a cursor between it and what Follow handed out, no
// question goes to the server. from is where to continue: since itself, or
// zero for a cursor of the future, which is served as the earliest.
//
// The user's shard must be being followed, and is not while its stream is gone or it is
// found out whether it was replaced: that is an error which passes.
func (l *Log) Resume(ctx context.Context, user string, since, floor hlc.Timestamp) (from hlc.Timestamp, reason Reason, err error) {
	s := l.shards[l.Shard(user)]
	at, followed := s.position()
	if !followed {
		return 0, "", fmt.Errorf("stream: resume user %s: shard %d is not followed", user, s.n)
	}
	if since > at.Hlc {
		end, err := l.End(ctx, s.n)
		if err != nil {
			return 0, "", err
		}
		if since > end.Hlc {
			if err = l.sure(ctx, s.n); err == nil {
				end, err = l.End(ctx, s.n)
			}
			if err != nil {
				return 0, "", err
			}
		}
		if since > end.Hlc {
			return hlc.Zero, FutureCursor, nil
		}
		// A mark may lie between what was handed out and the end.
		for n := 0; at.Seq < end.Seq; n++ {
			if !retry(ctx, n) {
				return 0, "", ctx.Err()
			}
			if at, followed = s.position(); !followed {
				return 0, "", fmt.Errorf("stream: resume user %s: shard %d is not followed any more", user, s.n)
			}
		}
	}
	s.mu.RLock()
	lost, gap := s.marked(user, since)
	s.mu.RUnlock()
	switch {
	case lost:
		return since, StoreReset, nil
	case since < floor || since == hlc.Zero:
		h, err := s.firsts.do(ctx, struct{}{})
		if err != nil {
			return 0, "", fmt.Errorf("stream: resume user %s: %w", user, err)
		}
		if since < h.horizon {
			return since, Trimmed, nil
		}
	}
	if gap {
		return since, UpstreamGap, nil
	}
	return since, Complete, nil
}

// marked says whether since lies in a void, and whether a gap that may concern
// user was noted after it. Called with mu held.
func (s *shard) marked(user string, since hlc.Timestamp) (lost, gap bool) {
	for _, v := range s.voids {
		if v.after < since && since < v.before {
			lost = true
		}
	}
	for _, g := range s.gaps {
		if since < g.at && (g.user == "" || g.user == user) {
			gap = true
		}
	}
	return lost, gap
}

// horizonPart is what the leader says of the log's beginning.
type horizonPart struct {
	first Position // the first retained record; Hlc is MaxUint64 when there is none
	// horizon: at or above it, no cursor has anything cut behind it. It lies a
	// margin above the first retained stamp, since every replica trims by its
	// own clock; zero when nothing was ever cut.
	horizon hlc.Timestamp
}

// margin is how far the horizon lies above the first retained stamp.
func (l *Log) margin() time.Duration { return min(time.Minute, l.cfg.MaxAge/20) }

// askHorizon asks the leader what it still has.
func (l *Log) askHorizon(ctx context.Context, s *shard) (horizonPart, error) {
	for n := 0; ; n++ {
		state, err := l.info(ctx, s.n)
		if err != nil {
			return horizonPart{}, err
		}
		if state.Messages == 0 {
			if state.Last == 0 {
				return horizonPart{first: Position{Seq: 1}}, nil // never had a record
			}
			return horizonPart{first: Position{Seq: state.Last + 1, Hlc: math.MaxUint64}, horizon: math.MaxUint64}, nil
		}
		first, err := l.firstRecord(ctx, s, state.First)
		if errors.Is(err, errNoMessage) && retry(ctx, n) {
			continue // trimmed between the two questions
		}
		if err != nil {
			return horizonPart{}, err
		}
		h := horizonPart{first: first.Position}
		whole := state.First <= 1 && time.Since(first.Stored) < l.cfg.MaxAge-l.margin()
		if !whole {
			h.horizon = first.Hlc + hlc.New(l.margin().Milliseconds(), 0)
		}
		return h, nil
	}
}

// firstRecord is the record at seq, remembered until the beginning moves on.
func (l *Log) firstRecord(ctx context.Context, s *shard, seq uint64) (Record, error) {
	s.mu.RLock()
	cached := s.first
	s.mu.RUnlock()
	if cached.Seq == seq {
		return cached, nil
	}
	var r Record
	for next := seq; ; next = r.Seq + 1 { // past what no bridge wrote
		m, err := l.leaderGet(ctx, s.stream, msgGet{Seq: next, NextFor: ">"}) // it may have been trimmed just now
		if err != nil {
			return Record{}, err
		}
		if r, _, err = parseLeader(m); err == nil {
			break
		}
	}
	r.Frame = nil
	s.mu.Lock()
	s.first = r
	// A cursor from before what is left is trimmed, whatever was noted then.
	s.gaps = slices.DeleteFunc(s.gaps, func(g gapMark) bool { return g.at <= r.Hlc })
	s.voids = slices.DeleteFunc(s.voids, func(v void) bool { return v.before < r.Hlc })
	s.mu.Unlock()
	return r, nil
}

// loadMarks reads the markers up to at, so that cursors from before this
// process began are judged by what was noted then. What it finds replaces all
// that was known of the shard.
func (l *Log) loadMarks(ctx context.Context, s *shard, at Position) error {
	var found shard
	for seq, n := uint64(1), 0; seq <= at.Seq; n++ {
		from := seq
		_, err := l.direct.get(ctx, s.stream, msgGet{Seq: seq, NextFor: subjectOf(s.n, markerToken), Batch: readBatch}, readBatch, func(m *nats.Msg) error {
			r, err := parseDirect(m)
			if seq = r.Seq + 1; err == nil && r.Seq <= at.Seq {
				previous, has := previousOf(m.Header)
				found.mark(&r, previous, has)
			}
			return nil
		})
		if err != nil && !errors.Is(err, errNoMessage) && !errors.Is(err, errHole) {
			return wrap("load markers", err)
		}
		if seq != from {
			n = 0
			continue
		}
		// This replica has no more: does the leader?
		_, err = l.leaderGet(ctx, s.stream, msgGet{Seq: seq, NextFor: subjectOf(s.n, markerToken)})
		if errors.Is(err, errNoMessage) {
			break
		}
		if err != nil {
			return wrap("load markers", err)
		}
		if !retry(ctx, n) {
			return ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.points, s.first, s.gaps, s.voids = points{}, Record{}, found.gaps, found.voids
	return nil
}
