package edge

import (
	"strings"
	"sync"
	"time"

	"reprise/hlc"
	"reprise/stream"
)

// tail is what this edge knows of a user: the newest events and who wants them.
// It exists from the first connection of the user, or the first event while the
// server is warming up, until TailLinger after the last connection.
type tail struct {
	// static after construction
	user string

	// guarded by shard.mu
	conns  []*conn
	seats  int           // connections, and handshakes about to become some
	empty  time.Duration // when seats fell to 0, on the server's clock
	origin string        // device of the last event that was of none of conns

	// guarded by mu
	mu     sync.Mutex
	window window

	// guarded by budget.mu
	older, newer *tail
	listed       bool
}

// after copies the events after pos into dst, as window.after.
func (t *tail) after(pos hlc.Timestamp, dst []event) ([]event, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.window.after(pos, dst)
}

// meeting is up to where a replay reads the log, as window.meeting.
func (t *tail) meeting(limit int) stream.Position {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.window.meeting(limit)
}

func (t *tail) floor() stream.Position {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.window.floor
}

// add appends ev and makes t the most recently used.
func (t *tail) add(ev event, limit int, b *budget) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b.used.Add(t.window.add(ev, limit))
	b.touch(t)
}

// drop forgets up to n of the oldest events; reset forgets all and starts at floor.
func (t *tail) drop(n int, b *budget) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b.used.Add(-t.window.drop(n))
	if t.window.n == 0 {
		b.forget(t)
	}
}

// It returns the newest position of what was forgotten.
func (t *tail) reset(floor stream.Position, b *budget) (newest stream.Position) {
	t.mu.Lock()
	defer t.mu.Unlock()
	freed := t.window.drop(t.window.n)
	newest = t.window.floor
	b.used.Add(-freed - t.window.reset(floor))
	b.forget(t)
	return newest
}

// intern returns device as a string that may be kept: the one of a connection,
// as a rule, so that an event costs none. The caller holds shard.mu.
func (t *tail) intern(device string) string {
	for _, c := range t.conns {
		if c.device == device {
			return c.device
		}
	}
	if device != t.origin {
		t.origin = strings.Clone(device)
	}
	return t.origin
}
