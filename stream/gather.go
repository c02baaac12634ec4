package stream

import (
	"context"
	"sync"
	"time"
)

// gather makes one question out of many: while one is under way, callers
// collect for the next. Each caller's answer comes from a run that began after
// its call, so it is at least as fresh as a question of its own, and the
// number of questions under way is one, however many callers there are.
type gather[K comparable, V any] struct {
	// static after construction
	ask     func(ctx context.Context, keys []K) (map[K]V, error)
	most    int // keys of one question
	timeout time.Duration

	// guarded by mu
	mu      sync.Mutex
	waiting []*flight[K, V]
	running bool
}

// flight is one question. Its answer may be read once done is closed, which
// the goroutine that asks does.
type flight[K comparable, V any] struct {
	keys   map[K]struct{}
	done   chan struct{}
	answer map[K]V
	err    error
}

// do asks for key. The question itself runs under a deadline of its own, since
// others wait for it too; ctx ends only the waiting.
func (g *gather[K, V]) do(ctx context.Context, key K) (v V, err error) {
	g.mu.Lock()
	var f *flight[K, V]
	if n := len(g.waiting); n > 0 {
		f = g.waiting[n-1]
		if _, asked := f.keys[key]; !asked && len(f.keys) >= g.most {
			f = nil // full
		}
	}
	if f == nil {
		f = &flight[K, V]{keys: make(map[K]struct{}), done: make(chan struct{})}
		g.waiting = append(g.waiting, f)
	}
	f.keys[key] = struct{}{}
	if !g.running {
		g.running = true
		go g.run(context.WithoutCancel(ctx))
	}
	g.mu.Unlock()
	select {
	case <-f.done:
		return f.answer[key], f.err
	case <-ctx.Done():
		return v, ctx.Err()
	}
}

// run asks until nobody waits. There is at most one at a time.
func (g *gather[K, V]) run(ctx context.Context) {
	for {
		g.mu.Lock()
		if len(g.waiting) == 0 {
			g.running = false
			g.mu.Unlock()
			return
		}
		f := g.waiting[0]
		g.waiting = g.waiting[1:]
		g.mu.Unlock()

		keys := make([]K, 0, len(f.keys))
		for k := range f.keys {
			keys = append(keys, k)
		}
		ask, cancel := context.WithTimeout(ctx, g.timeout)
		f.answer, f.err = g.ask(ask, keys)
		cancel()
		close(f.done)
	}
}
