package edge

import (
	"strconv"

	"reprise/hlc"
	"reprise/stream"
)

// The frames that the edge itself says. Events are not among them: those come
// finished from the log.

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string without escaping for HTML. s is valid
// UTF-8.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := range len(s) {
		switch b := s[i]; {
		case b == '"' || b == '\\':
			dst = append(dst, '\\', b)
		case b < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[b>>4], hexDigits[b&15])
		default:
			dst = append(dst, b)
		}
	}
	return append(dst, '"')
}

func appendHlc(dst []byte, at hlc.Timestamp) []byte {
	return append(at.AppendTo(append(dst, '"')), '"')
}

// welcome is what a device is told first.
type welcome struct {
	connection, user, device, node string
	serverTime                     int64 // Unix ms
	pingMS, idleMS                 int64
	since                          hlc.Timestamp
	reason                         stream.Reason
}

func appendWelcome(dst []byte, w welcome) []byte {
	dst = appendString(append(dst, `{"type":"welcome","connection_id":`...), w.connection)
	dst = appendString(append(dst, `,"user_id":`...), w.user)
	dst = appendString(append(dst, `,"device_id":`...), w.device)
	dst = appendString(append(dst, `,"node":`...), w.node)
	dst = strconv.AppendInt(append(dst, `,"server_time":`...), w.serverTime, 10)
	dst = strconv.AppendInt(append(dst, `,"ping_interval_ms":`...), w.pingMS, 10)
	dst = strconv.AppendInt(append(dst, `,"idle_timeout_ms":`...), w.idleMS, 10)
	dst = appendHlc(append(dst, `,"resume":{"since":`...), w.since)
	if w.reason == stream.Complete {
		return append(dst, `,"complete":true}}`...)
	}
	dst = appendString(append(dst, `,"complete":false,"reason":`...), string(w.reason))
	return append(dst, `}}`...)
}

func appendSnapshot(dst []byte, s *stream.Snapshot) []byte {
	dst = appendHlc(append(dst, `{"type":"snapshot","hlc":`...), s.Hlc)
	dst = append(append(dst, `,"watchlist":`...), s.Watchlist...)
	return append(append(append(dst, `,"progress":`...), s.Progress...), '}')
}

func appendCaughtUp(dst []byte, at hlc.Timestamp, replayed int) []byte {
	dst = appendHlc(append(dst, `{"type":"caught_up","hlc":`...), at)
	dst = strconv.AppendInt(append(dst, `,"replayed":`...), int64(replayed), 10)
	return append(dst, '}')
}

func appendPosition(dst []byte, at hlc.Timestamp) []byte {
	return append(appendHlc(append(dst, `{"type":"position","hlc":`...), at), '}')
}

func appendReconnect(dst []byte, afterMS int64) []byte {
	dst = strconv.AppendInt(append(dst, `{"type":"reconnect","after_ms":`...), afterMS, 10)
	return append(dst, `,"reason":"drain"}`...)
}

func appendExpiring(dst []byte, inMS int64) []byte {
	dst = strconv.AppendInt(append(dst, `{"type":"token_expiring","in_ms":`...), inMS, 10)
	return append(dst, '}')
}

func appendPong(dst []byte) []byte { return append(dst, `{"type":"pong"}`...) }

// appendAccepted answers an update that is stored.
func appendAccepted(dst []byte, id string) []byte {
	return append(appendString(append(dst, `{"type":"accepted","id":`...), id), '}')
}

// appendError answers a frame. id is left out where the frame had none; it is
// the code that says whether the same frame may be taken later.
func appendError(dst []byte, id string, code, message string) []byte {
	dst = append(dst, `{"type":"error"`...)
	if id != "" {
		dst = appendString(append(dst, `,"id":`...), id)
	}
	dst = appendString(append(dst, `,"code":`...), code)
	dst = appendString(append(dst, `,"message":`...), message)
	if code == "outbox_full" || code == "rate_limited" {
		return append(dst, `,"temporary":true}`...)
	}
	return append(dst, `,"temporary":false}`...)
}

// appendRefusal is the body of a handshake that is refused.
func appendRefusal(dst []byte, code, message string) []byte {
	dst = appendString(append(dst, `{"error":{"code":`...), code)
	dst = appendString(append(dst, `,"message":`...), message)
	return append(dst, `}}`...)
}
