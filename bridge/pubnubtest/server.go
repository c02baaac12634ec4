package pubnubtest

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// A Server is the emulator. It is made by [New] or [Start].
type Server struct {
	// Static after construction.
	cfg Config

	// Each with its own lock.
	lines   lines   // the listener, run.go
	faults  faults  // what is to go wrong, fault.go
	journal journal // what was requested, journal.go

	mu           sync.Mutex // guards all below; leaf, never held across I/O
	clock        clock
	log          messageLog
	polls        int // held subscribe requests
	pollsChanged signal
	overflows    int // subscribe replies that skipped messages
	presence     presence
	tokens       map[string]Token
	chance       *rand.Rand
}

// New checks a configuration and makes a server that does not listen yet. It
// starts nothing.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg:   cfg,
		clock: clock{now: cfg.Now, skew: cfg.CursorSkew},
		log: messageLog{
			queueSize:    cfg.QueueSize,
			historyLimit: cfg.HistoryLimit,
			maxMessages:  cfg.MaxMessages,
			maxBytes:     cfg.MaxBytes,
			channels:     make(map[string]*topic),
			wildcards:    make(map[string]*topic),
			groups:       make(map[string]*topic),
			groupsOf:     make(map[string][]*topic),
		},
		presence: presence{channels: make(map[string]map[string]int64)},
		tokens:   make(map[string]Token),
		chance:   rand.New(rand.NewPCG(cfg.Seed, 2)),
	}
	s.faults.chance = rand.New(rand.NewPCG(cfg.Seed, 3))
	s.journal.limit = cfg.JournalSize
	return s, nil
}

const (
	maxURI  = 32 << 10 // a longer request target is 414
	maxBody = 32 << 10 // a longer body is 413
)

// A call is one request on its way through the server.
type call struct {
	endpoint Endpoint
	parts    []string // the path's segments, still escaped
	query    url.Values
	method   string
	body     []byte
	injected *Injection // the fault that befalls it; nil is none
}

// bend returns in which way the call's reply is to be wrong.
func (c *call) bend() Kind {
	if c.injected == nil {
		return ""
	}
	return c.injected.fault.Kind
}

// ServeHTTP answers one request. When the request's context ends while it is
// held, the connection is cut without an answer, by [http.ErrAbortHandler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		panic(http.ErrAbortHandler) // the client is gone
	}
	s.travel(r.Context())
	c := &call{method: r.Method, query: r.URL.Query(), body: body}
	c.endpoint, c.parts = route(r.Method, r.URL.EscapedPath(), c.query)
	req := Request{
		Time:     s.cfg.Now(),
		Endpoint: c.endpoint,
		Method:   r.Method,
		URI:      r.RequestURI,
		Body:     body,
	}
	c.injected = s.faults.pick(req)
	if c.injected != nil {
		req.Fault = c.injected.fault.Kind
	}
	s.journal.add(req)

	back := func() { s.travel(r.Context()) }
	if c.injected.spoils(w, r, false, back) {
		return
	}
	rep := s.answer(r.Context(), c, len(r.RequestURI))
	if rep == nil {
		panic(http.ErrAbortHandler) // no answer; returning would send an empty one
	}
	if !c.injected.spoils(w, r, true, back) {
		back()
		c.injected.write(w, r, rep)
	}
}

// travel lets the time pass that a request or an answer is on its way. It cuts
// the connection if ctx ends before.
func (s *Server) travel(ctx context.Context) {
	if s.cfg.RoundTrip == 0 {
		return
	}
	arrival := time.NewTimer(s.cfg.RoundTrip / 2)
	defer arrival.Stop()
	select {
	case <-arrival.C:
	case <-ctx.Done():
		panic(http.ErrAbortHandler)
	}
}

// answer carries the call out and returns what to say; nil if the client left.
func (s *Server) answer(ctx context.Context, c *call, uri int) *reply {
	switch {
	case c.method == http.MethodOptions:
		return &reply{status: http.StatusNoContent}
	case uri > maxURI:
		return failure(http.StatusRequestURITooLong, "Request URI Too Long")
	case len(c.body) > maxBody:
		return s.refusePublish(http.StatusRequestEntityTooLarge, "Message Too Large")
	}
	switch c.endpoint {
	case Handshake, Poll:
		return s.subscribe(ctx, c)
	case Publish, Fire, File:
		return s.publishCall(c)
	case Signal:
		return s.signalCall(c)
	case History:
		return s.historyCall(c)
	case MessageCounts:
		return s.countsCall(c)
	case Groups:
		return s.groupsCall(c)
	case Heartbeat, Leave:
		return s.presenceCall(c)
	case HereNow:
		return s.hereNowCall(c)
	case WhereNow:
		return s.whereNowCall(c)
	case Time:
		return s.timeCall()
	case Grant:
		return s.grantCall(c)
	case Revoke:
		return s.revokeCall(c)
	}
	return ok([]byte(`{"status":404,"error":true}`)).with(http.StatusNotFound)
}

// timeCall answers the time request.
func (s *Server) timeCall() *reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ok(fmtAppend(`[%d]`, s.clock.wall()))
}

// Stats counts what the server holds and what it has not delivered.
type Stats struct {
	Messages int   // messages kept, live or stored
	Bytes    int64 // their size, as counted against Config.MaxBytes
	Channels int   // channels with messages or waiting subscribers
	Polls    int   // held subscribe requests

	// Overflows counts the subscribe replies that skipped messages without a
	// word: above the cursor of the request, and not in the live queue any more
	// for their number or their age. A request that is repeated counts again.
	// Names that the bounds of memory have left without any message do not count.
	Overflows int
}

// Stats returns what the server holds now.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{s.log.held, s.log.bytes, len(s.log.channels), s.polls, s.overflows}
}

// WaitPolls returns when at least n subscribe requests are held, or with
// ctx's error.
func (s *Server) WaitPolls(ctx context.Context, n int) error {
	for {
		s.mu.Lock()
		reached, changed := s.polls >= n, s.pollsChanged.wait()
		s.mu.Unlock()
		if reached {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// A signal lets goroutines wait for the next change of what a lock guards. It
// is guarded by the same lock.
type signal struct{ ch chan struct{} }

// wait returns a channel that is closed at the next fire.
func (s *signal) wait() <-chan struct{} {
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

func (s *signal) fire() {
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}
