package pubnubtest

import (
	"net/http"
	"slices"
	"strconv"
)

const (
	pageOne         = 100    // history of one channel, messages per request
	pageMany        = 25     // of several channels, or with actions
	maxHistoryNames = 500    // channels per request
	maxCount        = 10_000 // message counts stop here
)

// historyCall answers v3 history and history with actions. A page is the
// newest max messages from end (inclusive) up to start (exclusive), oldest
// first. A channel without any is absent. reverse has no effect.
func (s *Server) historyCall(c *call) *reply {
	if r := s.wrongKey(c.parts[3]); r != nil {
		return r
	}
	if s.cfg.NoHistory {
		return noHistory()
	}
	channels := names(c.parts[5])
	withActions := c.parts[1] == "history-with-actions"
	limit := pageOne
	if len(channels) > 1 || withActions {
		limit = pageMany
	}
	switch {
	case len(channels) == 0:
		return historyFailure(http.StatusBadRequest, "No channel given")
	case len(channels) > maxHistoryNames:
		return historyFailure(http.StatusBadRequest, "Too many channels")
	case withActions && len(channels) > 1:
		return historyFailure(http.StatusBadRequest, "Only one channel is allowed")
	}
	start, err1 := number(c, "start", 1<<62)
	end, err2 := number(c, "end", 0)
	most, err3 := number(c, "max", int64(limit))
	if err1 != nil || err2 != nil || err3 != nil {
		return historyFailure(http.StatusBadRequest, "Invalid number")
	}
	if most < 1 || most > int64(limit) {
		most = int64(limit)
	}
	if r := s.mayRead(c.query.Get("auth"), channels, nil); r != nil {
		return r
	}

	found := make([][]*message, len(channels))
	s.mu.Lock()
	for i, name := range channels {
		found[i] = s.history(name, start, end, int(most))
	}
	s.mu.Unlock()

	b := []byte(`{"status":200,"error":false,"error_message":"","channels":{`)
	first := true
	for i, messages := range found {
		if len(messages) == 0 {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = appendQuoted(b, channels[i])
		b = append(b, ':', '[')
		for j, m := range messages {
			if j > 0 {
				b = append(b, ',')
			}
			b = m.appendStored(b, c)
		}
		b = append(b, ']')
	}
	return ok(append(b, `}}`...))
}

// noHistory is what PubNub says without Message Persistence, which it calls by
// its old name here (recorded in the tests of its Swift SDK).
func noHistory() *reply {
	return ok([]byte(`{"status":403,"error":true,"error_message":"Use of the history API requires the Storage & Playback ` +
		`which is not enabled for this subscribe key. Login to your PubNub Dashboard Account and enable Storage & Playback. ` +
		`Contact support@pubnub.com if you require further assistance.","channels":{}}`)).with(http.StatusForbidden)
}

// inHistory reports whether history shows the message at a time.
func (m *message) inHistory(now int64) bool {
	return m.appears <= now && (m.expires == 0 || m.expires > now)
}

// Forget makes history forget what it has of a channel before a timetoken, and
// returns how much that was, shown or not. The live queue keeps it.
func (s *Server) Forget(channel string, before int64) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.log.channels[channel]
	if t == nil {
		return 0
	}
	n := t.stored.search(before)
	for range n {
		s.log.unref(t.stored.pop())
	}
	s.log.release(t)
	return n
}

// number returns a whole number from the query, or other if there is none.
func number(c *call, name string, other int64) (int64, error) {
	v := c.query.Get(name)
	if v == "" {
		return other, nil
	}
	return strconv.ParseInt(v, 10, 64)
}

// history returns the newest messages of a channel in a range, oldest first. The caller holds mu.
func (s *Server) history(channel string, start, end int64, most int) []*message {
	t := s.log.channels[channel]
	if t == nil {
		return nil
	}
	now := s.clock.wall()
	all := t.stored.all()
	last := t.stored.search(start) - 1
	first := t.stored.search(end)
	var found []*message // newest first
	for i := last; i >= first && len(found) < most; i-- {
		if all[i].inHistory(now) {
			found = append(found, all[i])
		}
	}
	slices.Reverse(found)
	return found
}

// appendStored appends a message in the form of history.
func (m *message) appendStored(b []byte, c *call) []byte {
	b = append(b, `{"message":`...)
	b = append(b, m.payload...)
	b = append(b, `,"timetoken":`...)
	if c.bend() == NumberTimetoken {
		b = strconv.AppendInt(b, m.timetoken, 10)
	} else {
		b = appendQuotedInt(b, m.timetoken)
	}
	if c.query.Get("include_uuid") != "false" {
		b = append(b, `,"uuid":`...)
		if c.bend() == NullUUID {
			b = append(b, `null`...)
		} else {
			b = appendQuoted(b, m.uuid)
		}
	}
	if c.query.Get("include_message_type") != "false" {
		b = append(b, `,"message_type":`...)
		b = strconv.AppendInt(b, int64(m.kind), 10)
	}
	if c.query.Get("include_custom_message_type") == "true" {
		b = append(b, `,"custom_message_type":`...)
		b = appendQuoted(b, m.custom)
	}
	if c.query.Get("include_meta") == "true" {
		b = append(b, `,"meta":`...)
		if len(m.meta) > 0 {
			b = append(b, m.meta...)
		} else {
			b = append(b, `""`...)
		}
	}
	return append(b, '}')
}

// countsCall answers message counts: how many stored messages a channel has
// from a timetoken on, with one timetoken for all or one for each.
func (s *Server) countsCall(c *call) *reply {
	if r := s.wrongKey(c.parts[3]); r != nil {
		return r
	}
	if s.cfg.NoHistory {
		return noHistory()
	}
	channels := names(c.parts[5])
	one, each := c.query.Get("timetoken"), list(c.query.Get("channelsTimetoken"))
	switch {
	case len(channels) == 0:
		return historyFailure(http.StatusBadRequest, "No channel given")
	case (one == "") == (each == nil):
		return historyFailure(http.StatusBadRequest, "One of timetoken and channelsTimetoken is needed")
	case each != nil && len(each) != len(channels):
		return historyFailure(http.StatusBadRequest, "Length of channelsTimetoken differs from channels")
	}
	from := make([]int64, len(channels))
	for i := range channels {
		text := one
		if each != nil {
			text = each[i]
		}
		var err error
		if from[i], err = strconv.ParseInt(text, 10, 64); err != nil {
			return historyFailure(http.StatusBadRequest, "Invalid timetoken")
		}
	}
	if r := s.mayRead(c.query.Get("auth"), channels, nil); r != nil {
		return r
	}
	b := []byte(`{"status":200,"error":false,"error_message":"","channels":{`)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.wall()
	for i, name := range channels {
		n := 0
		if t := s.log.channels[name]; t != nil {
			for _, m := range t.stored.since(from[i]) {
				if m.inHistory(now) {
					n++
				}
			}
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = appendQuoted(b, name)
		b = append(b, ':')
		b = strconv.AppendInt(b, int64(min(n, maxCount)), 10)
	}
	return ok(append(b, `}}`...))
}
