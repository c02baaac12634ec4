package peers

import (
	"io"
	"sync"
	"time"
)

// A device is one of a user: it hears numbers, which are to be 1, 2, 3, …
type device struct {
	user int
	name string // a UUID

	mu      sync.Mutex
	cursor  string // where it goes on, in the words of its relay; "" is now
	have    int    // numbers up to this one have come, or are missing
	missing map[int]bool
	doubled int
	told    bool          // that something is missing
	moved   time.Time     // when a number came last
	changed chan struct{} // closed, and made anew, when something came
	conn    io.Closer     // nil is none
}

// heard takes a number.
func (d *device) heard(n int, cursor string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case n > d.have:
		for m := d.have + 1; m < n; m++ {
			d.missing[m] = true
		}
		d.have = n
	case d.missing[n]:
		delete(d.missing, n)
	default:
		d.doubled++
	}
	d.cursor, d.moved = cursor, time.Now()
	d.wake()
}

// at moves the cursor where no number does.
func (d *device) at(cursor string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cursor = cursor
	d.wake()
}

// incomplete notes that the relay says so.
func (d *device) incomplete() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.told = true
}

func (d *device) wake() { // mu is held
	if d.changed != nil {
		close(d.changed)
	}
	d.changed = make(chan struct{})
}

// quiet is how long nothing comes before what is missing is lost. A burst that looks as
// if PubNub had dropped a part of it may hold up a relay's events for half a minute.
const quiet = 40 * time.Second

// await waits for a number, or until nothing more comes, and returns when the last came.
func (d *device) await(n int) time.Time {
	began := time.Now()
	for {
		d.mu.Lock()
		if d.changed == nil {
			d.changed = make(chan struct{})
		}
		changed, moved := d.changed, d.moved
		done := d.have >= n && len(d.missing) == 0
		d.mu.Unlock()
		left := quiet - time.Since(began)
		if moved.After(began) {
			left = quiet - time.Since(moved)
		}
		if done || left <= 0 {
			return moved
		}
		select {
		case <-changed:
		case <-time.After(left):
		}
	}
}

// lost is how many of n numbers have not come.
func (d *device) lost(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.missing) + max(0, n-d.have)
}
