package e2e

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// A device is a WebSocket client that keeps its cursor, as any client must.
type device struct {
	run      *run
	user, id string
	echo     bool
	token    string // "" is none

	cursor string // what it would resume from; "" is nothing yet
}

func (r *run) device(user, id string) *device {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.users[user] = true
	return &device{run: r, user: user, id: id}
}

// A conn is one connection of a device, and what it has seen.
type conn struct {
	run    *run
	device *device
	ws     *websocket.Conn
	ended  chan struct{} // closed by the reading goroutine

	mu      sync.Mutex
	record  Connection           // guarded by mu
	changed chan struct{}        // guarded by mu; closed and replaced at each frame
	closed  websocket.StatusCode // guarded by mu; why it ended, -1 without a close frame
}

// connect opens a connection from since, or from the device's cursor if since is
// "cursor".
func (d *device) connect(since string) *conn {
	d.run.t.Helper()
	if since == "cursor" {
		since = d.cursor
	}
	more := ""
	if d.echo {
		more = "&echo=1"
	}
	options := &websocket.DialOptions{Subprotocols: []string{"reprise.v1"}}
	if d.token != "" {
		options.Subprotocols = append(options.Subprotocols, "bearer."+d.token)
	}
	var ws *websocket.Conn
	// An edge that has only just started answers 503 until it follows the log.
	d.run.relay.await("connection", func() bool {
		var resp *http.Response
		var err error
		ws, resp, err = websocket.Dial(within(d.run.t), d.run.relay.url(d.user, d.id, since, more), options)
		if err == nil || resp != nil && resp.StatusCode == http.StatusServiceUnavailable {
			return err == nil
		}
		d.run.t.Fatalf("connecting device %s from %q: %v", d.id, since, err)
		return false
	})
	if got := ws.Subprotocol(); got != "reprise.v1" {
		d.run.t.Errorf("subprotocol = %q, want reprise.v1", got)
	}
	ws.SetReadLimit(1 << 20)
	c := &conn{
		run: d.run, device: d, ws: ws, ended: make(chan struct{}), changed: make(chan struct{}),
		record: Connection{User: d.user, Device: d.id, Since: since, Echo: d.echo},
	}
	d.run.mu.Lock()
	d.run.conns = append(d.run.conns, c)
	d.run.mu.Unlock()
	go c.read()
	d.run.t.Cleanup(func() {
		ws.CloseNow()
		<-c.ended
	})
	return c
}

// read records every frame until the connection ends.
func (c *conn) read() {
	defer close(c.ended)
	for {
		_, text, err := c.ws.Read(context.Background())
		c.mu.Lock()
		if err == nil {
			c.record.Frames = append(c.record.Frames, Frame{At: time.Now().UnixNano(), Text: string(text)})
		} else {
			c.closed = websocket.CloseStatus(err)
			c.record.Cut = true
		}
		close(c.changed)
		c.changed = make(chan struct{})
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// await returns when the frames so far fulfil a condition.
func (c *conn) await(what string, done func([]Frame) bool) {
	c.run.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		// Outside the lock: looking at many frames must not keep others from coming.
		c.mu.Lock()
		frames, changed := c.record.Frames, c.changed
		c.mu.Unlock()
		if done(frames) {
			return
		}
		select {
		case <-changed:
			timer.Reset(patience)
		case <-c.ended:
			if !done(c.frames()) {
				c.run.t.Fatalf("device %s: the connection ended (%d) before %s", c.device.id, c.closed, what)
			}
			return
		case <-timer.C:
			c.run.t.Fatalf("device %s: no %s in %d frames, and no other for %v", c.device.id, what, len(frames), patience)
		}
	}
}

// caughtUp waits for caught_up and returns it.
func (c *conn) caughtUp() facts {
	c.run.t.Helper()
	c.await("caught_up", ofType("caught_up", 1))
	return c.first("caught_up")
}

// first is the first frame of a type that has arrived.
func (c *conn) first(kind string) facts {
	c.run.t.Helper()
	for _, f := range c.frames() {
		if x, err := parseFrame(f.Text); err == nil && x.Type == kind {
			return x
		}
	}
	c.run.t.Fatalf("device %s has no %s", c.device.id, kind)
	return facts{}
}

// frames is what has arrived so far.
func (c *conn) frames() []Frame {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.record.Frames)
}

// send sends a text frame.
func (c *conn) send(text string) {
	c.run.t.Helper()
	if err := c.ws.Write(within(c.run.t), websocket.MessageText, []byte(text)); err != nil {
		c.run.t.Fatalf("device %s: sending %s: %v", c.device.id, text, err)
	}
}

// cut ends the connection without a word, and keeps the device's cursor.
func (c *conn) cut() {
	c.ws.CloseNow()
	c.lost()
}

// lost waits until the connection has ended, whoever ended it, and keeps the
// device's cursor: the greatest that a frame gave it.
func (c *conn) lost() {
	c.run.t.Helper()
	select {
	case <-c.ended:
	case <-time.After(patience):
		c.run.t.Fatalf("device %s: the connection has not ended", c.device.id)
	}
	for i, f := range c.frames() {
		x, err := parseFrame(f.Text)
		switch {
		case err != nil:
		case i == 0 && c.device.cursor == "":
			c.device.cursor = x.Resume.Since
		case i == 0 && !x.Resume.Complete:
			c.device.cursor = ""
		default:
			c.device.cursor = max(c.device.cursor, x.Hlc)
		}
	}
}

func (c *conn) open() bool {
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

// history is the connection's part of the history. One that is open has stayed.
func (c *conn) history() Connection {
	open := c.open()
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.record
	h.Frames = slices.Clone(h.Frames)
	h.Stayed = open
	return h
}
