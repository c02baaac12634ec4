package stream

import (
	"sync"
	"time"
)

// recent remembers keys for a while, so that what was done for them is not done
// again. It keeps the newest most of them; an older one is forgotten, and then
// done once more.
type recent[K comparable] struct {
	// static after construction
	life time.Duration
	most int

	// guarded by mu
	mu    sync.Mutex
	since map[K]time.Time
	order []noted[K] // oldest first; since does not bear out one that was forgotten
}

type noted[K comparable] struct {
	key K
	at  time.Time
}

func newRecent[K comparable](life time.Duration, most int) *recent[K] {
	return &recent[K]{life: life, most: most, since: make(map[K]time.Time)}
}

// has says whether key is remembered.
func (r *recent[K]) has(key K, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.prune(now, r.most)
	_, ok := r.since[key]
	return ok
}

// claim remembers key from now on. It says whether that is new.
func (r *recent[K]) claim(key K, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.prune(now, r.most)
	if _, ok := r.since[key]; ok {
		return false
	}
	r.prune(now, r.most-1)
	r.since[key] = now
	r.order = append(r.order, noted[K]{key, now})
	return true
}

func (r *recent[K]) forget(key K) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.since, key)
}

// drop forgets the keys that which says.
func (r *recent[K]) drop(which func(K) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key := range r.since {
		if which(key) {
			delete(r.since, key)
		}
	}
}

// prune forgets what is too old, and the oldest until most are left. Called
// with mu held.
func (r *recent[K]) prune(now time.Time, most int) {
	for len(r.order) > 0 && (len(r.order) > most || now.Sub(r.order[0].at) >= r.life) {
		old := r.order[0]
		if r.since[old.key].Equal(old.at) {
			delete(r.since, old.key)
		}
		r.order[0] = noted[K]{} // let go of the key
		r.order = r.order[1:]
	}
}
