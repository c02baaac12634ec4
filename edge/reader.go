package edge

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
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

// read is the connection's reader, its only goroutine while it is quiet. The
// connection ends when it does.
func (c *conn) read() {
	defer c.server.finished(c)
	for {
		// No context: a cancelled one would cut the connection before its close
		// frame is sent. What ends a read is the socket.
		typ, r, err := c.ws.Reader(context.Background())
		if err != nil {
			c.readFailed(err)
			return
		}
		if typ == websocket.MessageBinary {
			c.refuse(codeUnsupported, "binary")
			c.discard(r)
			return
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
			c.take(m.bytes)
		}
		m.give()
		if c.ending.Load() != 0 {
			if r != nil {
				c.discard(r)
			}
			return
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

// pinged is what the library calls for a ping. The writer answers the last one.
func (c *conn) pinged(_ context.Context, payload []byte) bool {
	if c.slow(&c.controls, controlRate, controlBurst) {
		c.mu.Lock()
		c.ping = append(c.ping[:0], payload...)
		c.mu.Unlock()
		c.signal(sayPong)
	}
	return false
}

func (c *conn) ponged(context.Context, []byte) { c.slow(&c.controls, controlRate, controlBurst) }

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

// take acts on one message of the device.
func (c *conn) take(text []byte) {
	f, bad := parseFrame(text, c.server.cfg.OpaqueIDs, time.Now().UnixMilli())
	free := bad == nil && (f.kind == frameAck || f.kind == framePing || f.kind == frameHeartbeat)
	if free {
		if !c.slow(&c.controls, controlRate, controlBurst) {
			return
		}
	} else if !c.slow(&c.messages, c.server.cfg.MessageRate, messageBurst) {
		return
	}
	if bad != nil {
		c.answerBad(f.id, bad)
		return
	}
	switch f.kind {
	case framePing:
		c.reply(appendPong(nil))
	case frameHeartbeat: // a sign of life, as any byte
	case frameAck:
		c.ack(f)
	case frameToken:
		c.renew(f.token)
	default:
		c.answerBad(f.id, &badFrame{"read_only", "updates from devices are not taken here"})
	}
}

func (c *conn) answerBad(id string, bad *badFrame) {
	c.server.metrics.bad(bad.code)
	c.reply(appendError(nil, id, bad.code, bad.message))
}

// ack keeps what the device says that it has. One that is not ahead of the last
// is stale, and ignored.
func (c *conn) ack(f deviceFrame) {
	if uint64(f.hlc) > c.told.Load() {
		c.answerBad("", &badFrame{"bad_field", "hlc: above what was sent"})
		return
	}
	if f.hlc <= c.acked {
		return
	}
	c.acked = f.hlc
	c.server.cursors.ack(c.user, c.device, f.hlc)
}

// renew takes a fresh token. A bad one ends the connection, after saying why:
// nothing good can come from that device until it has another.
func (c *conn) renew(token string) {
	authenticate := c.server.cfg.Authenticate
	if authenticate == nil {
		return
	}
	user, device, expires, err := authenticate(token)
	if err != nil || user != c.user || device != "" && device != c.device ||
		!expires.IsZero() && !time.Now().Before(expires) {
		c.answerBad("", &badFrame{"bad_token", "the token is not valid for this connection"})
		c.close(codeBadToken, "bad token")
		return
	}
	c.expires.Store(unixMilli(expires))
	c.server.wheel.schedule(c, c.server.elapsed())
}

func unixMilli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// printable reports whether s is 1 to most printable characters without spaces.
func printable(s string, most int) bool {
	n := utf8.RuneCountInString(s)
	return n >= 1 && n <= most && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == utf8.RuneError })
}
