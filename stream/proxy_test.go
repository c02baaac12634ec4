package stream

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// proxy is a TCP link to a NATS server that can be paused and cut.
type proxy struct {
	ln     net.Listener
	target string

	mu     sync.Mutex
	open   map[net.Conn]struct{}
	gate   chan struct{}              // closed while bytes may pass
	budget int                        // bytes to the client until the next cut, 0 is none
	frozen map[net.Conn]chan struct{} // closed at the test's end
}

func newProxy(t testing.TB, url string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{ln: ln, target: strings.TrimPrefix(url, "nats://"), open: make(map[net.Conn]struct{}), gate: make(chan struct{}), frozen: make(map[net.Conn]chan struct{})}
	close(p.gate)
	go p.serve()
	t.Cleanup(func() {
		ln.Close()
		p.resume()
		p.mu.Lock()
		for _, c := range p.frozen {
			close(c)
		}
		p.mu.Unlock()
		p.cut()
	})
	return p
}

func (p *proxy) url() string { return "nats://" + p.ln.Addr().String() }

func (p *proxy) serve() {
	for {
		client, err := p.ln.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			client.Close()
			continue
		}
		p.mu.Lock()
		p.open[client], p.open[server] = struct{}{}, struct{}{}
		p.mu.Unlock()
		go p.copy(server, client, false)
		go p.copy(client, server, true)
	}
}

func (p *proxy) copy(dst, src net.Conn, toClient bool) {
	defer dst.Close()
	defer src.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		p.mu.Lock()
		gate, frozen := p.gate, p.frozen[src]
		if toClient && p.budget > 0 {
			if p.budget -= n; p.budget <= 0 {
				n, err = n/2, io.EOF // cut in the middle of what was under way
			}
		}
		p.mu.Unlock()
		if frozen != nil {
			<-frozen
			return
		}
		<-gate
		if n > 0 {
			if _, werr := dst.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// pause holds every byte back until resume.
func (p *proxy) pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gate = make(chan struct{})
}

func (p *proxy) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.gate:
	default:
		close(p.gate)
	}
}

// freeze lets nothing pass any more over the connections there are, nor either end
// know when the other closes: the way of a machine that lost its power. New ones are
// let through.
func (p *proxy) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		p.frozen[c] = make(chan struct{})
		delete(p.open, c)
	}
}

// cut closes every connection; new ones are let through.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		c.Close()
		delete(p.open, c)
	}
}

// cutAfter cuts a connection once n more bytes went to the client.
func (p *proxy) cutAfter(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.budget = n
}
