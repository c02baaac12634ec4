package edge

import (
	"bytes"
	"encoding/json"
	"strconv"

	"reprise/hlc"
)

// Bounds of what may be published, as the bridge holds it to them when it comes
// back. What is over them is refused here, where the device can be told.
const (
	maxBody   = 32 << 10 // bytes
	maxLevels = 32       // objects and arrays around a value, the body itself included
)

// updates is what is published of each update: its type and, in this order, its
// members. See section 2 of the protocol.
var updates = [...]struct {
	kind    string
	members []string
}{
	frameWatchlist: {"watchlist_update", []string{"operation", "content_id", "unique_tag", "timestamp", "device_id"}},
	frameProgress:  {"progress_update", []string{"content_id", "position_seconds", "timestamp", "device_id", "duration_seconds"}},
	frameCommand:   {"device_command", []string{"target_device_id", "command", "timestamp", "device_id", "expires_at"}},
	frameHandoff:   {"device_handoff", []string{"target_device_id", "content_id", "timestamp", "position_seconds", "device_id"}},
}

// channel is where an update is published.
func (k frameKind) channel(user string) string {
	if k == frameCommand {
		return "user." + user + ".devices"
	}
	return "user." + user + ".sync"
}

// body is what is published of an update. Strings and numbers are the device's
// literals, so that nothing in them is lost, half a surrogate pair included. now
// is asked for a stamp where the device gave no timestamp.
func (f *deviceFrame) body(device string, now func() hlc.Timestamp) ([]byte, *badFrame) {
	u := &updates[f.kind]
	b := append(make([]byte, 0, 512), `{"type":"`...)
	b = append(append(b, u.kind...), '"')
	for _, name := range u.members {
		raw, given := f.raw[name]
		switch name {
		case "command":
			b = append(append(b, `,"command":{"command_type":`...), f.raw["command_type"]...)
			b = append(appendMembers(b, f.raw["payload"]), '}')
			continue
		case "timestamp":
			raw = timestamp(raw, now)
		case "device_id":
			raw = appendString(nil, device)
		case "expires_at":
			if f.expires == 0 {
				continue // never
			}
		default:
			if !given {
				continue
			}
		}
		b = append(append(append(b, `,"`...), name...), `":`...)
		b = append(b, raw...)
	}
	if b = append(b, '}'); len(b) > maxBody {
		return nil, &badFrame{"bad_field", "the update: " + strconv.Itoa(len(b)) + " bytes as it would be published, at most " + strconv.Itoa(maxBody) + " are possible"}
	}
	return b, nil
}

// timestamp is raw, the device's timestamp, as a string.
func timestamp(raw json.RawMessage, now func() hlc.Timestamp) json.RawMessage {
	switch {
	case raw == nil:
		return appendHlc(nil, now())
	case raw[0] == '"':
		return raw
	}
	return append(append(append(make(json.RawMessage, 0, 22), '"'), raw...), '"')
}

// appendMembers appends the members of payload, an object or nothing, each with
// a comma before it.
func appendMembers(dst []byte, payload json.RawMessage) []byte {
	var compact bytes.Buffer
	json.Compact(&compact, payload) // the payload of a parsed frame, or nothing
	if compact.Len() <= len(`{}`) {
		return dst
	}
	inside := compact.Bytes()[1 : compact.Len()-1]
	return append(append(dst, ','), inside...)
}

// levels is how deeply objects and arrays are nested in raw, which is JSON.
func levels(raw []byte) int {
	depth, deepest, quoted := 0, 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}
