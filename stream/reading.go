package stream

import (
	"context"
	"sync"
)

// readings makes equal reads once, however many ask while one is under way: the
// devices of a user who come back together have the same cursor, as a rule.
type readings struct {
	mu   sync.Mutex
	open map[span]*reading // guarded by mu
}

// span is a part of a user's log, after a position and up to another.
type span struct {
	user        string
	after, upTo Position
}

// reading is one read. Chunk and err may be read once done is closed.
type reading struct {
	done   chan struct{}
	chunk  Chunk
	err    error
	cancel context.CancelFunc
	asking int // who waits for it; guarded by readings.mu
}

// do reads sp, or waits for somebody who does. The read ends when nobody waits
// for it any more.
func (rs *readings) do(ctx context.Context, sp span, read func(context.Context) (Chunk, error)) (Chunk, error) {
	rs.mu.Lock()
	r := rs.open[sp]
	if r == nil {
		var work context.Context
		r = &reading{done: make(chan struct{})}
		work, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
		if rs.open == nil {
			rs.open = make(map[span]*reading)
		}
		rs.open[sp] = r
		go func() {
			r.chunk, r.err = read(work)
			rs.forget(sp, r)
			r.cancel()
			close(r.done)
		}()
	}
	r.asking++
	rs.mu.Unlock()
	select {
	case <-r.done:
		return r.chunk, r.err
	case <-ctx.Done():
	}
	rs.mu.Lock()
	r.asking--
	if r.asking == 0 {
		rs.forgetLocked(sp, r)
		r.cancel()
	}
	rs.mu.Unlock()
	return Chunk{}, ctx.Err()
}

func (rs *readings) forget(sp span, r *reading) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.forgetLocked(sp, r)
}

func (rs *readings) forgetLocked(sp span, r *reading) {
	if rs.open[sp] == r {
		delete(rs.open, sp)
	}
}
