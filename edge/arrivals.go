package edge

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"reprise/stream"
)

const (
	// arrivalsGather is how long arrivals are gathered into one message.
	arrivalsGather = 20 * time.Millisecond
	// arrivalsAgain is after how long each is told once more: an edge may have been
	// out of reach.
	arrivalsAgain = 2 * time.Second
	// arrivalsKept bounds those that wait for being told. Above it the oldest are
	// not: their device may stay connected twice.
	arrivalsKept = 100_000
)

// arrivals tells the other edges which devices have connected here, so that they
// let go of older connections of the same.
type arrivals struct {
	// static after construction
	log    *stream.Log
	logger *slog.Logger
	more   chan struct{} // of one; sent to by add, never closed

	mu      sync.Mutex
	waiting []stream.Arrival
}

// add has an arrival told. It blocks on nothing.
func (a *arrivals) add(arrival stream.Arrival) {
	a.mu.Lock()
	if len(a.waiting) < arrivalsKept {
		a.waiting = append(a.waiting, arrival)
	}
	a.mu.Unlock()
	select {
	case a.more <- struct{}{}:
	default:
	}
}

func (a *arrivals) take() []stream.Arrival {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := a.waiting
	a.waiting = nil
	return all
}

// run tells of arrivals until ctx ends.
func (a *arrivals) run(ctx context.Context) {
	type told struct {
		at  time.Time
		all []stream.Arrival
	}
	var again []told // in order of their times
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var due <-chan time.Time
		if len(again) > 0 {
			timer.Reset(time.Until(again[0].at))
			due = timer.C
		}
		select {
		case <-a.more:
			select {
			case <-time.After(arrivalsGather):
			case <-ctx.Done():
				return
			}
			if all := a.take(); len(all) > 0 {
				a.tell(all)
				again = append(again, told{time.Now().Add(arrivalsAgain), all})
			}
		case <-due:
			a.tell(again[0].all)
			again = again[1:]
		case <-ctx.Done():
			return
		}
	}
}

func (a *arrivals) tell(all []stream.Arrival) {
	if err := a.log.Arrive(all); err != nil {
		a.logger.Warn("other edges are not told who has connected", "devices", len(all), "err", err)
	}
}

// arrived is called for each device that connects to another edge: an older
// connection of the same device here goes. If the one here is the newer one,
// whoever told does not know of it, and is told again.
func (s *Server) arrived(a stream.Arrival) {
	_, _ = s.clock.Update(a.At) // one that is far ahead does not count
	for _, c := range s.connections(a.User) {
		if c.device != a.Device {
			continue
		}
		if own := c.arrivalOf(); a.After(&own) {
			c.close(codeReplaced, "replaced by a newer connection")
		} else {
			s.arrivals.add(own)
		}
	}
}

func (c *conn) arrivalOf() stream.Arrival {
	return stream.Arrival{User: c.user, Device: c.device, Connection: c.id, At: c.came}
}
