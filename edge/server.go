package edge

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"reprise/hlc"
	"reprise/stream"
)

// openingsAtOnce bounds the questions about cursors that are asked at a time.
const openingsAtOnce = 64

// Server serves the devices of one edge. Its methods may be called by any
// number of goroutines.
type Server struct {
	// static after construction
	cfg           Config
	started       time.Time
	shards        []*shard
	budget        *budget
	registry      *registry
	wheel         *wheel
	poller        *poller // of parked readers; nil where there is none. Set by Run before anybody is let in
	cursors       *cursors
	orders        *orders
	registrations *registrations
	arrivals      *arrivals
	metrics       *metrics
	announcements announcements
	latencies     latencies
	clock         hlc.Clock // for updates without a timestamp

	openings     slots
	recent, deep slots // of chunks of the log

	users   atomic.Int64   // with a connection
	warned  atomic.Int64   // when complain last did, on the server's clock
	writers sync.WaitGroup // goroutines of connections, the readers excepted
	running atomic.Bool
	drained chan struct{} // closed by Drain
	once    sync.Once     // closes drained
}

// New returns a Server for cfg. It starts nothing. Its error says everything
// that is wrong with cfg.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.filled()
	if cfg.Log == nil {
		err = errors.Join(errors.New("edge: no Log"), err)
	}
	if err != nil {
		return nil, err
	}
	return newServer(cfg, cfg.Log.Shards())
}

// newServer makes a Server of a filled Config.
func newServer(cfg Config, shards int) (*Server, error) {
	m, err := newMetrics(cfg.Meter)
	if err != nil {
		return nil, fmt.Errorf("edge: %w", err)
	}
	s := &Server{
		cfg:           cfg,
		started:       time.Now(),
		budget:        &budget{limit: cfg.TailBytes},
		registry:      &registry{byID: map[string]*conn{}, empty: make(chan struct{})},
		cursors:       &cursors{log: cfg.Log, logger: cfg.Logger, unsent: map[deviceKey]hlc.Timestamp{}},
		registrations: &registrations{log: cfg.Log, logger: cfg.Logger, dropped: m.dropped, more: make(chan struct{}, 1)},
		arrivals:      &arrivals{logger: cfg.Logger, more: make(chan struct{}, 1), elsewhere: cfg.Log.Arrive, waiting: map[stream.Word][]mention{}},
		metrics:       m,
		openings:      make(slots, openingsAtOnce),
		recent:        make(slots, recentChunks),
		deep:          make(slots, deepChunks),
		drained:       make(chan struct{}),
		orders:        &orders{byUser: map[stream.UserKey]stream.Order{}, loaded: cfg.Log == nil},
	}
	s.wheel = &wheel{elapsed: s.elapsed}
	s.arrivals.stoodStill, s.arrivals.here = s.wheel.stoodStill, s.arrived
	for i := range shards {
		s.shards = append(s.shards, &shard{
			index: i, limit: cfg.TailPerUser, budget: s.budget, linger: cfg.TailLinger,
			elapsed: s.elapsed, users: map[string]*tail{},
		})
	}
	if err := s.gauges(cfg.Meter); err != nil {
		return nil, fmt.Errorf("edge: %w", err)
	}
	return s, nil
}

// elapsed is the server's clock: it never steps.
func (s *Server) elapsed() time.Duration { return time.Since(s.started) }

func (s *Server) shardOf(user string) *shard {
	if len(s.shards) == 1 {
		return s.shards[0]
	}
	return s.shards[s.cfg.Log.Shard(user)]
}

// following reports whether the feed of every shard has begun, and what operators
// have said is known.
func (s *Server) following() bool {
	for _, sh := range s.shards {
		if !sh.following() {
			return false
		}
	}
	return s.orders.known()
}

