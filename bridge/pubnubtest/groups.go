package pubnubtest

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

const (
	maxGroups        = 10_000 // a further one is refused with 400; those that a poll waits for count
	maxGroupChannels = 2000   // likewise a further channel of a group
)

// join makes a channel a member of a group that it is no member of. The group
// gets what is published from then on.
func (l *messageLog) join(g *topic, channel string) {
	if g.members == nil {
		g.members = make(map[string]struct{})
	}
	g.members[channel] = struct{}{}
	l.groupsOf[channel] = append(l.groupsOf[channel], g)
}

// leave ends the membership of channels, of those that are members. The group
// loses what they have put into its live queue.
func (l *messageLog) leave(g *topic, channels []string) {
	left := make(map[string]bool, len(channels))
	for _, channel := range channels {
		if _, member := g.members[channel]; !member {
			continue
		}
		delete(g.members, channel)
		left[channel] = true
		groups := slices.DeleteFunc(l.groupsOf[channel], func(x *topic) bool { return x == g })
		if l.groupsOf[channel] = groups; len(groups) == 0 {
			delete(l.groupsOf, channel)
		}
	}
	if len(left) == 0 {
		return
	}
	g.live.filter(func(m *message) bool {
		if left[m.ch.name] {
			l.unref(m)
			return false
		}
		return true
	})
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
		s.unregister(name)
	case add != nil || remove != nil:
		if r := s.register(name, add, remove); r != nil {
			return r
		}
	default:
		return s.listGroup(name)
	}
	return ok([]byte(`{"status":200,"message":"OK","service":"channel-registry","error":false}`))
}

// register removes channels from a group and adds others. A held poll that
// names the group waits for the new ones from then on.
func (s *Server) register(name string, add, remove []string) *reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, _ := find(s.log.groups, name)
	defer s.log.release(g)
	s.log.leave(g, remove)
	for _, channel := range add {
		if _, old := g.members[channel]; old {
			continue
		}
		if len(g.members) >= maxGroupChannels || len(s.log.groups) > maxGroups {
			return failure(http.StatusBadRequest, "Too many channels or groups")
		}
		s.log.join(g, channel)
	}
	return nil
}

// unregister removes all channels from a group, which ends it.
func (s *Server) unregister(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.log.groups[name]; g != nil {
		s.log.leave(g, slices.Collect(maps.Keys(g.members)))
		s.log.release(g)
	}
}

// membersOf returns the channels of a group in order. The caller holds mu.
func (s *Server) membersOf(name string) []string {
	if g := s.log.groups[name]; g != nil {
		return slices.Sorted(maps.Keys(g.members))
	}
	return nil
}

func (s *Server) listGroup(name string) *reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := []byte(`{"status":200,"payload":{"channels":`)
	b = appendNames(b, s.membersOf(name))
	b = append(b, `,"group":`...)
	b = appendQuoted(b, name)
	return ok(append(b, `},"service":"channel-registry","error":false}`...))
}

func (s *Server) listGroups() *reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := slices.Sorted(maps.Keys(s.log.groups))
	names = slices.DeleteFunc(names, func(name string) bool { return len(s.log.groups[name].members) == 0 })
	b := []byte(`{"status":200,"payload":{"groups":`)
	b = appendNames(b, names)
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
