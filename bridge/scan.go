package bridge

import (
	"bytes"
	"errors"
	"unicode/utf16"
	"unicode/utf8"
)

// The scanner reads RFC 8259 JSON in one pass without building anything: a
// value is its bytes in the message. encoding/json is not used here because it
// matches keys without regard to case, gives up at 10,000 levels (a payload of
// 32 KiB holds 16,384) and would let one such payload spoil the whole reply.
// FuzzScan holds the two to the same language.

var (
	errSyntax = errors.New("not JSON")
	errDepth  = errors.New("nested too deeply")
)

// unlimited is a depth limit that no input reaches.
const unlimited = int(^uint(0) >> 1)

func skipSpace(data []byte, at int) int {
	for at < len(data) {
		switch data[at] {
		case ' ', '\t', '\n', '\r':
			at++
		default:
			return at
		}
	}
	return at
}

// skipValue returns the offset behind the value that begins at data[at],
// leading white space included. The value may have limit levels of arrays and
// objects; a scalar has none. It returns errSyntax or errDepth.
func skipValue(data []byte, at, limit int) (int, error) {
	var first [4]uint64 // a set bit is an object: 256 levels without the heap
	open := first[:]
	depth := 0
	for {
		at = skipSpace(data, at)
		if at >= len(data) {
			return at, errSyntax
		}
		var ok bool
		switch c := data[at]; c {
		case '{', '[':
			if depth == limit {
				return at, errDepth
			}
			if depth/64 == len(open) {
				open = append(open, 0)
			}
			bit := uint64(1) << (depth % 64)
			at = skipSpace(data, at+1)
			if at >= len(data) {
				return at, errSyntax
			}
			if c == '[' {
				open[depth/64] &^= bit
				ok = data[at] == ']'
			} else {
				open[depth/64] |= bit
				ok = data[at] == '}'
			}
			if ok {
				at++ // empty: a complete value
				break
			}
			depth++
			if c == '{' {
				if at = skipKey(data, at); at < 0 {
					return at, errSyntax
				}
			}
			continue
		case '"':
			if at = skipString(data, at); at < 0 {
				return at, errSyntax
			}
		case 't':
			at, ok = skipWord(data, at, "true")
			if !ok {
				return at, errSyntax
			}
		case 'f':
			at, ok = skipWord(data, at, "false")
			if !ok {
				return at, errSyntax
			}
		case 'n':
			at, ok = skipWord(data, at, "null")
			if !ok {
				return at, errSyntax
			}
		default:
			if at = skipNumber(data, at); at < 0 {
				return at, errSyntax
			}
		}
		// A value ends here: close what ends with it, or go on to its sibling.
		for {
			if depth == 0 {
				return at, nil
			}
			at = skipSpace(data, at)
			if at >= len(data) {
				return at, errSyntax
			}
			object := open[(depth-1)/64]&(1<<((depth-1)%64)) != 0
			c := data[at]
			at++
			if c == ',' {
				if object {
					if at = skipKey(data, skipSpace(data, at)); at < 0 {
						return at, errSyntax
					}
				}
				break
			}
			if object && c != '}' || !object && c != ']' {
				return at, errSyntax
			}
			depth--
		}
	}
}

// skipKey returns the offset behind a member's name and colon, or -1.
func skipKey(data []byte, at int) int {
	if at >= len(data) || data[at] != '"' {
		return -1
	}
	if at = skipString(data, at); at < 0 {
		return -1
	}
	at = skipSpace(data, at)
	if at >= len(data) || data[at] != ':' {
		return -1
	}
	return at + 1
}

// skipString returns the offset behind the string whose opening quote is at
// data[at], or -1.
func skipString(data []byte, at int) int {
	for at++; at < len(data); at++ {
		switch c := data[at]; {
		case c > '\\' || ' ' <= c && c != '"' && c != '\\': // nearly always
		case c == '"':
			return at + 1
		case c < ' ':
			return -1
		case c == '\\':
			at++
			if at >= len(data) {
				return -1
			}
			switch data[at] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				if _, ok := hex4(data, at+1); !ok {
					return -1
				}
				at += 4
			default:
				return -1
			}
		}
	}
	return -1
}

func skipWord(data []byte, at int, word string) (int, bool) {
	end := at + len(word)
	return end, end <= len(data) && string(data[at:end]) == word
}

// skipNumber returns the offset behind the number at data[at], or -1.
func skipNumber(data []byte, at int) int {
	if data[at] == '-' {
		at++
	}
	start := at
	if at = skipDigits(data, at); at == start || at > start+1 && data[start] == '0' {
		return -1
	}
	if at < len(data) && data[at] == '.' {
		start = at + 1
		if at = skipDigits(data, start); at == start {
			return -1
		}
	}
	if at < len(data) && (data[at] == 'e' || data[at] == 'E') {
		at++
		if at < len(data) && (data[at] == '+' || data[at] == '-') {
			at++
		}
		start = at
		if at = skipDigits(data, start); at == start {
			return -1
		}
	}
	return at
}

