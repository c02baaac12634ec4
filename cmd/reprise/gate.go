package main

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// gate is a listener of whose connections only so many are worked for at a time
// until they are WebSockets. In a storm thousands have sent their handshakes; each of
// those costs as much as a live event, and that would wait behind all of them. A
// connection is worked for from a read that brought something to the next read,
// its upgrade or its end, whichever comes first: who sends slowly takes no place.
type gate struct {
	net.Listener
	places chan struct{}
}

// placeTime bounds how long a connection has a place: a handler may wait, for a key
// server say.
const placeTime = 100 * time.Millisecond

func newGate(l net.Listener, places int) *gate {
	return &gate{l, make(chan struct{}, places)}
}

// Accept implements [net.Listener].
func (g *gate) Accept() (net.Conn, error) {
	nc, err := g.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &gated{Conn: nc, gate: g}
	c.timer = time.AfterFunc(placeTime, c.leave)
	return c, nil
}

// state is to be the server's ConnState. The connection is below TLS, if there is
// any.
func (*gate) state(nc net.Conn, s http.ConnState) {
	if s != http.StateHijacked {
		return
	}
	if over, ok := nc.(interface{ NetConn() net.Conn }); ok {
		if c, ok := over.NetConn().(*gated); ok {
			nc = c
		}
	}
	if c, ok := nc.(*gated); ok {
		c.pass()
	}
}

// gated is a connection of a gate.
type gated struct {
	net.Conn
	gate *gate

	mu     sync.Mutex
	timer  *time.Timer // runs leave
	inside bool        // has a place
	passed bool        // needs none any more
}

// NetConn is the connection itself, for who has taken it over.
func (c *gated) NetConn() net.Conn { return c.Conn }

// Read implements [net.Conn]. A read of one byte is net/http's way to watch for the
// end of a connection while its handler runs.
func (c *gated) Read(p []byte) (int, error) {
	if len(p) == 1 {
		return c.Conn.Read(p)
	}
	c.leave()
	n, err := c.Conn.Read(p)
	if err == nil {
		c.enter()
	}
	return n, err
}

// Close implements [net.Conn].
func (c *gated) Close() error {
	c.pass()
	return c.Conn.Close()
}

func (c *gated) enter() {
	c.mu.Lock()
	passed := c.passed
	c.mu.Unlock()
	if passed {
		return
	}
	c.gate.places <- struct{}{}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.passed {
		<-c.gate.places
		return
	}
	c.inside = true
	c.timer.Reset(placeTime)
}

func (c *gated) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inside {
		c.inside = false
		c.timer.Stop()
		<-c.gate.places
	}
}

// pass has c go without a place from here on.
func (c *gated) pass() {
	c.leave()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.passed = true
	c.timer.Stop()
}
