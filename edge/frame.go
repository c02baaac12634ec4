package edge

import (
	"encoding/binary"
)

// Opcodes of RFC 6455 section 5.2 with the final bit set, as a server sends
// them: unmasked and never in fragments.
const (
	opText  = 0x1
	opClose = 0x8
	opPing  = 0x9
	opPong  = 0xa

	final = 0x80
)

// appendFrame appends payload as one unmasked frame, RFC 6455 section 5.2.
func appendFrame(dst []byte, op byte, payload []byte) []byte {
	dst = append(dst, final|op)
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, byte(n))
	case n < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, 126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, 127), uint64(n))
	}
	return append(dst, payload...)
}

// appendClose appends the payload of a close frame, RFC 6455 section 5.5.1.
func appendClose(dst []byte, code int, reason string) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(code)), reason[:min(len(reason), 123)]...)
}

// frameLen is the length of the unmasked frame with which b begins; false when
// b does not hold its header.
func frameLen(b []byte) (int, bool) {
	if len(b) < 2 {
		return 0, false
	}
	switch n := int(b[1] & 0x7f); {
	case n < 126:
		return 2 + n, true
	case n == 126 && len(b) >= 4:
		return 4 + int(binary.BigEndian.Uint16(b[2:])), true
	case n == 127 && len(b) >= 10:
		return 10 + int(binary.BigEndian.Uint64(b[2:])), true
	}
	return 0, false
}

// frameEnd is the first end of a frame in b, which holds whole frames, at or
// after offset.
func frameEnd(b []byte, offset int) int {
	end := 0
	for end < offset {
		n, ok := frameLen(b[end:])
		if !ok {
			return len(b)
		}
		end += n
	}
	return min(end, len(b))
}
