package faults

import (
	"context"
	"io"
	"net"
	"sync"
	"time"
)

// A Link is the network between two processes: a TCP proxy that one dials in the
// place of the other, and that can be cut, slowed and narrowed. It is safe for
// concurrent use.
type Link struct {
	// static after construction
	Name   string
	target string
	ln     net.Listener

	// guarded by mu
	mu      sync.Mutex
	state   linkState
	latency time.Duration // one way
	rate    int           // bytes a second and direction; 0 is no bound
	open    map[net.Conn]struct{}
	changed chan struct{} // closed and replaced at each change of what is above
	closed  bool
}

type linkState int

const (
	linkWell    linkState = iota
	linkSilent            // nothing arrives and nobody is told: a cable that was pulled
	linkRefused           // connections are reset, and new ones refused: a firewall
)

// chunk is what is read at a time, and inFlight how many of those a direction of a
// connection holds.
const (
	chunk    = 32 << 10
	inFlight = 64
)

// newLink listens at a free port of host and leads to target.
func newLink(name, host, target string) (*Link, error) {
	ln, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, err
	}
	l := &Link{Name: name, target: target, ln: ln, open: make(map[net.Conn]struct{}), changed: make(chan struct{})}
	go l.serve()
	return l, nil
}

// Addr is what to dial.
func (l *Link) Addr() string {
	if l.ln == nil { // there is nothing between the two
		return l.target
	}
	return l.ln.Addr().String()
}

// change makes a change and lets everybody look at it.
func (l *Link) change(fn func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fn()
	close(l.changed)
	l.changed = make(chan struct{})
}

// Silence lets nothing pass any more, in either direction.
func (l *Link) Silence() { l.change(func() { l.state = linkSilent }) }

// Refuse resets all connections and refuses new ones.
func (l *Link) Refuse() {
	l.change(func() {
		l.state = linkRefused
		l.reset()
	})
}

// Delay makes all that passes wait.
func (l *Link) Delay(latency time.Duration) { l.change(func() { l.latency = latency }) }

// Narrow lets so many bytes pass in a second.
func (l *Link) Narrow(rate int) { l.change(func() { l.rate = rate }) }

// InUse reports whether there is a connection.
func (l *Link) InUse() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open) > 0
}

// Heal makes the link what it was at first. What was held back passes.
func (l *Link) Heal() {
	l.change(func() { l.state, l.latency, l.rate = linkWell, 0, 0 })
}

func (l *Link) close() {
	l.ln.Close()
	l.change(func() {
		l.closed, l.state = true, linkRefused
		l.reset()
	})
}

// reset resets all connections. Called with mu held.
func (l *Link) reset() {
	for c := range l.open {
		if tcp, ok := c.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
		c.Close()
	}
}

// pass waits until something may pass, and says how slowly. It is false once the
// link is closed.
func (l *Link) pass() (latency time.Duration, rate int, ok bool) {
	for {
		l.mu.Lock()
		state, changed := l.state, l.changed
		latency, rate, ok = l.latency, l.rate, !l.closed
		l.mu.Unlock()
		if state != linkSilent || !ok {
			return latency, rate, ok
		}
		<-changed
	}
}

// hold notes a connection, and reports false, with the connection reset, where
// there can be none now.
func (l *Link) hold(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == linkRefused {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
		return false
	}
	l.open[c] = struct{}{}
	return true
}

func (l *Link) drop(c net.Conn) {
	c.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, c)
}

func (l *Link) serve() {
	for {
		from, err := l.ln.Accept()
		if err != nil {
			return
		}
		if l.hold(from) {
			go l.carry(from)
		}
	}
}

// carry leads a connection to the target.
func (l *Link) carry(from net.Conn) {
	defer l.drop(from)
	if _, _, ok := l.pass(); !ok { // whoever dials over a silent link hears nothing
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	to, err := new(net.Dialer).DialContext(ctx, "tcp", l.target)
	cancel()
	if err != nil || !l.hold(to) {
		from.(*net.TCPConn).SetLinger(0)
		return
	}
	defer l.drop(to)
	var both sync.WaitGroup
	both.Go(func() { l.copy(to, from) })
	both.Go(func() { l.copy(from, to) })
	both.Wait()
}

// parcel is bytes on their way; none are the end.
type parcel struct {
	data []byte
	due  time.Time
}

// copy carries one direction. When it ends, so does the other.
func (l *Link) copy(to, from net.Conn) {
	way := make(chan parcel, inFlight)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		defer to.Close()
		for p := range way {
			if wait := time.Until(p.due); wait > 0 {
				<-time.After(wait)
			}
			_, rate, ok := l.pass()
			if !ok || len(p.data) == 0 {
				return
			}
			if rate > 0 {
				<-time.After(time.Duration(len(p.data)) * time.Second / time.Duration(rate))
			}
			if _, err := to.Write(p.data); err != nil {
				return
			}
		}
	}()
	defer from.Close()
	defer close(way)
	buf := make([]byte, chunk)
	for {
		n, err := from.Read(buf)
		latency, rate, ok := l.pass()
		if !ok {
			return
		}
		// A narrow link has small parcels, or its bytes would come in gulps.
		most := chunk
		if rate > 0 {
			most = max(512, rate/20)
		}
		for at := 0; at < n; at += most {
			p := parcel{append([]byte(nil), buf[at:min(n, at+most)]...), time.Now().Add(latency)}
			select {
			case way <- p:
			case <-gone:
				return
			}
		}
		if err != nil {
			if err == io.EOF {
				select {
				case way <- parcel{due: time.Now().Add(latency)}:
				case <-gone:
				}
			}
			return
		}
	}
}
