package bridge

import (
	"errors"
	"strconv"
	"unicode"
	"unicode/utf8"
)

const (
	maxPayload = 32 << 10 // bytes of a payload as PubNub delivers it
	maxLevels  = 32       // arrays and objects around a value, the body itself included
	maxSeconds = 1<<32 - 1
)

// eventType is what a body says it is.
type eventType uint8

const (
	noType eventType = iota
	watchlistUpdate
	progressUpdate
	deviceHandoff
	deviceCommand
	deviceHeartbeat
)

// parseType accepts the lower-case names and the same in upper case.
func parseType(name []byte) eventType {
	switch string(name) {
	case "watchlist_update", "WATCHLIST_UPDATE":
		return watchlistUpdate
	case "progress_update", "PROGRESS_UPDATE":
		return progressUpdate
	case "device_handoff", "DEVICE_HANDOFF":
		return deviceHandoff
	case "device_command", "DEVICE_COMMAND":
		return deviceCommand
	case "device_heartbeat", "DEVICE_HEARTBEAT":
		return deviceHeartbeat
	}
	return noType
}

// on is the feed that carries the type.
func (t eventType) on() feed {
	if t == deviceCommand || t == deviceHeartbeat {
		return deviceFeed
	}
	return syncFeed
}

// body is a payload's members as written, nil where absent. Of members with
// equal names the last counts, as in encoding/json; unlike there, names are
// compared with regard to case.
type body struct {
	kind, operation, contentID, uniqueTag, timestamp, deviceID,
	position, duration, target, command, expires []byte
}

// checkPayload holds a payload against what must be true of every one: at most
// 32 KiB, UTF-8, one JSON value of at most 32 levels, an object. A lone
// surrogate escape is UTF-8 and passes here.
func checkPayload(payload []byte) *refusal {
	switch {
	case len(payload) > maxPayload:
		return refuse(TooLarge, "payload: more than 32 KiB")
	case !utf8.Valid(payload):
		return refuse(NotJSON, "payload: not UTF-8")
	}
	at := skipSpace(payload, 0)
	if at < len(payload) && payload[at] == '{' {
		return nil // the members are checked as they are read
	}
	end, err := skipValue(payload, at, maxLevels)
	if r := checkEnd(payload, end, err); r != nil {
		return r
	}
	return refuse(NotObject, "payload: not an object")
}

// checkEnd tells what is wrong with a payload whose one value was read up to end.
func checkEnd(payload []byte, end int, err error) *refusal {
	switch {
	case errors.Is(err, errDepth):
		return refuse(TooDeep, "payload: more than 32 levels")
	case err != nil:
		return refuse(NotJSON, "payload: not JSON")
	case skipSpace(payload, end) != len(payload):
		return refuse(NotJSON, "payload: more than one JSON value")
	}
	return nil
}

// parseBody reads the members of a payload that checkPayload let pass.
func parseBody(payload []byte) (body, *refusal) {
	var b body
	m := newMembers(payload, skipSpace(payload, 0), maxLevels-1)
	for {
		name, value, ok := m.next()
		if !ok {
			break
		}
		switch string(name) {
		case "type":
			b.kind = value
		case "operation":
			b.operation = value
		case "content_id":
			b.contentID = value
		case "unique_tag":
			b.uniqueTag = value
		case "timestamp":
			b.timestamp = value
		case "device_id":
			b.deviceID = value
		case "position_seconds":
			b.position = value
		case "duration_seconds":
			b.duration = value
		case "target_device_id":
			b.target = value
		case "command":
			b.command = value
		case "expires_at":
			b.expires = value
		}
	}
	return b, checkEnd(payload, m.at, m.err)
}

// text is a JSON string: the inside of its literal, and what it stands for.
type text struct {
	lit, val []byte
	lone     bool // the literal escapes half a surrogate pair
}

// parseText reads a JSON value as a string.
func parseText(value []byte) (text, bool) {
	if value[0] != '"' {
		return text{}, false
	}
	lit := value[1 : len(value)-1]
	for _, c := range lit {
		if c == '\\' {
			val, lone := unescape(nil, lit)
			return text{lit, val, lone}, true
		}
	}
	return text{lit: lit, val: lit}, true
}

