package pubnubtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// lines is the life of the listener.
type lines struct {
	mu     sync.Mutex
	addr   string       // once bound; it never changes
	bound  net.Listener // bound, but not served yet
	up     *line        // served
	closed bool         // for good
	failed chan error   // capacity 1; sent to by a line that ends by itself
}

// A line serves one listener, from its start to its stop.
type line struct {
	handler http.Handler
	server  *http.Server
	cancel  context.CancelFunc // ends every request's context
	served  chan struct{}      // closed when the accept loop has ended

	mu      sync.Mutex
	active  int // requests being handled
	stopped bool
	idle    chan struct{} // closed when stopped and active is 0
}

var errClosed = errors.New("pubnubtest: server closed")

// Start makes a server and serves until [Server.Close].
func Start(cfg Config) (*Server, error) {
	s, err := New(cfg)
	if err != nil {
		return nil, err
	}
	if _, err := s.Listen(); err != nil {
		return nil, err
	}
	s.serve()
	return s, nil
}

// Run listens, unless [Server.Listen] has been called, and serves until ctx
// ends. It then cuts all connections, waits for their requests and returns
// nil. It returns an error if it cannot listen or the listener fails. Being
// stopped by [Server.Stop] does not end it.
func (s *Server) Run(ctx context.Context) error {
	if _, err := s.Listen(); err != nil {
		return err
	}
	defer s.Close()
	s.serve()
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.failures():
		return fmt.Errorf("pubnubtest: serve: %w", err)
	}
}

// Listen binds the address of the configuration and returns it, with the port
// that was chosen if none was given. Clients can connect from then on; they
// are served as soon as Run is. Further calls return the same.
func (s *Server) Listen() (string, error) {
	l := &s.lines
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return "", errClosed
	case l.addr != "":
		return l.addr, nil
	}
	ln, err := net.Listen("tcp", s.cfg.Listen)
	if err != nil {
		return "", fmt.Errorf("pubnubtest: listen: %w", err)
	}
	l.bound, l.addr = ln, ln.Addr().String()
	return l.addr, nil
}

// Addr returns the bound host:port, the SDK's Config.Origin; "" before Listen.
func (s *Server) Addr() string {
	s.lines.mu.Lock()
	defer s.lines.mu.Unlock()
	return s.lines.addr
}

// Close ends the server for good: it closes the listener, cuts all
// connections, held polls and held faults, and waits for their requests.
func (s *Server) Close() {
	s.lines.mu.Lock()
	s.lines.closed = true
	s.lines.mu.Unlock()
	s.Stop()
}

// Stop closes the listener and cuts all connections, as if the process had
// died, but keeps the state. Connecting is refused until [Server.Restart].
func (s *Server) Stop() {
	l := &s.lines
	l.mu.Lock()
	up, bound := l.up, l.bound
	l.up, l.bound = nil, nil
	l.mu.Unlock()
	if bound != nil {
		bound.Close()
	}
	if up != nil {
		up.stop()
	}
}

// Restart listens again on the same port after a Stop. It returns an error if
// the port was taken meanwhile and is not given back within ten seconds, if
// the server is not stopped, or if it was closed.
func (s *Server) Restart() error {
	l := &s.lines
	l.mu.Lock()
	addr, idle := l.addr, l.up == nil && l.bound == nil
	l.mu.Unlock()
	if addr == "" || !idle {
		return errors.New("pubnubtest: restart: not stopped")
	}
	var ln net.Listener
	var err error
	for deadline := time.Now().Add(10 * time.Second); ; {
		if ln, err = net.Listen("tcp", addr); err == nil {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("pubnubtest: restart: %w", err)
		}
		<-time.After(5 * time.Millisecond)
	}
	l.mu.Lock()
	if l.closed || l.up != nil || l.bound != nil {
		l.mu.Unlock()
		ln.Close()
		return errClosed
	}
	l.bound = ln
	l.mu.Unlock()
	s.serve()
	return nil
}

// failures returns the channel on which a line reports its failure.
func (s *Server) failures() chan error {
	s.lines.mu.Lock()
	defer s.lines.mu.Unlock()
	if s.lines.failed == nil {
		s.lines.failed = make(chan error, 1)
	}
	return s.lines.failed
}

// serve turns the bound listener into a line.
func (s *Server) serve() {
	failed := s.failures()
	l := &s.lines
	l.mu.Lock()
	defer l.mu.Unlock()
	ln := l.bound
	if ln == nil {
		return // stopped meanwhile
	}
	ctx, cancel := context.WithCancel(context.Background())
	up := &line{handler: s, cancel: cancel, served: make(chan struct{}), idle: make(chan struct{})}
	up.server = &http.Server{
		Handler:           up,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       10 * time.Minute,
	}
	l.bound, l.up = nil, up
	go func() {
		defer close(up.served)
		if err := up.server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			select {
			case failed <- err:
			default:
			}
		}
	}()
}

// ServeHTTP handles a request while the line is up.
func (l *line) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	if l.stopped {
		l.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	l.active++
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.active--
		if l.stopped && l.active == 0 {
			close(l.idle)
		}
	}()
	l.handler.ServeHTTP(w, r)
}

// stop cuts the line and returns when nothing of it is left.
func (l *line) stop() {
	l.mu.Lock()
	l.stopped = true
	if l.active == 0 {
		close(l.idle)
	}
	l.mu.Unlock()
	l.cancel()
	l.server.Close() // its error is that of closing a listener: there is nothing to do about it
	<-l.served
	<-l.idle
}
