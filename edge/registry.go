package edge

import (
	"context"
	"sync"
)

// registry knows all connections by their id. By user they are known to the
// user's tail, since registering and reading the floor are one step there.
type registry struct {
	mu      sync.Mutex
	byID    map[string]*conn
	seats   int           // connections, handshakes under way, and goodbyes
	refuses bool          // for good: a drain has begun, or the end
	empty   chan struct{} // closed when refuses and no seat is taken
}

// admission is whether there is room for a connection.
type admission uint8

const (
	admitsOne admission = iota
	admitsNoMore
	admitsNone
)

// admits tells whether there is room for one more; most is the bound, 0 none.
func (r *registry) admits(most int) admission {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.admitsLocked(most)
}

func (r *registry) admitsLocked(most int) admission {
	switch {
	case r.refuses:
		return admitsNone
	case most > 0 && r.seats >= most:
		return admitsNoMore
	}
	return admitsOne
}

// reserve takes a seat if there is one; release gives it back.
func (r *registry) reserve(most int) admission {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.admitsLocked(most)
	if a == admitsOne {
		r.seats++
	}
	return a
}

func (r *registry) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seats--
	r.sayWhenEmpty()
}

func (r *registry) sayWhenEmpty() {
	if !r.refuses || r.seats > 0 {
		return
	}
	select {
	case <-r.empty:
	default:
		close(r.empty)
	}
}

// add lists c, which has a seat; false when connections are refused by now.
func (r *registry) add(c *conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuses {
		return false
	}
	r.byID[c.id] = c
	return true
}

// remove takes c off the list. Its seat is free when its goroutines have ended.
func (r *registry) remove(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byID, c.id)
}

func (r *registry) find(id string) *conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byID[id]
}

func (r *registry) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.byID)
}

func (r *registry) all() []*conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	conns := make([]*conn, 0, len(r.byID))
	for _, c := range r.byID {
		conns = append(conns, c)
	}
	return conns
}

// refuse lets nobody in any more and returns who is here.
func (r *registry) refuse() []*conn {
	r.mu.Lock()
	r.refuses = true
	r.sayWhenEmpty()
	r.mu.Unlock()
	return r.all()
}

func (r *registry) refusing() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.refuses
}

// unregister takes c off every list. It is the first thing that happens to a
// connection that ends, however it ends.
func (s *Server) unregister(c *conn, code int, reason string) {
	s.registry.remove(c)
	s.wheel.remove(c)
	if c.shard.detach(c) {
		s.users.Add(-1)
	}
	s.metrics.active.Add(context.Background(), -1)
	s.metrics.closed(code)
	s.cfg.Logger.Debug("connection closed", "user", c.user, "device", c.device, "conn", c.id,
		"code", code, "reason", reason, "hlc", c.cursor().String())
}

// finished is the last thing that happens: the reader has ended.
func (s *Server) finished(c *conn) {
	c.close(codeCut, "")
	if s.poller != nil {
		s.poller.forget(c)
	}
	c.ws.CloseNow()
	s.registry.release()
}

// connections returns the connections of user.
func (s *Server) connections(user string) []*conn {
	return s.shardOf(user).connections(user, nil)
}

// Broadcast sends an announcement, a finished frame that is not changed any
// more, to every connection that has caught up. It blocks on no connection.
func (s *Server) Broadcast(frame []byte) {
	s.announcements.add(frame)
	for _, c := range s.registry.all() {
		c.wake()
	}
}

// Notify has the connections of user look for something new in the log, and
// returns how many there are.
func (s *Server) Notify(user string) int {
	conns := s.connections(user)
	for _, c := range conns {
		c.wake()
	}
	return len(conns)
}
