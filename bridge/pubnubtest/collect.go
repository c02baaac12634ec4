package pubnubtest

import (
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
}

// collect returns the page that follows a cursor: of all that matches sub and
// lies in its live queue of the given length, the first PageSize messages above
// the cursor. What it costs depends on the names in sub and on the page, not on
// the channels that a wildcard or a group stands for. It also reports whether
// messages above the cursor are skipped, because they are in the queue no more.
// The caller holds mu.
func (s *Server) collect(sub subscription, cursor int64, queueSize int) (page []entry, skipped bool) {
	oldest := s.clock.wall() - int64(s.cfg.QueueAge/100)
	var spans []span
	total := 0
	s.log.each(sub, func(t *topic) {
		items := t.live.after(cursor)
		n := len(items)
		items = above(items, oldest)
		skipped = skipped || t.gone > cursor || len(items) < n
		if len(items) > 0 {
			spans = append(spans, span{items, t})
			total += len(items)
		}
	})
	if total == 0 {
		return nil, skipped
	}
	surplus := 0
	if total > queueSize {
		surplus, skipped = keepNewest(spans, queueSize), true
	}
	return s.merge(spans, surplus), skipped
}

// keepNewest cuts the oldest copies off, all but the newest size of the spans
// together. Copies of one message are not parted here: of those that are left
// the first surplus ones are to be skipped.
func keepNewest(spans []span, size int) (surplus int) {
	newer := func(cursor int64) (n int) {
		for _, sp := range spans {
			n += len(above(sp.items, cursor))
		}
		return n
	}
	least, most := spans[0].items[0].cursor-1, spans[0].items[0].cursor
	for _, sp := range spans {
		least = min(least, sp.items[0].cursor-1)
		most = max(most, sp.items[len(sp.items)-1].cursor)
	}
	for most-least > 1 { // at least size copies are above least, and fewer above most
		if mid := least + (most-least)/2; newer(mid) >= size {
			least = mid
		} else {
			most = mid
		}
	}
	surplus = newer(least) - size
	for i := range spans {
		spans[i].items = above(spans[i].items, least)
	}
	return surplus
}

// merge puts spans into one order, skips the first surplus copies and cuts the
// page out. Of a message that is in several spans all copies come in the same
// page.
func (s *Server) merge(spans []span, surplus int) []entry {
	var page []entry
	for len(page) <= s.cfg.PageSize { // one more than a page, to see whether a copy is cut off
		first := -1
		for i, sp := range spans {
			if len(sp.items) > 0 && (first < 0 || sp.items[0].cursor < spans[first].items[0].cursor) {
				first = i
			}
		}
		if first < 0 {
			return page
		}
		m := spans[first].items[0]
		spans[first].items = spans[first].items[1:]
		switch {
		case surplus > 0:
			surplus--
		case s.cfg.OneCopy && len(page) > 0 && page[len(page)-1].message == m:
		default:
			page = append(page, entry{m, spans[first].match})
		}
	}
	n := s.cfg.PageSize
	whole := n
	for whole > 0 && page[whole-1].message == page[whole].message {
		whole--
	}
	if whole == 0 { // more copies than a page holds
		whole = n
	}
	return page[:whole]
}
