package pubnubtest

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	maxChannelName = 92
	maxSignal      = 64
)

// publishCall answers publish, fire and file messages.
// The path is publish/{pub}/{sub}/0/{channel}/0[/{payload}].
func (s *Server) publishCall(c *call) *reply {
	parts := c.parts
	d := &draft{fire: c.endpoint == Fire}
	if c.endpoint == File { // v1/files/publish-file/{pub}/…
		parts = parts[2:]
		d.kind = 4
	}
	d.unstored = c.query.Get("store") == "0"
	d.sequence, _ = strconv.Atoi(c.query.Get("seqn")) // no number is no sequence
	if hours, err := strconv.Atoi(c.query.Get("ttl")); err == nil && hours > 0 {
		d.expires = int64(time.Duration(hours) * time.Hour / 100)
	}
	return s.accept(c, parts, d)
}

// signalCall answers signals: small, live only.
func (s *Server) signalCall(c *call) *reply {
	if len(payloadOf(c, c.parts)) > maxSignal {
		return s.refusePublish(http.StatusRequestEntityTooLarge, "Message Too Large")
	}
	return s.accept(c, c.parts, &draft{message: message{kind: 1, unstored: true}})
}

// payloadOf returns the payload of a publish: the end of the path, or the body.
func payloadOf(c *call, parts []string) []byte {
	if len(parts) > 6 {
		return []byte(unescape(strings.Join(parts[6:], "/")))
	}
	return c.body
}

// accept validates what all publishes have in common, and publishes.
func (s *Server) accept(c *call, parts []string, d *draft) *reply {
	channel := unescape(parts[4])
	d.payload = payloadOf(c, parts)
	switch {
	case unescape(parts[1]) != s.cfg.PublishKey, unescape(parts[2]) != s.cfg.SubscribeKey:
		return s.refusePublish(http.StatusBadRequest, "Invalid Key")
	case !validChannel(channel):
		return s.refusePublish(http.StatusBadRequest, "Invalid Channel")
	case len(d.payload) > maxBody:
		return s.refusePublish(http.StatusRequestEntityTooLarge, "Message Too Large")
	case !json.Valid(d.payload):
		return s.refusePublish(http.StatusBadRequest, "Invalid JSON")
	}
	if r := s.mayWrite(c.query.Get("auth"), channel); r != nil {
		return r
	}
	d.uuid = c.query.Get("uuid")
	d.custom = c.query.Get("custom_message_type")
	if meta := c.query.Get("meta"); meta != "" {
		if d.meta = []byte(meta); !json.Valid(d.meta) {
			d.meta = []byte(quote(meta))
		}
	}
	return ok(fmtAppend(`[1,"Sent","%d"]`, s.publish(channel, d)))
}

// refusePublish is the form of a publish's error.
func (s *Server) refusePublish(status int, reason string) *reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ok(fmtAppend(`[0,%s,"%d"]`, quote(reason), s.clock.wall())).with(status)
}

// validChannel reports whether a message can be published to a channel: at most
// 92 characters in at most three segments, without , : * / \ and space.
func validChannel(name string) bool {
	return name != "" && len([]rune(name)) <= maxChannelName &&
		strings.Count(name, ".") <= 2 && !strings.ContainsAny(name, ",:*/\\ ")
}