func skipDigits(data []byte, at int) int {
	for at < len(data) && isDigit(data[at]) {
		at++
	}
	return at
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func hex4(data []byte, at int) (rune, bool) {
	if at+4 > len(data) {
		return 0, false
	}
	var r rune
	for _, c := range data[at : at+4] {
		switch {
		case isDigit(c):
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// members walks the members of one object in the order written. Names come
// unescaped; values as written. After the walk err is nil, errSyntax or
// errDepth, and at is the offset behind the closing brace.
type members struct {
	data  []byte
	at    int
	limit int // levels that a member's value may have
	err   error

	inside bool
}

// newMembers starts behind the opening brace at data[at].
func newMembers(data []byte, at, limit int) members {
	return members{data: data, at: at + 1, limit: limit}
}

func (m *members) next() (name, value []byte, ok bool) {
	if name, ok = m.name(); !ok {
		return nil, nil, false
	}
	start := m.at
	end, err := skipValue(m.data, start, m.limit)
	if err != nil {
		m.err = err
		return nil, nil, false
	}
	m.at = end
	return name, m.data[start:end], true
}

// name is the first half of next: at is then where the value begins, if it is
// not the data's end. Who walks the value alone has to move at behind it.
func (m *members) name() (name []byte, ok bool) {
	m.at = skipSpace(m.data, m.at)
	if m.at >= len(m.data) {
		return m.fail()
	}
	c := m.data[m.at]
	if c == '}' {
		m.at++
		return nil, false
	}
	if m.inside {
		if c != ',' {
			return m.fail()
		}
		m.at = skipSpace(m.data, m.at+1)
	}
	m.inside = true
	if m.at >= len(m.data) || m.data[m.at] != '"' {
		return m.fail()
	}
	end := skipString(m.data, m.at)
	if end < 0 {
		return m.fail()
	}
	name = m.data[m.at+1 : end-1]
	if bytes.IndexByte(name, '\\') >= 0 {
		name, _ = unescape(nil, name)
	}
	if end = skipSpace(m.data, end); end >= len(m.data) || m.data[end] != ':' {
		return m.fail()
	}
	m.at = skipSpace(m.data, end+1)
	return name, true
}

func (m *members) fail() (name []byte, ok bool) {
	m.err = errSyntax
	return nil, false
}

// elements walks the elements of one array in the same manner.
type elements struct {
	data []byte
	at   int
	err  error

	inside bool
}

// newElements starts behind the opening bracket at data[at].
func newElements(data []byte, at int) elements { return elements{data: data, at: at + 1} }

func (e *elements) next() (value []byte, ok bool) {
	if !e.more() {
		return nil, false
	}
	start := e.at
	end, err := skipValue(e.data, start, unlimited)
	if err != nil {
		e.err = err
		return nil, false
	}
	e.at = end
	return e.data[start:end], true
}

// more is the first half of next, as name is of that of members.
func (e *elements) more() bool {
	e.at = skipSpace(e.data, e.at)
	if e.at >= len(e.data) {
		e.err = errSyntax
		return false
	}
	c := e.data[e.at]
	if c == ']' {
		e.at++
		return false
	}
	if e.inside {
		if c != ',' {
			e.err = errSyntax
			return false
		}
		e.at = skipSpace(e.data, e.at+1)
	}
	e.inside = true
	return true
}

// unescape appends the characters that a valid string literal (without its
// quotes) stands for. An escaped surrogate without its partner stands for no
// character; it becomes U+FFFD, as in encoding/json, and lone is true.
func unescape(dst, lit []byte) (out []byte, lone bool) {
	for i := 0; i < len(lit); {
		c := lit[i]
		if c != '\\' {
			dst = append(dst, c)
			i++
			continue
		}
		c = lit[i+1]
		i += 2
		switch c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r, _ := hex4(lit, i)
			i += 4
			if utf16.IsSurrogate(r) {
				low := rune(0)
				if i+1 < len(lit) && lit[i] == '\\' && lit[i+1] == 'u' {
					low, _ = hex4(lit, i+2)
				}
				if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
					lone = true
				} else {
					i += 6
				}
			}
			dst = utf8.AppendRune(dst, r)
			continue
		}
		dst = append(dst, c)
	}
	return dst, lone
}

// appendEscaped appends s as the inside of a string literal with no more
// escapes than RFC 8259 section 7 demands.
func appendEscaped(dst, s []byte) []byte {
	const digits = "0123456789abcdef"
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\b':
			dst = append(dst, '\\', 'b')
		case c == '\f':
			dst = append(dst, '\\', 'f')
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// appendCompact appends valid JSON without the white space between its tokens.
// Strings and numbers stay as written.
func appendCompact(dst, src []byte) []byte {
	from := 0
	for i := 0; i < len(src); {
		switch src[i] {
		case '"':
			i = skipString(src, i)
		case ' ', '\t', '\n', '\r':
			dst = append(dst, src[from:i]...)
			i = skipSpace(src, i)
			from = i
		default:
			i++
		}
	}
	return append(dst, src[from:]...)
}