// append appends the inside of a literal for t: with no needless escapes, but
// as written where it holds half a surrogate pair, which nothing else spells.
func (t text) append(dst []byte) []byte {
	if t.lone || len(t.lit) == len(t.val) {
		return append(dst, t.lit...)
	}
	return appendEscaped(dst, t.val)
}

// within reports whether t has at least one and at most limit characters. Half
// a surrogate pair counts as one.
func (t text) within(limit int) bool {
	n := utf8.RuneCount(t.val)
	return 1 <= n && n <= limit
}

// printable reports whether t is 1 to 128 printable characters; the only space
// among those is U+0020, and that only if spaces is set.
func (t text) printable(spaces bool) bool {
	if t.lone || !t.within(128) {
		return false
	}
	for i := 0; i < len(t.val); {
		r, n := utf8.DecodeRune(t.val[i:])
		if !unicode.IsPrint(r) || r == ' ' && !spaces {
			return false
		}
		i += n
	}
	return true
}

// rules are the settings under which bodies are judged.
type rules struct {
	opaque bool // ids are any printable text, not only UUIDs
}

// id reads a required content or target device id.
func (r rules) id(name string, value []byte) (text, *refusal) {
	if value == nil {
		return text{}, refuse(MissingField, name)
	}
	t, ok := parseText(value)
	switch {
	case r.opaque && ok && t.printable(true), ok && !t.lone && isUUID(t.val):
		return t, nil
	case r.opaque:
		return text{}, refuse(BadID, name+": not 1 to 128 printable characters")
	}
	return text{}, refuse(BadID, name+": not a UUID in lower case")
}

// device reads a device_id: nil is no device unless it is required.
func (b *body) device(required bool) (text, *refusal) {
	if b.deviceID == nil {
		if required {
			return text{}, refuse(MissingField, "device_id")
		}
		return text{}, nil
	}
	if t, ok := parseText(b.deviceID); ok && t.printable(false) {
		return t, nil
	}
	return text{}, refuse(BadID, "device_id: not 1 to 128 printable characters without spaces")
}

// short reads a required string of 1 to limit characters.
func short(name string, value []byte, limit int, bad Reason) (text, *refusal) {
	if value == nil {
		return text{}, refuse(MissingField, name)
	}
	if t, ok := parseText(value); ok && t.within(limit) {
		return t, nil
	}
	return text{}, refuse(bad, name+": not 1 to "+strconv.Itoa(limit)+" characters")
}

// stamp reads the required timestamp and returns the publisher's characters.
func (b *body) stamp() ([]byte, *refusal) {
	if b.timestamp == nil {
		return nil, refuse(MissingField, "timestamp")
	}
	digits := b.timestamp
	if t, ok := parseText(b.timestamp); ok {
		digits = t.val
		if isStamp(digits) {
			return digits, nil
		}
	}
	if len(digits) == 0 || len(digits) > 20 || skipDigits(digits, 0) != len(digits) {
		return nil, refuse(BadTimestamp, "timestamp: neither 1 to 20 digits nor 16 hex digits in lower case")
	}
	return digits, nil
}

// isStamp reports whether s has the text form of a hybrid logical clock.
func isStamp(s []byte) bool {
	if len(s) != 16 {
		return false
	}
	for _, c := range s {
		if !isDigit(c) && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// number reads an integer from 0 to limit, written with digits only.
func number(name string, value []byte, limit uint64) (uint64, *refusal) {
	var n uint64
	ok := skipDigits(value, 0) == len(value) && len(value) <= 19
	if ok {
		for _, c := range value {
			n = n*10 + uint64(c-'0')
		}
		ok = n <= limit
	}
	if !ok {
		return 0, refuse(BadNumber, name+": not an integer from 0 to "+strconv.FormatUint(limit, 10))
	}
	return n, nil
}

// seconds checks a position or a duration; nil passes unless it is required.
func seconds(name string, value []byte, required bool) *refusal {
	if value == nil {
		if required {
			return refuse(MissingField, name)
		}
		return nil
	}
	_, r := number(name, value, maxSeconds)
	return r
}
