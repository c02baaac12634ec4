package edge

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"reprise/hlc"
	"reprise/stream"
)

const (
	// arrivalsGather is how long arrivals are gathered into one message.
	arrivalsGather = 20 * time.Millisecond
	// arrivalsSettle is how long a connection has to live before it is told of: the end
	// of one that its device has given up comes right behind the request.
	arrivalsSettle = 200 * time.Millisecond
	// arrivalsAgain is after how long each is told once more: an edge may have been
	// out of reach.
	arrivalsAgain = 2 * time.Second
	// arrivalsKept bounds those that wait for being told. Above it the newest are
	// not: their device may stay connected twice.
	arrivalsKept = 100_000
	// arrivalFresh is how far the stamp of an arrival may be from the time at which it
	// is heard of, for it to be believed at once.
	arrivalFresh = 1500 * time.Millisecond
	// proofTime is how long an answer to the question whether a connection lives counts.
	proofTime = 5 * time.Second
)

// arrivals tells all edges, this one too, which devices have connected here, so that
// they let go of older connections of the same.
//
// Which of two connections is the newer one their stamps say, of a clock that all edges
// share as far as they hear of each other. That can be wrong: a handshake was under way
// for long, an edge stood still or was out of reach, its clock is off; and what it
// believes to be new its device has left already. So a connection is told of when it has
// lived for a while and the kernel has not heard of its end. The word of an edge is
// believed at once where it comes at the time that it names. Otherwise the connection
// has to live: its edge is asked, and its device has to answer a ping. Nobody loses the
// connection that works to one that does not.
type arrivals struct {
	// static after construction
	logger *slog.Logger
	more   chan struct{} // of one; sent to by add, never closed
	// stoodStill reports whether this edge has, lately.
	stoodStill func() bool
	// elsewhere tells the other edges, here this one.
	elsewhere func(stream.Word, []stream.Arrival) error
	here      func(stream.Word, stream.Arrival)

	clock hlc.Clock // of arrivals only: it follows that of any other edge

	mu      sync.Mutex
	waiting map[stream.Word][]mention
	asked   lately // connections of which is asked whether they live
	proving lately // connections here for which somebody asks
}

// mention is an arrival that is to be told of.
type mention struct {
	stream.Arrival
	c *conn // nil is elsewhere
}

// add has a word told of a connection. It blocks on nothing.
func (a *arrivals) add(word stream.Word, m mention) {
	a.mu.Lock()
	if len(a.waiting[word]) < arrivalsKept {
		a.waiting[word] = append(a.waiting[word], m)
	}
	a.mu.Unlock()
	select {
	case a.more <- struct{}{}:
	default:
	}
}

func (a *arrivals) take() map[stream.Word][]mention {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := a.waiting
	a.waiting = make(map[stream.Word][]mention)
	return all
}

// run tells of arrivals until ctx ends.
func (a *arrivals) run(ctx context.Context) {
	type telling struct {
		at  time.Time
		all []mention
	}
	var settling, again []telling // in order of their times
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var due <-chan time.Time
		for _, next := range [][]telling{settling, again} {
			if len(next) > 0 && (due == nil || next[0].at.Before(settling[0].at)) {
				timer.Reset(time.Until(next[0].at))
				due = timer.C
			}
		}
		select {
		case <-a.more:
			select {
			case <-time.After(arrivalsGather):
			case <-ctx.Done():
				return
			}
			for word, all := range a.take() {
				if word == stream.Arrived {
					settling = append(settling, telling{time.Now().Add(arrivalsSettle), all})
					continue
				}
				a.tell(word, all)
				if word == stream.Stays {
					again = append(again, telling{time.Now().Add(arrivalsAgain), all})
				}
			}
		case <-due:
			if len(settling) > 0 && !time.Now().Before(settling[0].at) {
				word := stream.Arrived
				if a.stoodStill() {
					word = stream.Stays
				}
				a.tell(word, settling[0].all)
				again = append(again, telling{time.Now().Add(arrivalsAgain), settling[0].all})
				settling = settling[1:]
			}
			if len(again) > 0 && !time.Now().Before(again[0].at) {
				a.tell(stream.Stays, again[0].all)
				again = again[1:]
			}
		case <-ctx.Done():
			return
		}
	}
}

