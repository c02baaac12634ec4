package pubnubtest

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

const (
	maxGroups        = 10_000 // a further one is refused with 400
	maxGroupChannels = 2000   // likewise a further channel of a group
)

// A group is a named set of channels. Guarded by Server.mu.
type group struct {
	quoted   string           // name as a JSON string
	channels map[string]int64 // to the cursor at which the channel joined
}

// groupsCall answers the registration of channels in groups:
// v1/channel-registration/sub-key/{sub}/channel-group[/{group}[/remove]].
func (s *Server) groupsCall(c *call) *reply {
	if r := s.wrongKey(c.parts[3]); r != nil {
		return r
	}
	if len(c.parts) == 5 {
		return s.listGroups()
	}
	name := unescape(c.parts[5])
	if name == "" || strings.ContainsAny(name, ",:*/\\ ") {
		return failure(http.StatusBadRequest, "Invalid channel group")
	}
	if r := s.mayManage(c.query.Get("auth"), name); r != nil {
		return r
	}
	add, remove := list(c.query.Get("add")), list(c.query.Get("remove"))
	for _, channel := range add {
		if channel == "" || strings.ContainsAny(channel, "*") {
			return failure(http.StatusBadRequest, "Invalid channel name")
		}
	}
	switch {
	case len(c.parts) == 7:
		s.changeGroup(name, func(g *group) { clear(g.channels) })
	case add != nil || remove != nil:
		if r := s.register(name, add, remove); r != nil {
			return r
		}
	default:
		return s.listGroup(name)
	}
	return ok([]byte(`{"status":200,"message":"OK","service":"channel-registry","error":false}`))
}

// register adds channels to a group and removes others.
func (s *Server) register(name string, add, remove []string) (refused *reply) {
	s.changeGroup(name, func(g *group) {
		for _, channel := range remove {
			delete(g.channels, channel)
		}
		joined := s.clock.present()
		for _, channel := range add {
			if _, old := g.channels[channel]; old {
				continue
			}
			if len(g.channels) >= maxGroupChannels || len(s.groups) > maxGroups {
				refused = failure(http.StatusBadRequest, "Too many channels or groups")
				return
			}
			g.channels[channel] = joined
		}
	})
	return refused
}

// changeGroup applies a change to a group, which is made before and dropped
// after if need be. Polls that wait for the group wait for its new channels
// from then on; what was published to those earlier they do not get.
func (s *Server) changeGroup(name string, change func(*group)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groups[name]
	if g == nil {
		g = &group{quoted: quote(name), channels: make(map[string]int64)}
		s.groups[name] = g
	}
	var concerned []*poll
	for p := range s.polls {
		if slices.Contains(p.sub.groups, name) {
			concerned = append(concerned, p)
		}
	}
	for _, p := range concerned {
		s.unhold(p)
	}
	change(g)
	if len(g.channels) == 0 {
		delete(s.groups, name)
	}
	for _, p := range concerned {
		s.hold(p)
	}
}

func (s *Server) listGroup(name string) *reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	var channels []string
	if g := s.groups[name]; g != nil {
		channels = slices.Sorted(maps.Keys(g.channels))
	}
	b := []byte(`{"status":200,"payload":{"channels":`)
	b = appendNames(b, channels)
	b = append(b, `,"group":`...)
	b = appendQuoted(b, name)
	return ok(append(b, `},"service":"channel-registry","error":false}`...))
}

func (s *Server) listGroups() *reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := []byte(`{"status":200,"payload":{"groups":`)
	b = appendNames(b, slices.Sorted(maps.Keys(s.groups)))
	return ok(append(b, `},"service":"channel-registry","error":false}`...))
}

// appendNames appends a JSON array of strings.
func appendNames(b []byte, names []string) []byte {
	b = append(b, '[')
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendQuoted(b, name)
	}
	return append(b, ']')
}
