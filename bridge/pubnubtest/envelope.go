package pubnubtest

import (
	"encoding/json"
	"strconv"
)

// A fieldSet names optional envelope fields.
type fieldSet uint8

const (
	fieldI fieldSet = 1 << iota
	fieldS
	fieldB
	fieldE
	fieldU
	fieldCMT
	always fieldSet = 0
)

// An extraField replaces or adds a field; an empty raw removes it.
type extraField struct{ name, raw string }

// An entry is one copy of a message for one subscriber.
type entry struct {
	*message
	match *topic // what of the subscription matched: b
}

// A page is the content of one subscribe reply.
type page struct {
	cursor  int64
	region  int
	entries []entry
	bend    Kind // how the reply is to differ from a good one; "" is not at all
}

// encode returns the reply's body.
func (p page) encode(subscribeKey string) []byte {
	size := 64
	for _, e := range p.entries {
		size += len(e.payload) + len(e.meta) + 256
	}
	b := append(make([]byte, 0, size), `{"t":{"t":`...)
	switch p.bend {
	case NumberCursor:
		b = strconv.AppendInt(b, p.cursor, 10)
	case ZeroCursor:
		b = append(b, `"0"`...)
	default:
		b = appendQuotedInt(b, p.cursor)
	}
	b = append(b, `,"r":`...)
	b = strconv.AppendInt(b, int64(p.region), 10)
	b = append(b, `},"m":[`...)
	for i, e := range p.entries {
		if i > 0 {
			b = append(b, ',')
		}
		b = e.appendTo(b, subscribeKey, p.bend)
	}
	return append(b, `]}`...)
}

// appendTo appends the envelope of one message.
func (e entry) appendTo(b []byte, subscribeKey string, bend Kind) []byte {
	w := envelope{b: append(b, '{'), m: e.message}
	if w.field("a", always) {
		w.b = append(w.b, '"', '0'+byte(len(e.ch.name)%6), '"')
	}
	if w.field("f", always) {
		w.b = append(w.b, '0')
	}
	if e.kind != 0 && w.field("e", fieldE) {
		w.b = strconv.AppendInt(w.b, int64(e.kind), 10)
	}
	if e.uuid != "" && w.field("i", fieldI) {
		w.b = appendQuoted(w.b, e.uuid)
	}
	if (e.sequence != 0 || bend == StringSequence) && w.field("s", fieldS) {
		if bend == StringSequence {
			w.b = appendQuotedInt(w.b, int64(e.sequence))
		} else {
			w.b = strconv.AppendInt(w.b, int64(e.sequence), 10)
		}
	}
	if w.field("p", always) {
		w.b = append(w.b, `{"t":`...)
		w.b = appendQuotedInt(w.b, e.timetoken)
		w.b = append(w.b, `,"r":`...)
		w.b = strconv.AppendInt(w.b, int64(e.region), 10)
		w.b = append(w.b, '}')
	}
	if w.field("k", always) {
		w.b = appendQuoted(w.b, subscribeKey)
	}
	if w.field("c", always) {
		w.b = append(w.b, e.ch.quoted...)
	}
	if len(e.meta) > 0 && w.field("u", fieldU) {
		w.b = append(w.b, e.meta...)
	}
	if e.custom != "" && w.field("cmt", fieldCMT) {
		w.b = appendQuoted(w.b, e.custom)
	}
	if w.field("d", always) {
		w.b = append(w.b, e.payload...)
	}
	if w.field("b", fieldB) {
		w.b = append(w.b, e.match.quoted...)
	}
	for _, x := range e.extra {
		if x.raw != "" && !w.written(x.name) {
			w.name(x.name)
			w.b = append(w.b, x.raw...)
		}
	}
	return append(w.b, '}')
}

// An envelope is a JSON object under construction.
type envelope struct {
	b     []byte
	m     *message
	wrote []string // names of extra fields that took an ordinary one's place
	open  bool     // a field has been written
}

// field begins the field of that name and reports whether its value is still
// to be written: not if the message leaves it out or has its own.
func (w *envelope) field(name string, bit fieldSet) bool {
	if w.m.omit&bit != 0 {
		return false
	}
	for _, x := range w.m.extra {
		if x.name == name {
			w.wrote = append(w.wrote, name)
			if x.raw != "" {
				w.name(name)
				w.b = append(w.b, x.raw...)
			}
			return false
		}
	}
	w.name(name)
	return true
}

func (w *envelope) name(name string) {
	if w.open {
		w.b = append(w.b, ',')
	}
	w.open = true
	w.b = append(w.b, '"')
	w.b = append(w.b, name...)
	w.b = append(w.b, '"', ':')
}

func (w *envelope) written(name string) bool {
	for _, n := range w.wrote {
		if n == name {
			return true
		}
	}
	return false
}

func appendQuotedInt(b []byte, n int64) []byte {
	b = append(b, '"')
	b = strconv.AppendInt(b, n, 10)
	return append(b, '"')
}

// appendQuoted appends s as a JSON string.
func appendQuoted(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return append(b, quote(s)...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// quote returns s as a JSON string.
func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil { // strings always marshal
		return `""`
	}
	return string(b)
}
