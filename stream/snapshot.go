package stream

import (
	"context"
	"encoding/json"
	"errors"

	"reprise/hlc"
)

// Snapshot is a user's state as it was folded.
type Snapshot struct {
	// Hlc is the stamp up to which every event of the user is in it.
	Hlc hlc.Timestamp
	// Gap is the stamp of the newest gap that may concern the user: what PubNub lost
	// then is in no state. Zero is none.
	Gap hlc.Timestamp
	// Watchlist and Progress are JSON arrays, in the form in which devices get them.
	Watchlist, Progress json.RawMessage
}

// Snapshot returns the state of user, if every event that the log ever had of the
// user and has no more is in it; else ok is false. The events after its Hlc are still
// in the log.
//
// The user's shard must be being followed, as for [Log.Resume].
func (l *Log) Snapshot(ctx context.Context, user string) (snap Snapshot, ok bool, err error) {
	defer func() { err = wrap("snapshot of user "+user, err) }()
	s := l.shards[l.Shard(user)]
	if _, followed := s.position(); !followed {
		return snap, false, errors.New("the shard is not followed")
	}
	// How far was folded is read first: the state may be of later, not of earlier.
	fold, rev, err := l.readFold(ctx, s.n)
	if err != nil || rev == 0 || !fold.Whole {
		return snap, false, err
	}
	if ok, err := l.holds(ctx, s, fold.Position); err != nil || !ok {
		return snap, false, err
	}
	m, err := l.leaderGet(ctx, kvStream(stateBucket), msgGet{LastFor: kvSubject(stateBucket, stateKey(s.n, user))})
	if err != nil && !errors.Is(err, errNoMessage) {
		return snap, false, err
	}
	state := struct {
		Hlc       hlc.Timestamp   `json:"hlc"`
		Gap       hlc.Timestamp   `json:"gap"`
		Watchlist json.RawMessage `json:"watchlist"`
		Progress  json.RawMessage `json:"progress"`
		Full      bool            `json:"full"`
	}{Watchlist: json.RawMessage("[]"), Progress: json.RawMessage("[]")}
	if err == nil {
		if err := json.Unmarshal(m.Data, &state); err != nil {
			return snap, false, err
		}
	}
	return Snapshot{
		Hlc: max(fold.Hlc, state.Hlc), Gap: max(fold.Gap, state.Gap),
		Watchlist: state.Watchlist, Progress: state.Progress,
	}, !state.Full, nil
}

// holds reports whether at is a position of the log from which nothing was cut.
func (l *Log) holds(ctx context.Context, s *shard, at Position) (bool, error) {
	state, err := l.info(ctx, s.n)
	if err != nil || at.Seq > state.Last {
		return false, err // of a log that is no more
	}
	if at.Seq >= max(state.First, 1) {
		m, err := l.leaderGet(ctx, s.stream, msgGet{Seq: at.Seq})
		if err == nil {
			var r Record
			if r, _, err = parseLeader(m); err == nil && r.Hlc != at.Hlc {
				return false, nil
			}
		}
		if err != nil && !errors.Is(err, errNoMessage) {
			return false, err
		}
	}
	if at.Seq == state.Last {
		return true, nil // there is nothing after it
	}
	h, err := s.firsts.do(ctx, struct{}{})
	return err == nil && at.Hlc >= h.horizon, err
}
