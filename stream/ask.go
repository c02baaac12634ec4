package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// ErrNoWriter says that nobody who writes the shard has answered.
var ErrNoWriter = errors.New("stream: nobody writes the shard at the moment")

const (
	// askTimeout bounds a request, and a call that answers one.
	askTimeout = 10 * time.Second
	// answersMost bounds the calls under way of one Answer; more requests wait.
	answersMost = 16
	// answersWaiting bounds the requests that wait; more are dropped, and those
	// who ask learn it as a timeout.
	answersWaiting = 256
	// drainPatience is how long the server may take to note that requests are
	// answered here, or no longer.
	drainPatience = 2 * time.Second
)

// Ask sends a request to whoever writes shard, in whichever process, and
// returns the answer, within 10 s or when ctx ends. The bytes are the caller's
// affair. With [ErrNoWriter] the request may still have been carried out, if it
// is a timeout too.
func (l *Log) Ask(ctx context.Context, shard int, request []byte) ([]byte, error) {
	if shard < 0 || shard >= len(l.shards) {
		return nil, fmt.Errorf("stream: shard %d of %d", shard, len(l.shards))
	}
	ask, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	m, err := l.nc.RequestWithContext(ask, askSubject(shard), request)
	switch {
	case err == nil:
		return m.Data, nil
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, nats.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("stream: ask shard %d: %w: %w", shard, ErrNoWriter, err)
	}
	return nil, fmt.Errorf("stream: ask shard %d: %w", shard, err)
}

// Answer calls fn, each in a goroutine of its own and at most 16 at a time, for
// the requests that [Log.Ask] sends to this shard, until stop is called or the
// writer ends. Its context lives 10 s, or until the writer ends; then its answer
// is not sent, since the shard may have another writer by now. stop waits for
// calls under way, and so does the writer's end: fn must not close the writer.
// Errors: ErrDeposed, ErrClosed, the connection's.
func (w *Writer) Answer(fn func(ctx context.Context, request []byte) []byte) (stop func(), err error) {
	a := &answerer{
		w: w, fn: fn,
		requests: make(chan *nats.Msg, answersWaiting),
		busy:     make(chan struct{}, answersMost),
	}
	w.mu.Lock()
	if err = w.err; err == nil {
		w.answers.Add(1)
	}
	w.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if a.sub, err = w.log.nc.ChanSubscribe(askSubject(w.shard), a.requests); err != nil {
		w.answers.Done()
		return nil, fmt.Errorf("stream: answer for shard %d: %w", w.shard, err)
	}
	_ = w.log.nc.FlushTimeout(drainPatience) // who asks from now on is heard; without a server, later
	ctx, end := context.WithCancel(context.Background())
	stopping, stopped := make(chan struct{}), make(chan struct{})
	var both sync.WaitGroup
	both.Go(func() {
		defer end()
		a.run(ctx, stopping)
	})
	both.Go(func() {
		defer end()
		select {
		case <-w.stop:
		case <-ctx.Done():
		}
	})
	go func() {
		defer w.answers.Done()
		defer close(stopped)
		both.Wait()
	}()
	return sync.OnceFunc(func() { close(stopping); <-stopped }), nil
}

// answerer is one Answer.
type answerer struct {
	// static after construction
	w        *Writer
	fn       func(ctx context.Context, request []byte) []byte
	sub      *nats.Subscription
	requests chan *nats.Msg // sent to by nats.go, never closed
	busy     chan struct{}  // holds one for each call under way

	// owned by run
	calls sync.WaitGroup
}

// run takes requests until stopping is closed, and then those that are on their
// way, or until ctx ends: the writer has ended. It waits for all calls.
func (a *answerer) run(ctx context.Context, stopping <-chan struct{}) {
	defer a.calls.Wait()
	for {
		select {
		case m := <-a.requests:
			a.take(ctx, m)
		case <-ctx.Done():
			_ = a.sub.Unsubscribe()
			return
		case <-stopping:
			_ = a.sub.Drain()
			patient, cancel := context.WithTimeout(ctx, drainPatience)
			_ = a.w.log.nc.FlushWithContext(patient)
			cancel()
			for len(a.requests) > 0 {
				a.take(ctx, <-a.requests)
			}
			return
		}
	}
}

// take begins a call as soon as there are few enough.
func (a *answerer) take(ctx context.Context, m *nats.Msg) {
	select {
	case a.busy <- struct{}{}:
	case <-ctx.Done():
		return
	}
	a.calls.Go(func() {
		defer func() { <-a.busy }()
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		answer := a.fn(ctx, m.Data)
		if a.w.Err() != nil {
			return
		}
		if err := m.Respond(answer); err != nil {
			a.w.log.logger.Warn("a request is not answered", "shard", a.w.shard, "err", err)
		}
	})
}
