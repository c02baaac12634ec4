package pubnubtest

import (
	"maps"
	"slices"
	"strconv"
	"time"
)

const (
	presenceTimeout = 300 * time.Second
	maxPresent      = 100_000 // (channel, user) pairs; further ones are not noted
)

// presence knows who was seen on which channel. Guarded by Server.mu.
type presence struct {
	channels map[string]map[string]int64 // channel, user id, until when
	pairs    int
}

// touch notes that a user is on channels now.
func (p *presence) touch(now int64, user string, channels []string) {
	if user == "" {
		return
	}
	until := now + int64(presenceTimeout/100)
	for _, channel := range channels {
		users := p.channels[channel]
		if _, old := users[user]; !old {
			if p.pairs >= maxPresent {
				p.expire(now)
			}
			if p.pairs >= maxPresent {
				return
			}
			p.pairs++
		}
		if users == nil {
			users = make(map[string]int64)
			p.channels[channel] = users
		}
		users[user] = until
	}
}

// leave notes that a user is not on channels any more.
func (p *presence) leave(user string, channels []string) {
	for _, channel := range channels {
		if _, here := p.channels[channel][user]; here {
			p.drop(channel, user)
		}
	}
}

// expire forgets who was not seen for presenceTimeout.
func (p *presence) expire(now int64) {
	for channel, users := range p.channels {
		for user, until := range users {
			if until <= now {
				p.drop(channel, user)
			}
		}
	}
}

func (p *presence) drop(channel, user string) {
	delete(p.channels[channel], user)
	p.pairs--
	if len(p.channels[channel]) == 0 {
		delete(p.channels, channel)
	}
}

// presenceCall answers heartbeat and leave.
func (s *Server) presenceCall(c *call) *reply {
	if r := s.wrongKey(c.parts[3]); r != nil {
		return r
	}
	sub, _ := newSubscription(names(c.parts[5]), nil)
	user := c.query.Get("uuid")
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.endpoint == Leave {
		s.presence.leave(user, sub.channels)
		return ok([]byte(`{"status":200,"message":"OK","action":"leave","service":"Presence"}`))
	}
	s.presence.touch(s.clock.wall(), user, sub.channels)
	return ok([]byte(`{"status":200,"message":"OK","service":"Presence"}`))
}

// hereNowCall answers who is on one channel, on several, or on all.
func (s *Server) hereNowCall(c *call) *reply {
	if r := s.wrongKey(c.parts[3]); r != nil {
		return r
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.presence.expire(s.clock.wall())
	var channels []string
	switch {
	case len(c.parts) == 4:
		channels = slices.Sorted(maps.Keys(s.presence.channels))
	default:
		channels = names(c.parts[5])
		for _, name := range list(c.query.Get("channel-group")) {
			channels = append(channels, s.membersOf(name)...)
		}
	}
	occupants := func(b []byte, channel string) []byte {
		users := slices.Sorted(maps.Keys(s.presence.channels[channel]))
		b = append(b, `"occupancy":`...)
		b = strconv.AppendInt(b, int64(len(users)), 10)
		if c.query.Get("disable-uuids") == "1" {
			return b
		}
		b = append(b, `,"uuids":`...)
		if c.query.Get("state") != "1" {
			return appendNames(b, users)
		}
		b = append(b, '[')
		for i, user := range users {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, `{"uuid":`...)
			b = append(appendQuoted(b, user), '}')
		}
		return append(b, ']')
	}
	if len(c.parts) == 6 && len(channels) == 1 && c.query.Get("channel-group") == "" {
		b := []byte(`{"status":200,"message":"OK","service":"Presence",`)
		return ok(append(occupants(b, channels[0]), '}'))
	}
	b := []byte(`{"status":200,"message":"OK","service":"Presence","payload":{"channels":{`)
	occupancy, occupied := 0, 0
	for _, channel := range channels {
		n := len(s.presence.channels[channel])
		if n == 0 {
			continue
		}
		if occupied > 0 {
			b = append(b, ',')
		}
		occupancy += n
		occupied++
		b = append(appendQuoted(b, channel), ':', '{')
		b = append(occupants(b, channel), '}')
	}
	return ok(append(b, fmtAppend(`},"total_channels":%d,"total_occupancy":%d}}`, occupied, occupancy)...))
}

// whereNowCall answers on which channels a user is.
func (s *Server) whereNowCall(c *call) *reply {
	if r := s.wrongKey(c.parts[3]); r != nil {
		return r
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.presence.expire(s.clock.wall())
	user := unescape(c.parts[5])
	var channels []string
	for channel, users := range s.presence.channels {
		if _, here := users[user]; here {
			channels = append(channels, channel)
		}
	}
	slices.Sort(channels)
	b := appendNames([]byte(`{"status":200,"message":"OK","service":"Presence","payload":{"channels":`), channels)
	return ok(append(b, `}}`...))
}
