package edge

import (
	"time"

	"reprise/stream"
)

// handle takes one step of the shard's log. It runs on the one goroutine that
// follows the shard, and blocks on nothing but leaf locks.
func (sh *shard) handle(r *stream.Record) {
	switch r.Kind {
	case stream.KindEvent:
		sh.event(r)
	case stream.KindStart:
		sh.begin(r.Position, r.Warm)
	case stream.KindCurrent:
		sh.mu.Lock()
		sh.warmed()
		sh.mu.Unlock()
	case stream.KindMarker:
		sh.mu.Lock()
		sh.advance(r.Position)
		sh.mu.Unlock()
	case stream.KindGap:
		sh.mu.Lock()
		sh.advance(r.Position)
		concerned := sh.collect(r.GapUser, nil)
		sh.mu.Unlock()
		closeAll(concerned, codeResumeAgain, "upstream gap")
	case stream.KindLost:
		closeAll(sh.lost(r.Position), codeResumeAgain, "events lost to retention")
	case stream.KindReset:
		closeAll(sh.replace(r.Position), codeResumeAgain, "log replaced")
	}
}

// warmMost is how long tails are warmed at most: an edge that takes so long had
// better serve from the log.
const warmMost = 10 * time.Second

// begin starts at a position. With warm, what was in the log already comes first.
func (sh *shard) begin(at stream.Position, warm bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.floor = at
	if warm {
		sh.warming = sh.elapsed() + warmMost
	}
	sh.advance(at)
}

// warmed ends the warming: whoever is not here by now may leave. The caller
// holds mu.
func (sh *shard) warmed() {
	if sh.warming == 0 {
		return
	}
	sh.warming = 0
	for _, t := range sh.users {
		if t.seats == 0 {
			sh.leave(t)
		}
	}
	sh.advance(sh.dispatched())
}

// event puts an event into its user's tail, if the user is here, and wakes the
// user's connections.
func (sh *shard) event(r *stream.Record) {
	sh.mu.Lock()
	t := sh.users[r.User]
	if t == nil && sh.warming != 0 {
		t = sh.open(r.User)
	}
	if t == nil {
		sh.floor = r.Position
		sh.advance(r.Position)
		sh.mu.Unlock()
		return
	}
	ev := event{at: r.Position, frame: r.Frame, expires: r.Expires, trace: newSpan(r)}
	if r.Device != "" {
		ev.device = t.intern(r.Device)
	}
	if !r.Stored.IsZero() {
		ev.stored = r.Stored.UnixNano()
	}
	t.add(ev, sh.limit, sh.budget)
	sh.advance(r.Position)
	for _, c := range t.conns {
		c.wake()
	}
	sh.mu.Unlock()
	sh.budget.shrink()
}

// lost raises all floors to at, since what lies before it never came, and
// returns the connections that may have missed some of it.
func (sh *shard) lost(at stream.Position) []*conn {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.restart(at)
	return sh.collect("", behind(at.Hlc))
}

// replace starts again at the end of another log. All connections go: their
// cursors are of the old one.
func (sh *shard) replace(at stream.Position) []*conn {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	all := sh.collect("", nil)
	sh.restart(at)
	return all
}

// restart has every tail begin at a position. The caller holds mu.
func (sh *shard) restart(at stream.Position) {
	for _, t := range sh.users {
		t.reset(at, sh.budget)
	}
	sh.floor = at
	sh.advance(at)
	sh.warmed()
}

func closeAll(conns []*conn, code int, reason string) {
	for _, c := range conns {
		c.close(code, reason)
	}
}
