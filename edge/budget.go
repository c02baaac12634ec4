package edge

import (
	"sync"
	"sync/atomic"
)

// budget bounds the memory of all tails. When it is exceeded, the tails that
// were used longest ago lose their oldest events: their floors rise, and who
// reads there reads from the log instead. Nothing is lost, and nobody waits.
type budget struct {
	limit int64
	used  atomic.Int64

	// guarded by mu, which is taken after a tail's and held for pointers only
	mu             sync.Mutex
	oldest, newest *tail
}

// evictAtOnce is how many events a tail loses before the next one is asked.
const evictAtOnce = 16

// touch makes t the most recently used of the tails that hold something.
func (b *budget) touch(t *tail) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.newest == t {
		return
	}
	b.unlink(t)
	t.older, t.newer = b.newest, nil
	if b.newest != nil {
		b.newest.newer = t
	} else {
		b.oldest = t
	}
	b.newest, t.listed = t, true
}

// forget takes t, which holds nothing, off the list.
func (b *budget) forget(t *tail) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unlink(t)
}

func (b *budget) unlink(t *tail) {
	if !t.listed {
		return
	}
	if t.older != nil {
		t.older.newer = t.newer
	} else {
		b.oldest = t.newer
	}
	if t.newer != nil {
		t.newer.older = t.older
	} else {
		b.newest = t.older
	}
	t.older, t.newer, t.listed = nil, nil, false
}

// shrink brings the tails back under the limit. The caller holds no lock.
func (b *budget) shrink() {
	for b.used.Load() > b.limit {
		b.mu.Lock()
		t := b.oldest
		b.mu.Unlock()
		if t == nil {
			return
		}
		t.drop(evictAtOnce, b)
	}
}
