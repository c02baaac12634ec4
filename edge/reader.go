package edge

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
)

// Limits of what a device sends. Control frames are free of the message rate,
// and have a limit so generous that only an attack meets it: acknowledging each
// event of a deep replay stays below.
const (
	messageBurst = 200
	controlRate  = 2000
	controlBurst = 10000
	excessTime   = 10 * time.Second
)

// read is the connection's reader. It is the only goroutine of one that is quiet,
// or there is none and the poller starts the reader again. The connection ends
// when it does.
func (c *conn) read() {
	if c.readOn() {
		c.server.finished(c)
	}
}

// readOn reads until the connection ends, or reports false when the poller is to
// say when there is more.
func (c *conn) readOn() (ended bool) {
	for {
		// No context: a cancelled one would cut the connection before its close
		// frame is sent. What ends a read is the socket.
		typ, r, err := c.ws.Reader(context.Background())
		switch {
		case err == nil:
		case errors.Is(err, errParked) && c.park():
			return false
		case errors.Is(err, errParked):
			continue
		default:
			c.readFailed(err)
			return true
		}
		if typ == websocket.MessageBinary {
			c.refuse(codeUnsupported, "binary")
			c.discard(r)
			return true
		}
		m := messages.Get().(*message)
		err = m.read(r, c.server.cfg.MaxMessageBytes)
		switch {
		case err == errTooBig:
			c.refuse(codeTooBig, "too_big")
		case err != nil:
			c.readFailed(err)
			r = nil
		case !utf8.Valid(m.bytes):
			c.refuse(codeInvalidUTF8, "utf8")
		default:
			c.present()
			c.wire.hold()
			c.take(m.bytes)
			c.wire.unhold()
		}
		m.give()
		if c.ending.Load() != 0 {
			if r != nil {
				c.discard(r)
			}
			return true
		}
	}
}

// refuse closes for a frame that breaks the rules, and counts it.
func (c *conn) refuse(code int, what string) {
	c.server.metrics.bad(what)
	c.close(code, what)
}

// readFailed ends the connection for what the library could not read: the
// device has gone, or does not speak WebSocket.
func (c *conn) readFailed(err error) {
	if websocket.CloseStatus(err) != -1 {
		c.close(codeClosedByDevice, "")
		return
	}
	var netErr net.Error
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) ||
		errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.ECONNRESET) || errors.As(err, &netErr) {
		c.close(codeCut, "read: "+err.Error())
		return
	}
	c.refuse(codeProtocolError, "protocol")
	io.Copy(io.Discard, c.wire) // until the leave has been taken; its deadline ends this
}

// discard reads on until the leave has been taken, so that the kernel does not
// answer unread bytes with a reset that overtakes the close frame.
func (c *conn) discard(r io.Reader) {
	for {
		if _, err := io.Copy(io.Discard, r); err != nil {
			return
		}
		var err error
		if _, r, err = c.ws.Reader(context.Background()); err != nil {
			return
		}
	}
}

// present keeps that the device is there. It costs a look-up, but for once in a
// quarter of a minute.
func (c *conn) present() {
	if log := c.server.cfg.Log; log != nil {
		log.Seen(c.user, c.device)
	}
}

// pinged is what the library calls for a ping. The writer answers the last one.
func (c *conn) pinged(_ context.Context, payload []byte) bool {
	c.present()
	if c.slow(&c.controls, controlRate, controlBurst) {
		c.mu.Lock()
		c.ping = append(c.ping[:0], payload...)
		c.mu.Unlock()
		c.signal(sayPong)
	}
	return false
}

func (c *conn) ponged(context.Context, []byte) {
	c.present()
	c.server.arrivals.heard(c)
	c.slow(&c.controls, controlRate, controlBurst)
}

// slow holds the reader for as long as the bucket says, and closes what goes on
// too fast for too long. It reports false when the connection is ending.
func (c *conn) slow(b *bucket, rate, burst float64) bool {
	wait, excess := b.take(c.server.elapsed(), rate, burst)
	if wait == 0 {
		return true
	}
	if excess >= excessTime {
		c.close(codeTooMany, "too many messages")
		return false
	}
	select {
	case <-time.After(wait):
		return true
	case <-c.gone:
		return false
	}
}

// reply sends a frame of the reader's. It waits for the socket: a device that
// does not read its answers is not read from.
func (c *conn) reply(payload []byte) {
	select {
	case <-c.welcomed:
	case <-c.gone:
		return
	}
	b := takeOutbox()
	defer b.give()
	b.bytes = appendFrame(b.bytes, opText, payload)
	if err := c.wire.send(b.bytes); err != nil {
		c.sendFailed(err)
	}
}
