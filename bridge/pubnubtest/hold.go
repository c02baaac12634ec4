package pubnubtest

// A poll is a held subscribe request. Its maker receives from wake.
type poll struct {
	sub  subscription
	wake chan struct{} // capacity 1; sent to under Server.mu, never closed
}

// nudge wakes the poll unless it has been already.
func (p *poll) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// hold registers a poll with every topic that it names. A group that does not
// exist yet is one of them: it may come to exist. The caller holds mu, and has
// found nothing for the poll under the same lock.
func (s *Server) hold(p *poll) {
	s.polls++
	s.pollsChanged.fire()
	s.log.ensure(p.sub)
	s.log.each(p.sub, func(t *topic) {
		if t.waiting == nil {
			t.waiting = make(map[*poll]struct{})
		}
		t.waiting[p] = struct{}{}
	})
}

// unhold undoes hold.
func (s *Server) unhold(p *poll) {
	s.polls--
	s.pollsChanged.fire()
	s.log.each(p.sub, func(t *topic) {
		delete(t.waiting, p)
		s.log.release(t)
	})
}
