package edge

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"reprise/hlc"
	"reprise/stream"
)

func at(n int) stream.Position { return stream.Position{Seq: uint64(n), Hlc: hlc.New(int64(n), 0)} }

// Whatever is appended, evicted and read in whatever order: a reader that takes
// what lies before the floor from the log sees every event once, in order.
func TestWindowYieldsEachEventOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limit := rapid.IntRange(1, 9).Draw(rt, "limit")
		start := rapid.IntRange(0, 3).Draw(rt, "start")
		w := window{floor: at(start)}
		var log, got []int
		for n := 1; n <= start; n++ {
			log = append(log, n)
		}
		next, pos, bytes := start+1, 0, int64(0)
		read := func(room int) bool {
			evs, above := w.after(hlc.New(int64(pos), 0), make([]event, 0, room))
			if !above {
				for _, n := range log {
					if n > pos && n <= int(w.floor.Seq) {
						got = append(got, n)
					}
				}
				pos = int(w.floor.Seq)
				return true
			}
			for _, e := range evs {
				got = append(got, int(e.at.Seq))
				pos = int(e.at.Seq)
			}
			return len(evs) > 0
		}
		rt.Repeat(map[string]func(*rapid.T){
			"append": func(rt *rapid.T) {
				next += rapid.IntRange(0, 2).Draw(rt, "others") // records of other users between
				log = append(log, next)
				bytes += w.add(event{at: at(next), frame: make([]byte, next%7)}, limit)
				next++
			},
			"evict": func(rt *rapid.T) { bytes -= w.drop(rapid.IntRange(1, 4).Draw(rt, "n")) },
			"read":  func(rt *rapid.T) { read(rapid.IntRange(1, 5).Draw(rt, "room")) },
			"": func(rt *rapid.T) {
				var held int64
				for i := range w.n {
					held += w.at(i).size()
					if w.at(i).at.Seq <= w.floor.Seq {
						rt.Fatalf("event %d at or before the floor %d", w.at(i).at.Seq, w.floor.Seq)
					}
				}
				if held != bytes || w.n > limit {
					rt.Fatalf("window holds %d bytes in %d events, want %d bytes in at most %d", held, w.n, bytes, limit)
				}
			},
		})
		for read(3) {
		}
		if !slices.Equal(got, log) {
			rt.Fatalf("read %v, want %v", got, log)
		}
	})
}

// Who has read up to the meeting is above the floor until half a window of events has
// come, whatever the limit; where the window is not full, reading ends at the floor.
func TestWindowMeeting(t *testing.T) {
	t.Parallel()
	for limit := 1; limit < 20; limit++ {
		w := window{floor: at(1)}
		n := 1
		add := func(events int) {
			for range events {
				n++
				w.add(event{at: at(n)}, limit)
			}
		}
		for add(limit - 1); n < 5*limit; add(1) {
			reached := w.meeting(limit)
			if w.n < limit {
				if reached != w.floor {
					t.Fatalf("meeting(%d) of %d events = %v, want the floor %v", limit, w.n, reached, w.floor)
				}
				continue
			}
			later := window{floor: w.floor, ring: slices.Clone(w.ring), head: w.head, n: w.n}
			for i := range (limit + 1) / 2 {
				if _, above := later.after(reached.Hlc, nil); !above {
					t.Fatalf("limit %d: after %d more events the meeting %v is below the floor %v", limit, i, reached, later.floor)
				}
				later.add(event{at: at(n + 1 + i)}, limit)
			}
		}
	}
}

func TestWindowReset(t *testing.T) {
	t.Parallel()
	var w window
	for n := 1; n <= 5; n++ {
		w.add(event{at: at(n), frame: []byte("x")}, 4)
	}
	if freed := w.reset(at(9)); freed != 4*(1+eventOverhead) {
		t.Errorf("reset() = %d bytes, want %d", freed, 4*(1+eventOverhead))
	}
	if _, above := w.after(at(8).Hlc, nil); above {
		t.Error("after(8) = above, want below the new floor 9")
	}
	if evs, above := w.after(at(9).Hlc, make([]event, 0, 1)); !above || len(evs) != 0 {
		t.Errorf("after(9) = %d events, %v, want none, true", len(evs), above)
	}
}

// The budget takes from the tails that were used longest ago, oldest events
// first, and only as much as it must.
func TestBudgetEvictsLeastRecentlyUsed(t *testing.T) {
	t.Parallel()
	b := &budget{limit: 60 * eventOverhead}
	tails := make([]*tail, 4)
	for i := range tails {
		tails[i] = &tail{user: fmt.Sprint(i)}
	}
	n := 0
	fill := func(i, events int) {
		for range events {
			n++
			tails[i].add(event{at: at(n)}, 256, b)
			b.shrink()
		}
	}
	fill(0, 20)
	fill(1, 20)
	fill(2, 20)
	if b.used.Load() != b.limit {
		t.Fatalf("used = %d, want the limit %d", b.used.Load(), b.limit)
	}
	fill(0, 1) // 0 becomes the newest, 1 has to give
	if got := []int{tails[0].window.n, tails[1].window.n, tails[2].window.n}; !slices.Equal(got, []int{21, 20 - evictAtOnce, 20}) {
		t.Errorf("events held = %v, want 1 to have lost %d", got, evictAtOnce)
	}
	fill(3, 60)
	if got := []int{tails[0].window.n, tails[1].window.n, tails[2].window.n}; !slices.Equal(got, []int{0, 0, 0}) {
		t.Errorf("events held by the older tails = %v, want none", got)
	}
	if b.used.Load() > b.limit {
		t.Errorf("used = %d, above the limit %d", b.used.Load(), b.limit)
	}
	if f := tails[1].floor(); f.Seq != 40 {
		t.Errorf("floor of an emptied tail = %d, want its last event 40", f.Seq)
	}
}
