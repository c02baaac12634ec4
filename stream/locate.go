package stream

import (
	"context"
	"errors"
	"sort"
	"time"

	"github.com/nats-io/nats.go"

	"reprise/hlc"
)

const (
	// pointEvery is how many records lie between two points.
	pointEvery = 1000
	// pointsMost bounds the points of a shard (16 MiB). When it is reached
	// every second one is forgotten: searches then end a little farther back.
	pointsMost = 1 << 20
)

// points is a sparse index of a shard: stamps and sequences, both rising.
type points struct{ list []Position }

// add remembers p if it lies far enough behind the last point.
func (p *points) add(at Position) {
	if n := len(p.list); n > 0 && at.Seq < p.list[n-1].Seq+pointEvery {
		return
	}
	if len(p.list) >= pointsMost {
		for i := range pointsMost / 2 {
			p.list[i] = p.list[2*i]
		}
		p.list = p.list[:pointsMost/2]
	}
	p.list = append(p.list, at)
}

// insert remembers what a search found.
func (p *points) insert(at Position) {
	i := sort.Search(len(p.list), func(i int) bool { return p.list[i].Hlc >= at.Hlc })
	if i < len(p.list) && p.list[i] == at || len(p.list) >= pointsMost {
		return
	}
	p.list = append(p.list, Position{})
	copy(p.list[i+1:], p.list[i:])
	p.list[i] = at
}

// around returns the neighbouring points of since: before.Hlc <= since <
// after.Hlc. A missing one is zero.
func (p *points) around(since hlc.Timestamp) (before, after Position) {
	i := sort.Search(len(p.list), func(i int) bool { return p.list[i].Hlc > since })
	if i > 0 {
		before = p.list[i-1]
	}
	if i < len(p.list) {
		after = p.list[i]
	}
	return before, after
}

// locate returns a sequence at or before the first record whose stamp is above
// since, and not many records before it. Stamps rise with the sequence, so
// they are searched for directly; the server's own start_time is only the
// first guess, for a bridge's clock may have been ahead of the server's. end is
// a position of the shard that is known to be there.
func (l *Log) locate(ctx context.Context, s *shard, since hlc.Timestamp, end Position) (uint64, error) {
	s.mu.RLock()
	lo, hi := s.points.around(since)
	s.mu.RUnlock()
	if since == hlc.Zero {
		return 1, nil
	}
	if hi == (Position{}) {
		hi = Position{Seq: end.Seq + 1}
	}
	// Invariant: the record at lo has a stamp <= since, the one at hi > since.
	guess := since.Time().Add(-time.Second)
	for n := 0; hi.Seq-lo.Seq > pointEvery; n++ {
		req := msgGet{Seq: lo.Seq + (hi.Seq-lo.Seq)/2}
		if n == 0 {
			req = msgGet{StartTime: &guess}
		}
		at, err := l.stampAt(ctx, s, req)
		switch {
		case errors.Is(err, errNoMessage):
			if n > 0 {
				hi.Seq = req.Seq // nothing at or after it
			}
			continue
		case err != nil:
			return 0, err
		}
		s.mu.Lock()
		s.points.insert(at)
		s.mu.Unlock()
		switch {
		case at.Hlc <= since && at.Seq >= lo.Seq:
			lo = at
		case at.Hlc > since && at.Seq < hi.Seq:
			hi = at
		case n > 0:
			// The next record that exists is hi itself: all between are gone.
			hi.Seq = req.Seq
		}
	}
	return max(lo.Seq, 1), nil
}

// stampAt is the position of the first record at or after what req names.
func (l *Log) stampAt(ctx context.Context, s *shard, req msgGet) (at Position, err error) {
	req.NextFor, req.Batch = eventsPrefix(s.n)+"*", 1
	for {
		foreign := false
		_, err = l.direct.get(ctx, s.stream, req, 1, func(m *nats.Msg) error {
			r, err := parseDirect(m)
			at, foreign = r.Position, err != nil
			return nil
		})
		if err != nil || !foreign {
			return at, wrap("search "+s.stream, err)
		}
		req.Seq, req.StartTime = at.Seq+1, nil
	}
}

// before is the position before the first record stored at or after t, at most end.
func (l *Log) before(ctx context.Context, s *shard, t time.Time, end Position) (Position, error) {
	at, err := l.stampAt(ctx, s, msgGet{StartTime: &t})
	if errors.Is(err, errNoMessage) {
		return end, nil
	}
	if err != nil || at.Seq > end.Seq {
		return end, err
	}
	before := Position{Seq: at.Seq - 1, Hlc: at.Hlc - 1}
	if before.Seq == 0 {
		return before, nil
	}
	m, err := l.leaderGet(ctx, s.stream, msgGet{Seq: before.Seq})
	if errors.Is(err, errNoMessage) {
		return before, nil
	}
	if err != nil {
		return end, err
	}
	r, _, err := parseLeader(m)
	return r.Position, err
}

// forget drops what searches have learnt of a shard that nobody here follows:
// the log may have been replaced since. A follower notices by itself.
func (l *Log) forget(s *shard) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.followed {
		s.points, s.first = points{}, Record{}
	}
}
