package edge

import (
	"errors"
	"io"
	"net"
	"syscall"
)

// A connection from which nothing comes has no goroutine: its reader parks, and a
// poller starts it again when the socket has something. That is possible where
// the wire is a TCP socket and the system has a poller; elsewhere (TLS, a pipe in
// a test) the reader waits in its read.
//
// The library allows it by what it does in v1.8.15: an error of the transport
// that comes between two messages is returned by [websocket.Conn.Reader] as it
// is, and the next call reads on. TestReaderResumes pins that.

// errParked is what a parked reader's read returns.
var errParked = errors.New("edge: nothing to read")

// The states of a connection's reader.
const (
	readerRuns int32 = iota
	readerParked
)

// tryRead reads what is there, and returns errParked when nothing is.
func (w *wire) tryRead(p []byte) (n int, err error) {
	closed := w.raw.Read(func(fd uintptr) bool {
		for {
			if n, err = syscall.Read(int(fd), p); err != syscall.EINTR {
				return true
			}
		}
	})
	switch {
	case closed != nil:
		return 0, closed
	case err == syscall.EAGAIN:
		return 0, errParked
	case err != nil:
		return 0, &net.OpError{Op: "read", Net: "tcp", Err: err}
	case n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	return n, nil
}

// park leaves the connection to the poller. It reports false when the caller is
// the reader still.
func (c *conn) park() bool {
	c.reading.Store(readerParked)
	if c.ending.Load() != 0 || !c.server.poller.watch(c) {
		c.wire.waits.Store(true)
		return !c.unpark()
	}
	return true
}

// unpark makes the caller the reader if there is none.
func (c *conn) unpark() bool { return c.reading.CompareAndSwap(readerParked, readerRuns) }
