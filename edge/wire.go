package edge

import (
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

var (
	errSlow   = errors.New("edge: no byte taken for too long")
	errClosed = errors.New("edge: close frame sent")
)

// partingTime is how long a close frame, and what must go before it, may take;
// and then again how long the device's answer is waited for.
const partingTime = time.Second

// wire is the connection below the WebSocket library. The library does the
// handshake and reads; what it writes (a close frame, as a rule) is let through
// as whole frames. All else is written here, by send, many frames in one system
// call: the library has no way to do that.
type wire struct {
	net.Conn

	// static after construction
	elapsed func() time.Duration
	slow    time.Duration

	raw      syscall.RawConn // of a socket from which a poller tells; nil is none
	early    []byte          // read by net/http before the upgrade; owned by the reader
	inbound  inbound         // what has been read; owned by the reader
	waits    atomic.Bool     // the reader is to wait in its read, though there is a poller
	lastRead atomic.Int64    // when a byte last came, on the server's clock; set by the reader
	parting  atomic.Int64    // Unix ns after which nothing is written; 0 is not yet

	unfinished []byte // a frame of the library's in the making; owned by its writer

	// guarded by mu, which is held while frames are written: it is what keeps
	// them whole. A write ends by its deadline.
	mu     sync.Mutex
	failed error  // what the first failed write returned; nothing but a leave follows
	rest   []byte // of the frame that it left in part
	closed bool   // a close frame was written
}

// Read implements net.Conn for the library. Any byte counts as a sign of life.
// Where there is a poller it returns errParked between two messages when there is
// nothing to read.
func (w *wire) Read(p []byte) (n int, err error) {
	switch {
	case len(w.early) > 0:
		n = copy(p, w.early)
		if w.early = w.early[n:]; len(w.early) == 0 {
			w.early = nil
		}
		w.inbound.track(p[:n])
		return n, nil
	case w.raw != nil && w.inbound.between() && !w.waits.Load():
		n, err = w.tryRead(p)
	default:
		n, err = w.Conn.Read(p)
	}
	if n > 0 {
		w.lastRead.Store(int64(w.elapsed()))
		w.inbound.track(p[:n])
	}
	return n, err
}

// held is a time that does not come.
const held = time.Duration(1 << 62)

// hold says that the reader is about to look away, to wait for the log as a
// rule. Until unhold the device does not count as silent: nobody would hear it.
func (w *wire) hold()   { w.lastRead.Store(int64(held)) }
func (w *wire) unhold() { w.lastRead.Store(int64(w.elapsed())) }

// Write implements net.Conn for the library, whose frames come in pieces.
func (w *wire) Write(p []byte) (int, error) {
	w.unfinished = append(w.unfinished, p...)
	end := 0
	for {
		n, ok := frameLen(w.unfinished[end:])
		if !ok || end+n > len(w.unfinished) {
			break
		}
		end += n
	}
	if end == 0 {
		return len(p), nil
	}
	frames := w.unfinished[:end]
	w.unfinished = w.unfinished[end:]
	if len(w.unfinished) == 0 {
		w.unfinished = nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.failed != nil {
		return len(p), nil
	}
	w.closed = frames[0]&0x0f == opClose
	return len(p), w.write(frames)
}

// send writes whole frames. It returns errSlow when the device took no byte for
// SlowTimeout, errClosed after a close frame, else the socket's error.
func (w *wire) send(frames []byte) error {
	if len(frames) == 0 {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return errClosed
	}
	if w.failed != nil {
		return w.failed
	}
	return w.write(frames)
}

// sendLast finishes a frame left in part and writes frames, the last of them a
// close frame, within partingTime of hurry. The reader is given as long again.
func (w *wire) sendLast(frames []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var err error
	if !w.closed {
		w.closed = true
		err = w.write(append(w.rest, frames...))
	}
	w.Conn.SetReadDeadline(time.Now().Add(partingTime))
	return err
}

// hurry ends every write, one under way included, within partingTime.
func (w *wire) hurry() {
	by := time.Now().Add(partingTime)
	w.parting.Store(by.UnixNano())
	w.Conn.SetWriteDeadline(by)
}

// write writes b, renewing the deadline as long as the socket takes some of it.
// The caller holds mu.
func (w *wire) write(b []byte) error {
	for done := 0; done < len(b); {
		w.Conn.SetWriteDeadline(time.Now().Add(w.slow))
		parting := w.parting.Load()
		if parting != 0 { // looked at after the deadline was set: hurry sets it after parting
			w.Conn.SetWriteDeadline(time.Unix(0, parting))
		}
		n, err := w.Conn.Write(b[done:])
		done += n
		if err == nil {
			continue
		}
		late := errors.Is(err, os.ErrDeadlineExceeded)
		if late && n > 0 && parting == 0 && w.parting.Load() == 0 {
			continue
		}
		if late {
			err = errSlow
		}
		w.failed, w.rest = err, slices.Clone(b[done:frameEnd(b, done)])
		return err
	}
	return nil
}
