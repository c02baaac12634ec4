package edge

import (
	"errors"
	"io"
	"sync"
)

// message is a message in the making. Messages are pooled: a quiet connection
// has none.
type message struct{ bytes []byte }

var messages = sync.Pool{New: func() any { return &message{make([]byte, 0, 1<<10)} }}

var errTooBig = errors.New("edge: message too big")

// read reads r to its end, errTooBig after limit bytes.
func (m *message) read(r io.Reader, limit int) error {
	for {
		if len(m.bytes) == cap(m.bytes) {
			m.bytes = append(m.bytes, 0)[:len(m.bytes)]
		}
		n, err := r.Read(m.bytes[len(m.bytes):cap(m.bytes)])
		m.bytes = m.bytes[:len(m.bytes)+n]
		if len(m.bytes) > limit {
			return errTooBig
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (m *message) give() {
	if cap(m.bytes) <= 64<<10 {
		m.bytes = m.bytes[:0]
		messages.Put(m)
	}
}
