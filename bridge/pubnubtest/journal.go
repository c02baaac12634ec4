package pubnubtest

import (
	"context"
	"slices"
	"sync"
	"time"
)

// journalBytes bounds the journal's URIs and bodies.
const journalBytes = 4 << 20

// A Request is a line of the journal.
type Request struct {
	N        int // 1 for the first request of the server's life
	Time     time.Time
	Endpoint Endpoint
	Method   string
	URI      string // as sent: in absolute form, escaped, with credentials
	Body     []byte // not to be modified; cut after 32 KiB
	Fault    Kind   // the fault that befell it; "" is none
}

// A journal keeps the newest requests. The oldest go first.
type journal struct {
	limit int // static

	mu       sync.Mutex
	requests []Request
	count    int
	bytes    int
	changed  signal
}

func (j *journal) add(r Request) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.count++
	r.N = j.count
	j.bytes += len(r.URI) + len(r.Body)
	j.requests = append(j.requests, r)
	drop := 0
	for len(j.requests)-drop > j.limit || j.bytes > journalBytes {
		old := &j.requests[drop]
		j.bytes -= len(old.URI) + len(old.Body)
		*old = Request{}
		drop++
	}
	j.requests = j.requests[drop:]
	j.changed.fire()
}

// Journal returns the newest requests, oldest first. A request is in it before
// it is carried out.
func (s *Server) Journal() []Request {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	return slices.Clone(s.journal.requests)
}

// WaitRequest returns the first request in the journal, past or future, whose
// number is above after and for which match is true; nil matches all. It
// returns ctx's error if that ends before.
func (s *Server) WaitRequest(ctx context.Context, after int, match func(Request) bool) (Request, error) {
	j := &s.journal
	for {
		j.mu.Lock()
		requests, changed := slices.Clone(j.requests), j.changed.wait()
		j.mu.Unlock()
		for _, r := range requests {
			if r.N > after {
				after = r.N
				if match == nil || match(r) {
					return r, nil
				}
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Request{}, context.Cause(ctx)
		}
	}
}
