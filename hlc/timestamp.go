package hlc

import (
	"errors"
	"fmt"
	"time"
)

// Timestamp is a hybrid logical time: physical Unix time in milliseconds in
// the high 48 bits, a logical counter in the low 16. Timestamps compare as
// numbers, and their text compares as text in the same order.
type Timestamp uint64

// Zero is before everything.
const Zero Timestamp = 0

const (
	counterBits = 16
	maxMillis   = 1<<48 - 1
	textLen     = 16
)

// New returns the timestamp of ms, Unix milliseconds, and counter. An ms
// before 1970 becomes 0, one that does not fit 48 bits (the year 10889) the
// greatest that does.
func New(ms int64, counter uint16) Timestamp {
	ms = min(max(ms, 0), maxMillis)
	return Timestamp(ms)<<counterBits | Timestamp(counter)
}

// errText is the one way in which a text is not a timestamp.
var errText = errors.New("want 16 lower-case hex digits")

// Parse reads a timestamp's text form: exactly 16 lower-case hex digits.
func Parse(s string) (Timestamp, error) { return parse(s) }

// ParseBytes is Parse for bytes. It does not allocate unless it fails.
func ParseBytes(b []byte) (Timestamp, error) { return parse(b) }

func parse[T string | []byte](s T) (Timestamp, error) {
	if len(s) != textLen {
		return Zero, fmt.Errorf("hlc: %d characters, %w", len(s), errText)
	}
	var t Timestamp
	for i := 0; i < textLen; i++ {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			t = t<<4 | Timestamp(c-'0')
		case c >= 'a' && c <= 'f':
			t = t<<4 | Timestamp(c-'a'+10)
		default:
			return Zero, fmt.Errorf("hlc: %q at %d, %w", c, i, errText)
		}
	}
	return t, nil
}

// String is the text form, 16 lower-case hex digits.
func (t Timestamp) String() string {
	var b [textLen]byte
	return string(t.AppendTo(b[:0]))
}

// AppendTo appends the text form to dst.
func (t Timestamp) AppendTo(dst []byte) []byte {
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, digits[t>>shift&0xf])
	}
	return dst
}

// AppendText implements encoding.TextAppender.
func (t Timestamp) AppendText(dst []byte) ([]byte, error) { return t.AppendTo(dst), nil }

// MarshalText implements encoding.TextMarshaler.
func (t Timestamp) MarshalText() ([]byte, error) { return t.AppendTo(nil), nil }

// UnmarshalText implements encoding.TextUnmarshaler. On an error t keeps its value.
func (t *Timestamp) UnmarshalText(text []byte) error {
	v, err := ParseBytes(text)
	if err == nil {
		*t = v
	}
	return err
}

// Millis is the physical part, Unix milliseconds.
func (t Timestamp) Millis() int64 { return int64(t >> counterBits) }

// Counter is the logical part.
func (t Timestamp) Counter() uint16 { return uint16(t) }

// Time is the physical part as a time in UTC.
func (t Timestamp) Time() time.Time { return time.UnixMilli(t.Millis()).UTC() }