// Run follows the log and looks after all connections. It returns nil when ctx
// has ended (the connections are then closed with 1001) or a drain is over, else
// the first error of the log; no goroutine and no connection outlives it. It may
// be called once.
func (s *Server) Run(ctx context.Context) error {
	if s.running.Swap(true) {
		return errors.New("edge: Run was called before")
	}
	if p, err := newPoller(); err == nil {
		s.poller = p
		polling := make(chan struct{})
		go func() { defer close(polling); p.run() }()
		defer func() { p.close(); <-polling }()
	} else if !errors.Is(err, errors.ErrUnsupported) {
		s.cfg.Logger.Warn("no poller: each connection costs a goroutine", "err", err)
	}
	// The feeds outlive ctx by as long as it takes to close the connections.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, work := errgroup.WithContext(work)
	for _, sh := range s.shards {
		g.Go(func() error {
			if err := s.cfg.Log.Follow(work, sh.index, stream.FollowOptions{Warm: s.cfg.Warm}, sh.handle); err != nil {
				return fmt.Errorf("edge: follow shard %d: %w", sh.index, err)
			}
			return nil
		})
	}
	g.Go(func() error {
		err := s.cfg.Log.FollowAnnouncements(work, func(frame []byte, _ time.Time) { s.Broadcast(append([]byte(nil), frame...)) })
		if err != nil {
			return fmt.Errorf("edge: follow announcements: %w", err)
		}
		return nil
	})
	g.Go(func() error { s.cursors.run(work); return nil })
	g.Go(func() error { s.registrations.run(work); return nil })
	g.Go(func() error { s.arrivals.run(work); return nil })
	g.Go(func() error {
		if err := s.cfg.Log.FollowArrivals(work, s.arrived); err != nil {
			return fmt.Errorf("edge: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		if err := s.cfg.Log.FollowOrders(work, s.order, s.orders.current); err != nil {
			return fmt.Errorf("edge: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		if err := s.cfg.Log.AnswerEdges(work, s.answerOperator); err != nil {
			return fmt.Errorf("edge: %w", err)
		}
		return nil
	})
	g.Go(func() error { s.wheel.run(work, s.sweep); return nil })
	select {
	case <-ctx.Done():
	case <-s.drained:
	case <-work.Done():
	}
	s.dismiss()
	stop()
	err := g.Wait()
	s.writers.Wait()
	return err
}

// Abort tells every device that the process ends at once, and gives them a
// second to hear it.
func (s *Server) Abort() {
	for _, c := range s.registry.refuse() {
		c.close(codeGoingAway, "going away")
	}
	select {
	case <-s.registry.empty:
	case <-time.After(partingTime):
	}
}

// dismiss closes all connections at once and waits until they are gone, which
// takes each at most twice partingTime.
func (s *Server) dismiss() {
	for _, c := range s.registry.refuse() {
		c.close(codeGoingAway, "going away")
	}
	<-s.registry.empty
}

func (s *Server) sweep() {
	for _, sh := range s.shards {
		sh.sweep()
	}
}

// delivered notes the frames of b, which a socket has just taken.
func (s *Server) delivered(b *outbox) {
	ctx := context.Background()
	s.metrics.messages.Add(int64(b.sent))
	s.metrics.relayed.Add(ctx, int64(b.sent))
	if len(b.stored) > 0 {
		now := time.Now().UnixNano()
		for _, at := range b.stored {
			d := max(0, time.Duration(now-at))
			s.latencies.add(d)
			s.metrics.latency.Record(ctx, d.Seconds())
		}
	}
	for _, sp := range b.spans {
		sp.end(s.cfg.Tracer, s.cfg.Node)
	}
}

// complain warns, once a second at most: when the log is out of reach it is so
// for every connection.
func (s *Server) complain(msg string, args ...any) {
	now := s.elapsed()
	if last := s.warned.Load(); last != 0 && now-time.Duration(last) < time.Second || !s.warned.CompareAndSwap(last, int64(now)) {
		return
	}
	s.cfg.Logger.Warn(msg, args...)
}

// unreachableFor is for how long the log may be out of reach before the edge
// says that it is not ready.
const unreachableFor = 15 * time.Second

// Ready reports whether this edge should be given devices, and if not why:
// "starting", "draining", "log_unreachable". A warning ("log_unreachable", until
// it has lasted 15 seconds) takes no edge out of service.
func (s *Server) Ready() (ready bool, reasons, warnings []string) {
	if s.registry.refusing() {
		reasons = append(reasons, "draining")
	}
	if !s.following() {
		reasons = append(reasons, "starting")
	}
	switch away := s.cfg.Log.Unreachable(); {
	case away > unreachableFor:
		reasons = append(reasons, "log_unreachable")
	case away > 0:
		warnings = append(warnings, "log_unreachable")
	}
	return len(reasons) == 0, reasons, warnings
}
