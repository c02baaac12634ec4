package stream

import (
	"context"
	"sync"

	"reprise/hlc"
)

// shard is what this process knows of one shard's log from following it.
type shard struct {
	// static after construction
	n      int
	stream string
	probes *gather[string, head]          // newest event of users
	firsts *gather[struct{}, horizonPart] // what the leader still has

	readings readings      // under way
	near     chan struct{} // holds a token for each read of one user over a short stretch
	far      scans

	// guarded by mu
	mu       sync.RWMutex
	followed bool
	at       Position // newest record handed out by Follow
	points   points
	gaps     []gapMark
	voids    []void
	first    Record // cached: the first retained record
}

func newShard(l *Log, n int) *shard {
	s := &shard{n: n, stream: eventsStream(n)}
	s.probes = &gather[string, head]{most: probeMost, timeout: apiTimeout, ask: func(ctx context.Context, users []string) (map[string]head, error) {
		return l.probe(ctx, s, users)
	}}
	s.firsts = &gather[struct{}, horizonPart]{most: 1, timeout: apiTimeout, ask: func(ctx context.Context, keys []struct{}) (map[struct{}]horizonPart, error) {
		h, err := l.askHorizon(ctx, s)
		return map[struct{}]horizonPart{{}: h}, err
	}}
	s.near = make(chan struct{}, nearAtOnce)
	s.far.logger = l.logger.With("shard", n)
	s.far.read = func(first uint64, user string, take func(*Record) bool) error {
		return l.scan(l.work, s, first, user, take)
	}
	return s
}

// position is the newest record that Follow handed out.
func (s *shard) position() (at Position, followed bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.at, s.followed
}

// gapMark is a gap marker: cursors before it may miss events of user.
type gapMark struct {
	at   hlc.Timestamp // the marker's own stamp
	user string        // "" is anybody
}

// void is a stretch in which the log has no record: between the last stamp
// before a take-over and the first after it. A cursor inside it was issued by
// a log that is not this one any more.
type void struct{ after, before hlc.Timestamp }

// mark takes what a marker says about cursors. Called with mu held.
func (s *shard) mark(r *Record, previous hlc.Timestamp, hasPrevious bool) {
	if r.Kind == KindGap {
		s.gaps = append(s.gaps, gapMark{at: r.Hlc, user: r.GapUser})
	}
	if hasPrevious && previous < r.Hlc {
		s.voids = append(s.voids, void{after: previous, before: r.Hlc})
	}
}
