package edge

import (
	"sort"

	"reprise/hlc"
	"reprise/stream"
)

// event is one event of a user as tails hold it. Nothing in it changes.
type event struct {
	at      stream.Position
	frame   []byte
	device  string // origin, or ""
	expires int64  // Unix ms; 0 is never
	stored  int64  // Unix ns, when the log's server stored it; 0 is unknown
	trace   *span  // nil unless the event's trace is sampled
}

// eventOverhead is what an event costs beside its frame, in the budget's terms.
const eventOverhead = 160

func (e *event) size() int64 { return int64(len(e.frame)) + eventOverhead }

// window is the newest events of one user, in a ring that grows to a limit. It
// holds every event of the user after floor, and none at or before it.
type window struct {
	floor stream.Position
	ring  []event
	head  int // index in ring of the oldest
	n     int
}

// add appends ev, dropping the oldest event when there are limit. It returns
// by how many bytes the window has grown.
func (w *window) add(ev event, limit int) (grown int64) {
	if w.n == limit {
		grown -= w.drop(1)
	}
	if w.n == len(w.ring) {
		w.grow(limit)
	}
	w.ring[(w.head+w.n)%len(w.ring)] = ev
	w.n++
	return grown + ev.size()
}

func (w *window) grow(limit int) {
	ring := make([]event, min(max(4, 2*len(w.ring)), limit))
	for i := range w.n {
		ring[i] = *w.at(i)
	}
	w.ring, w.head = ring, 0
}

// at is the i-th event, oldest first.
func (w *window) at(i int) *event { return &w.ring[(w.head+i)%len(w.ring)] }

// drop forgets the n oldest events and raises the floor to the last of them. It
// returns their bytes.
func (w *window) drop(n int) (freed int64) {
	for ; n > 0 && w.n > 0; n-- {
		e := w.at(0)
		freed += e.size()
		w.floor = e.at
		*e = event{}
		w.head = (w.head + 1) % len(w.ring)
		w.n--
	}
	return freed
}

// reset forgets everything and starts again at floor. It returns the bytes.
func (w *window) reset(floor stream.Position) (freed int64) {
	freed = w.drop(w.n)
	w.ring, w.head, w.floor = nil, 0, floor
	return freed
}

// meeting is up to where a replay reads what the window does not hold: the floor. That
// of a full window rises with each event, and a replay that reads up to there never gets
// above it while events come; it reads up to the middle, and has half a window of time.
func (w *window) meeting(limit int) stream.Position {
	if w.n < limit {
		return w.floor
	}
	return w.at(w.n / 2).at
}

// after appends to dst the events after pos, oldest first, as many as dst has
// room for. It reports false when pos lies before the floor: the window cannot
// tell then what comes next.
func (w *window) after(pos hlc.Timestamp, dst []event) ([]event, bool) {
	if pos < w.floor.Hlc {
		return dst, false
	}
	i := sort.Search(w.n, func(i int) bool { return w.at(i).at.Hlc > pos })
	for ; i < w.n && len(dst) < cap(dst); i++ {
		dst = append(dst, *w.at(i))
	}
	return dst, true
}
