package edge

import "encoding/binary"

// inbound follows the frames that a device sends, RFC 6455 section 5.2, to know
// where one message ends and the next has not begun.
type inbound struct {
	left  uint64   // bytes of the payload that are still to come
	head  [14]byte // of the frame that has begun
	n     uint8    // bytes of head
	parts bool     // a message in fragments has begun
}

// between reports whether the device is between two messages.
func (in *inbound) between() bool { return in.left == 0 && in.n == 0 && !in.parts }

// track takes what has been read.
func (in *inbound) track(b []byte) {
	for len(b) > 0 {
		if in.left > 0 {
			n := min(in.left, uint64(len(b)))
			in.left -= n
			b = b[n:]
			continue
		}
		in.head[in.n] = b[0]
		in.n++
		b = b[1:]
		if int(in.n) < in.headLen() {
			continue
		}
		if op := in.head[0] & 0x0f; op < opClose {
			in.parts = in.head[0]&final == 0
		}
		switch n := in.head[1] & 0x7f; n {
		case 126:
			in.left = uint64(binary.BigEndian.Uint16(in.head[2:]))
		case 127:
			in.left = binary.BigEndian.Uint64(in.head[2:])
		default:
			in.left = uint64(n)
		}
		in.n = 0
	}
}

// headLen is the length of the header that has begun, as far as that is known.
func (in *inbound) headLen() int {
	if in.n < 2 {
		return 2
	}
	n := 2
	switch in.head[1] & 0x7f {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if in.head[1]&0x80 != 0 {
		n += 4
	}
	return n
}
