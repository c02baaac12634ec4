package edge

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"reprise/hlc"
)

// frameKind is what a device's frame is.
type frameKind uint8

const (
	frameWatchlist frameKind = iota // this one and the next three go up to PubNub
	frameProgress
	frameCommand
	frameHandoff
	frameAck
	frameToken
	frameHeartbeat
	framePing
)

// deviceFrame is a frame that a device sent, as far as it is acted on.
type deviceFrame struct {
	kind    frameKind
	id      string                     // of an update, or what stood there if it was a string
	raw     map[string]json.RawMessage // an update's members, as written
	expires int64                      // frameCommand: Unix ms; 0 is never
	hlc     hlc.Timestamp              // frameAck
	token   string                     // frameToken
}

// badFrame is why a frame was not taken: a code of the protocol and a text for
// a person.
type badFrame struct{ code, message string }

// parseFrame reads a device's text frame; now is Unix ms. Names are compared
// exactly, and unknown members ignored. When the frame is bad its id is
// returned as far as there is one.
func parseFrame(text []byte, opaque bool, now int64) (deviceFrame, *badFrame) {
	m := members{opaque: opaque}
	if err := json.Unmarshal(text, &m.raw); err != nil || m.raw == nil {
		return deviceFrame{}, &badFrame{"bad_json", "not a JSON object"}
	}
	f := deviceFrame{}
	f.id, _ = m.text("id")
	if len(f.id) > 128 {
		f.id = ""
	}
	kind, ok := m.text("type")
	if !ok {
		return f, &badFrame{"bad_field", "type: missing, or not a string"}
	}
	switch kind {
	case "ping":
		f.kind = framePing
	case "device_heartbeat":
		f.kind = frameHeartbeat
	case "ack":
		f.kind = frameAck
		at, _ := m.text("hlc")
		var err error
		if f.hlc, err = hlc.Parse(at); err != nil {
			m.fail("hlc", "not 16 lower-case hex digits")
		}
	case "token":
		f.kind = frameToken
		if f.token, ok = m.text("token"); !ok || f.token == "" {
			m.fail("token", "missing, or not a string")
		}
	case "watchlist_update":
		f.kind, f.raw = frameWatchlist, m.raw
		m.update()
		if op, _ := m.text("operation"); op != "add" && op != "remove" {
			m.fail("operation", "neither add nor remove")
		}
		m.identifier("content_id")
		m.length("unique_tag", 128)
	case "progress_update":
		f.kind, f.raw = frameProgress, m.raw
		m.update()
		m.identifier("content_id")
		m.seconds("position_seconds", true)
		m.seconds("duration_seconds", false)
	case "device_command":
		f.kind, f.raw = frameCommand, m.raw
		m.update()
		m.identifier("target_device_id")
		m.length("command_type", 64)
		m.payload("payload")
		f.expires = m.expiry("expires_at", now)
	case "device_handoff":
		f.kind, f.raw = frameHandoff, m.raw
		m.update()
		m.identifier("target_device_id")
		m.length("content_id", 128)
		m.seconds("position_seconds", false)
	default:
		return f, &badFrame{"unknown_type", "type: unknown"}
	}
	return f, m.bad
}

// members is a JSON object being looked through. The first thing that is wrong
// with it is kept in bad.
type members struct {
	raw    map[string]json.RawMessage
	opaque bool
	bad    *badFrame
}

func (m *members) fail(name, what string) {
	if m.bad == nil {
		m.bad = &badFrame{"bad_field", name + ": " + what}
	}
}

// text is a member that is a string.
func (m *members) text(name string) (s string, ok bool) {
	raw := m.raw[name]
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", false
	}
	return s, true
}

// update checks what all updates have.
func (m *members) update() {
	if id, _ := m.text("id"); !validUUID(id) {
		m.fail("id", "not a UUID")
	}
	raw, given := m.raw["timestamp"]
	if !given {
		return
	}
	if s, ok := m.text("timestamp"); ok {
		if _, err := hlc.Parse(s); err != nil && !digits(s, 20) {
			m.fail("timestamp", "neither 1 to 20 digits nor 16 hex digits")
		}
	} else if !digits(string(raw), 20) {
		m.fail("timestamp", "neither a string nor 1 to 20 digits")
	}
}

func (m *members) identifier(name string) {
	s, ok := m.text(name)
	if ok && m.opaque && printable(s, 128) || ok && validUUID(s) {
		return
	}
	if m.opaque {
		m.fail(name, "not 1 to 128 printable characters")
	} else {
		m.fail(name, "not a UUID")
	}
}

func (m *members) length(name string, most int) {
	s, ok := m.text(name)
	if n := utf8.RuneCountInString(s); !ok || n < 1 || n > most {
		m.fail(name, "not a string of 1 to "+strconv.Itoa(most)+" characters")
	}
}

func (m *members) seconds(name string, required bool) {
	raw, given := m.raw[name]
	if !given && !required {
		return
	}
	if _, err := strconv.ParseUint(string(raw), 10, 32); err != nil {
		m.fail(name, "not an integer from 0 to 4294967295")
	}
}

// payload checks what goes along with a command: an object that becomes part of
// the one that has its command_type.
func (m *members) payload(name string) {
	raw, given := m.raw[name]
	if !given {
		return
	}
	var inside map[string]json.RawMessage
	if json.Unmarshal(raw, &inside) != nil || inside == nil {
		m.fail(name, "not an object")
	} else if _, has := inside["command_type"]; has {
		m.fail(name, "has a command_type, which stands beside it")
	} else if levels(raw) > maxLevels-1 {
		m.fail(name, "more than "+strconv.Itoa(maxLevels-1)+" levels")
	}
}

func (m *members) expiry(name string, now int64) int64 {
	raw, given := m.raw[name]
	if !given {
		return 0
	}
	at, err := strconv.ParseUint(string(raw), 10, 63)
	if err != nil {
		m.fail(name, "not Unix milliseconds")
	} else if at != 0 && int64(at) <= now && m.bad == nil {
		m.bad = &badFrame{"expired", name + ": has passed"}
	}
	return int64(at)
}

func digits(s string, most int) bool {
	if len(s) < 1 || len(s) > most {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// validUUID reports whether s is 36 characters, lower case, with hyphens.
func validUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch b := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if b != '-' {
				return false
			}
		case (b < '0' || b > '9') && (b < 'a' || b > 'f'):
			return false
		}
	}
	return true
}

// printable reports whether s is 1 to most printable characters, as the bridge
// asks of opaque ids: of the spaces only U+0020 is one.
func printable(s string, most int) bool {
	n := utf8.RuneCountInString(s)
	return n >= 1 && n <= most && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError })
}
