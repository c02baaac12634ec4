package pubnubtest

import (
	"context"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// maxPolls bounds the held subscribe requests; further ones get 503.
const maxPolls = 10_000

// isHandshake reports whether a subscribe asks for a cursor only.
func isHandshake(query url.Values) bool {
	tt := query.Get("tt")
	return tt == "" || tt == "0"
}

// subscribe answers a handshake at once, and a poll as soon as there is
// something after its cursor, or with an empty page after PollTimeout. It
// returns nil if ctx ends before.
func (s *Server) subscribe(ctx context.Context, c *call) *reply {
	if r := s.wrongKey(c.parts[2]); r != nil {
		return r
	}
	var cursor int64
	if c.endpoint == Poll {
		var err error
		if cursor, err = strconv.ParseInt(c.query.Get("tt"), 10, 64); err != nil || cursor < 0 {
			return failure(http.StatusBadRequest, "Invalid Timetoken")
		}
	}
	sub, invalid := newSubscription(names(c.parts[3]), list(c.query.Get("channel-group")))
	if invalid != "" {
		return ok(fmtAppend(`{"message":"Wildcard maximum depth exceeded","payload":{"channels":[%s]},`+
			`"error":true,"service":"Access Manager","status":400}`, quote(invalid))).with(http.StatusBadRequest)
	}
	if r := s.mayRead(c.query.Get("auth"), append(sub.channels[:len(sub.channels):len(sub.channels)], sub.wildcards...), sub.groups); r != nil {
		return r
	}
	page, r := s.await(ctx, c, sub, cursor)
	if r != nil || page == nil {
		return r
	}
	return ok(page.encode(s.cfg.SubscribeKey))
}

// await finds the page for a subscribe; nil if the client left first.
func (s *Server) await(ctx context.Context, c *call, sub subscription, cursor int64) (*page, *reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.emptySubscription(c, sub) {
		return nil, failure(http.StatusBadRequest, "Channel group or groups result in empty subscription set")
	}
	s.presence.touch(s.clock.wall(), c.query.Get("uuid"), sub.channels)
	p := &page{region: s.cfg.Region, bend: c.bend()}
	if c.endpoint == Handshake {
		p.cursor = s.clock.present()
		p.distort(c, cursor, nil)
		return p, nil
	}
	queueSize := s.cfg.QueueSize
	if p.bend == Overflow {
		queueSize = min(queueSize, max(1, c.injected.fault.N))
	}
	timeout := time.NewTimer(s.cfg.PollTimeout)
	defer timeout.Stop()
	for expired, skipped := false, false; ; {
		p.entries, skipped = s.collect(sub, cursor, queueSize)
		if len(p.entries) > 0 || expired {
			if skipped {
				s.overflows++
			}
			break
		}
		if s.polls >= maxPolls {
			return nil, failure(http.StatusServiceUnavailable, "Too many connections")
		}
		held := &poll{sub: sub, wake: make(chan struct{}, 1)}
		s.hold(held)
		s.mu.Unlock()
		gone := false
		select {
		case <-held.wake:
		case <-timeout.C:
			expired = true
		case <-ctx.Done():
			gone = true
		}
		s.mu.Lock()
		s.unhold(held)
		if gone {
			return nil, nil
		}
	}
	if n := len(p.entries); n > 0 {
		p.cursor = p.entries[n-1].cursor
	} else {
		p.cursor = s.clock.present()
	}
	p.distort(c, cursor, s.chance)
	return p, nil
}

// emptySubscription reports whether groups were named that hold nothing, and
// nothing else was. Presence channels count as something.
func (s *Server) emptySubscription(c *call, sub subscription) bool {
	for _, name := range sub.groups {
		if g := s.log.groups[name]; g != nil && len(g.members) > 0 {
			return false
		}
	}
	return len(names(c.parts[3])) == 0
}

// distort applies the faults that concern cursors and order. asked is the cursor of the request.
func (p *page) distort(c *call, asked int64, chance *rand.Rand) {
	switch p.bend {
	case WideRegion:
		p.region = 300
	case Replay:
		if len(p.entries) > 0 {
			p.cursor = asked
		}
	case Backwards:
		if asked == 0 {
			return
		}
		back := c.injected.fault.Delay
		if back == 0 {
			back = time.Second
		}
		p.cursor = max(1, asked-int64(back/100))
	case Shuffle:
		if chance != nil {
			chance.Shuffle(len(p.entries), func(i, j int) {
				p.entries[i], p.entries[j] = p.entries[j], p.entries[i]
			})
		}
	}
}