func (a *arrivals) tell(word stream.Word, all []mention) {
	arrivals := make([]stream.Arrival, 0, len(all))
	for _, m := range all {
		if m.c == nil || m.c.ending.Load() == 0 && !hungUp(m.c.wire.Conn) {
			arrivals = append(arrivals, m.Arrival)
		}
	}
	if err := a.elsewhere(word, arrivals); err != nil {
		a.logger.Warn("other edges are not told who has connected", "devices", len(arrivals), "err", err)
	}
	for _, arrival := range arrivals {
		a.here(word, arrival)
	}
}

// ask asks whether a connection lives.
func (a *arrivals) ask(of stream.Arrival) {
	a.mu.Lock()
	a.asked.add(of.Connection)
	a.mu.Unlock()
	a.add(stream.Asked, mention{Arrival: of})
}

// answered reports whether that was asked of a connection.
func (a *arrivals) answered(connection string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked.has(connection)
}

// heard is told of every sign of life that was asked for.
func (a *arrivals) heard(c *conn) {
	a.mu.Lock()
	proved := a.proving.take(c.id)
	a.mu.Unlock()
	if proved {
		a.add(stream.Lives, c.mention())
	}
}

// prove finds out whether c lives.
func (a *arrivals) prove(c *conn) {
	a.mu.Lock()
	a.proving.add(c.id)
	a.mu.Unlock()
	c.signal(sayPing)
}

// arrived is called for each connection that an edge tells of: an older one of the same
// device here goes. If the one here is the newer one, whoever told does not know of it,
// and is told again.
func (s *Server) arrived(word stream.Word, a stream.Arrival) {
	s.arrivals.clock.Merge(a.At)
	fresh := word == stream.Arrived && time.Since(a.At.Time()).Abs() < arrivalFresh
	for _, c := range s.connections(a.User) {
		if c.device != a.Device {
			continue
		}
		own := c.mention()
		switch {
		case word == stream.Asked:
			if c.id == a.Connection {
				s.arrivals.prove(c)
			}
		case c.id == a.Connection:
		case !a.After(&own.Arrival):
			if word != stream.Lives {
				s.arrivals.add(stream.Stays, own)
			}
		case fresh, word == stream.Lives && s.arrivals.answered(a.Connection):
			c.close(codeReplaced, "replaced by a newer connection")
		case word != stream.Lives:
			s.arrivals.ask(a)
		}
	}
}

func (c *conn) mention() mention {
	return mention{stream.Arrival{User: c.user, Device: c.device, Connection: c.id, At: c.came}, c}
}

// lately is a set of connections, each for proofTime. The zero lately is empty.
type lately struct {
	since map[string]time.Time
	order []string // in order of their times, also what was taken
}

func (l *lately) add(connection string) {
	now := time.Now()
	for len(l.order) > 0 && now.Sub(l.since[l.order[0]]) > proofTime { // that of what was taken is long ago
		delete(l.since, l.order[0])
		l.order = l.order[1:]
	}
	if l.since == nil {
		l.since = make(map[string]time.Time)
	}
	if _, ok := l.since[connection]; !ok {
		l.order = append(l.order, connection)
	}
	l.since[connection] = now
}

// take takes a connection out and reports whether it was in.
func (l *lately) take(connection string) bool {
	in := l.has(connection)
	delete(l.since, connection)
	return in
}

func (l *lately) has(connection string) bool {
	since, ok := l.since[connection]
	return ok && time.Since(since) <= proofTime
}
