package edge

import "sync"

// announcementsKept bounds the announcements in memory. A connection that has
// fallen further behind misses the oldest: they are live only.
const announcementsKept = 64

// announcements is the newest announcements, numbered from 0. As with events, a
// connection holds a number and no queue.
type announcements struct {
	mu    sync.Mutex
	ring  [announcementsKept][]byte
	count uint64
}

func (a *announcements) add(frame []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ring[a.count%announcementsKept] = frame
	a.count++
}

// next is the number that the next announcement will have.
func (a *announcements) next() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count
}

// after returns the announcement with number n, or the oldest kept after it,
// and the number that follows; nil when there is none yet.
func (a *announcements) after(n uint64) (frame []byte, next uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n >= a.count {
		return nil, n
	}
	if a.count-n > announcementsKept {
		n = a.count - announcementsKept
	}
	return a.ring[n%announcementsKept], n + 1
}
