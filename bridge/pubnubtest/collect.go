package pubnubtest

import (
	"cmp"
	"slices"
	"strings"
)

// A subscription is what one subscribe request names.
type subscription struct {
	channels  []string
	wildcards []string
	groups    []string
}

// newSubscription sorts the names of a request. Presence channels are dropped.
// It returns the first wildcard that PubNub does not know: more than two
// segments before the star, none, or a star elsewhere.
func newSubscription(channels, groups []string) (s subscription, invalid string) {
	for _, name := range channels {
		switch {
		case strings.HasSuffix(name, presenceSuffix):
		case !strings.Contains(name, "*"):
			s.channels = appendNew(s.channels, name)
		case validWildcard(name):
			s.wildcards = appendNew(s.wildcards, name)
		default:
			return s, name
		}
	}
	for _, g := range groups {
		if !strings.HasSuffix(g, presenceSuffix) {
			s.groups = appendNew(s.groups, g)
		}
	}
	return s, ""
}

const presenceSuffix = "-pnpres"

func appendNew(names []string, name string) []string {
	if name == "" || slices.Contains(names, name) {
		return names
	}
	return append(names, name)
}

// validWildcard reports whether name is x.* or x.y.*.
func validWildcard(name string) bool {
	prefix, ok := strings.CutSuffix(name, ".*")
	return ok && prefix != "" && !strings.Contains(prefix, "*") && strings.Count(prefix, ".") <= 1
}

// A span is what one matching name contributes to a reply.
type span struct {
	items []*message
	match *topic
	label string
}

// collect returns the page that follows a cursor: of all that matches sub and
// lies in its live queue of the given length, the first PageSize messages above the
// cursor. The caller holds mu.
func (s *Server) collect(sub subscription, cursor int64, queueSize int) []entry {
	cursor = max(cursor, s.clock.wall()-int64(s.cfg.QueueAge/100))
	var spans []span
	total := 0
	add := func(t *topic, from int64, label string) {
		if t == nil {
			return
		}
		if items := t.live.after(from); len(items) > 0 {
			spans = append(spans, span{items, t, label})
			total += len(items)
		}
	}
	for _, name := range sub.channels {
		add(s.log.channels[name], cursor, "")
	}
	for _, name := range sub.wildcards {
		add(s.log.wildcards[name], cursor, "")
	}
	for _, name := range sub.groups {
		if g := s.groups[name]; g != nil {
			for channel, since := range g.channels {
				add(s.log.channels[channel], max(cursor, since), g.quoted)
			}
		}
	}
	if total == 0 {
		return nil
	}
	return s.merge(spans, total, queueSize)
}

// merge puts spans into one order and cuts the page out. Of a message that is
// in several spans all copies come in the same page.
func (s *Server) merge(spans []span, total, queueSize int) []entry {
	lost := max(0, total-queueSize)
	if len(spans) == 1 {
		spans[0].items = spans[0].items[lost:]
		lost = 0
	}
	var page []entry
	for _, sp := range spans {
		items := sp.items
		if lost > 0 { // only the newest queueSize of each can be in the queue
			items = items[max(0, len(items)-queueSize):]
		} else { // one more than a page, to see whether a copy is cut off
			items = items[:min(len(items), s.cfg.PageSize+1)]
		}
		page = slices.Grow(page, len(items))
		for _, m := range items {
			page = append(page, entry{m, sp.match, sp.label})
		}
	}
	if len(spans) > 1 {
		slices.SortStableFunc(page, func(a, b entry) int { return cmp.Compare(a.cursor, b.cursor) })
	}
	if lost > 0 {
		page = page[max(0, len(page)-queueSize):]
	}
	if s.cfg.OneCopy {
		page = slices.CompactFunc(page, func(a, b entry) bool { return a.message == b.message })
	}
	n := min(len(page), s.cfg.PageSize)
	if n == len(page) {
		return page
	}
	whole := n
	for whole > 0 && page[whole-1].message == page[whole].message {
		whole--
	}
	if whole == 0 { // more copies than a page holds
		whole = n
	}
	return page[:whole]
}

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

// hold registers a poll with every topic it waits for. The caller holds mu,
// and has found nothing for it under the same lock.
func (s *Server) hold(p *poll) {
	s.polls[p] = struct{}{}
	s.pollsChanged.fire()
	s.eachTopic(p.sub, func(t *topic) {
		if t.waiting == nil {
			t.waiting = make(map[*poll]struct{})
		}
		t.waiting[p] = struct{}{}
	})
}

// unhold undoes hold, also for topics that have meanwhile left a group: those
// keep the poll until it is found there, so a group's change unholds first.
func (s *Server) unhold(p *poll) {
	delete(s.polls, p)
	s.pollsChanged.fire()
	s.eachTopic(p.sub, func(t *topic) {
		delete(t.waiting, p)
		s.log.release(t)
	})
}

// eachTopic calls f for every topic of a subscription.
func (s *Server) eachTopic(sub subscription, f func(*topic)) {
	for _, name := range sub.channels {
		f(s.log.topic(name, false))
	}
	for _, name := range sub.wildcards {
		f(s.log.topic(name, true))
	}
	for _, name := range sub.groups {
		if g := s.groups[name]; g != nil {
			for channel := range g.channels {
				f(s.log.topic(channel, false))
			}
		}
	}
}
