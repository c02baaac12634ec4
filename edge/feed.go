package edge

import (
	"reprise/stream"
)

// handle takes one step of the shard's log. It runs on the one goroutine that
// follows the shard, and blocks on nothing but leaf locks.
func (sh *shard) handle(r *stream.Record) {
	switch r.Kind {
	case stream.KindEvent:
		sh.event(r)
	case stream.KindStart, stream.KindMarker:
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

// event puts an event into its user's tail, if the user is here, and wakes the
// user's connections.
func (sh *shard) event(r *stream.Record) {
	sh.mu.Lock()
	t := sh.users[r.User]
	if t == nil {
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
	for _, t := range sh.users {
		t.reset(at, sh.budget)
	}
	sh.advance(at)
	return sh.collect("", behind(at.Hlc))
}

// replace starts again at the end of another log. All connections go: their
// cursors are of the old one.
func (sh *shard) replace(at stream.Position) []*conn {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	all := sh.collect("", nil)
	for _, t := range sh.users {
		t.reset(at, sh.budget)
	}
	sh.advance(at)
	return all
}

func closeAll(conns []*conn, code int, reason string) {
	for _, c := range conns {
		c.close(code, reason)
	}
}
