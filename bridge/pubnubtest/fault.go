package pubnubtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// A Kind is what goes wrong.
type Kind string

// Kinds that stand in place of the answer. The request is not carried out
// unless Fault.AfterWork is set.
const (
	Status  Kind = "status"  // any status, and any body: Fault.Status, Body, RetryAfter, Location
	Hangup  Kind = "hangup"  // the connection is closed without an answer
	Reset   Kind = "reset"   // the connection is reset (RST) without an answer
	Garbage Kind = "garbage" // bytes that are not HTTP, then the connection is closed
	Hold    Kind = "hold"    // nothing for Fault.Delay (0: until cleared); then all goes on as usual
)

// Kinds that damage the real answer on its way out.
const (
	Stall      Kind = "stall"       // header and half of the body, nothing for Delay (0: until cleared), the rest
	Drip       Kind = "drip"        // N bytes (0: 1) at a time, Delay apart
	LongLength Kind = "long-length" // Content-Length is one more than the body; then the connection is closed
	CutChunks  Kind = "cut-chunks"  // a chunked body, half of it, without its end
	CutJSON    Kind = "cut-json"    // half of the body, with the right Content-Length
)

// Kinds that change what a subscribe says. The endpoint is Poll if none is
// given.
const (
	NumberCursor   Kind = "number-cursor"   // t.t is a number, not a string
	ZeroCursor     Kind = "zero-cursor"     // t.t is "0"
	WideRegion     Kind = "wide-region"     // t.r is 300
	StringSequence Kind = "string-sequence" // s is a string
	Replay         Kind = "replay"          // t.t is the request's: the next poll gets the same messages again
	Backwards      Kind = "backwards"       // t.t is older than the request's, by Delay (0: 1 s)
	Shuffle        Kind = "shuffle"         // the messages of the page are in any order
	Overflow       Kind = "overflow"        // the live queue is only N long (0: 1): older messages are skipped
)

// Kinds that change what history says. The endpoint is History if none is given.
const (
	NullUUID        Kind = "null-uuid"        // uuid is null
	NumberTimetoken Kind = "number-timetoken" // timetoken is a number
)

// kinds maps each kind to the endpoint that it is confined to.
var kinds = map[Kind]Endpoint{
	Status: Any, Hangup: Any, Reset: Any, Garbage: Any, Hold: Any,
	Stall: Any, Drip: Any, LongLength: Any, CutChunks: Any, CutJSON: Any,
	NumberCursor: Poll, ZeroCursor: Poll, WideRegion: Poll, StringSequence: Poll,
	Replay: Poll, Backwards: Poll, Shuffle: Poll, Overflow: Poll,
	NullUUID: History, NumberTimetoken: History,
}

// A Fault says which requests go wrong, and how.
type Fault struct {
	Kind Kind

	// Which requests.
	Endpoint    Endpoint           // Any is all, unless Kind has an endpoint of its own
	Match       func(Request) bool // further condition; nil is none. Called under a lock
	Nth         int                // the first of the matching requests to go wrong, from 1; 0 is 1
	Times       int                // how many go wrong; 0 is until cleared
	Probability float64            // with which each does; 0 is always

	// AfterWork lets the request be carried out first, so that only the answer is
	// lost. It matters for kinds that stand in place of the answer.
	AfterWork bool

	// How, where the kind asks for it.
	Delay      time.Duration
	N          int
	Status     int           // 200 to 999; 0 is 200
	Body       string        // "" is what PubNub says with that status; with 200, nothing
	RetryAfter time.Duration // header Retry-After, in whole seconds; 0 is none
	Location   string        // header Location; "" is none
}

// An Injection is a fault that has been injected.
type Injection struct {
	owner   *faults
	fault   Fault
	once    sync.Once
	cleared chan struct{} // closed by Clear

	// Guarded by owner.mu.
	seen    int
	hits    int
	changed signal
}

// faults are those in force, in the order of their injection.
type faults struct {
	mu      sync.Mutex
	chance  *rand.Rand
	inForce []*Injection
}

// Inject puts a fault into force. If several match a request, the earliest
// that is due befalls it, and later ones do not count it. Inject panics if the
// fault makes no sense: an unknown kind, a kind at an endpoint that it is not
// for, a number out of range.
func (s *Server) Inject(f Fault) *Injection {
	home, known := kinds[f.Kind]
	if f.Endpoint == Any {
		f.Endpoint = home
	}
	switch {
	case !known:
		panic(fmt.Sprintf("pubnubtest: Inject: unknown kind %q", f.Kind))
	case home == Poll && !Subscribe.selects(f.Endpoint),
		home == History && f.Endpoint != History:
		panic(fmt.Sprintf("pubnubtest: Inject: %s is not for %s", f.Kind, f.Endpoint))
	case f.Status != 0 && (f.Status < 200 || f.Status > 999):
		panic(fmt.Sprintf("pubnubtest: Inject: status %d", f.Status))
	case f.Nth < 0 || f.Times < 0 || f.N < 0 || f.Delay < 0 || f.RetryAfter < 0:
		panic("pubnubtest: Inject: negative number")
	case f.Probability < 0 || f.Probability > 1:
		panic(fmt.Sprintf("pubnubtest: Inject: probability %v", f.Probability))
	}
	i := &Injection{owner: &s.faults, fault: f, cleared: make(chan struct{})}
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.inForce = append(s.faults.inForce, i)
	return i
}

// ClearFaults clears all faults.
func (s *Server) ClearFaults() {
	s.faults.mu.Lock()
	all := slices.Clone(s.faults.inForce)
	s.faults.mu.Unlock()
	for _, i := range all {
		i.Clear()
	}
}

// Clear takes the fault out of force. Requests that it holds go on.
func (i *Injection) Clear() {
	i.once.Do(func() { close(i.cleared) })
	i.owner.mu.Lock()
	defer i.owner.mu.Unlock()
	i.owner.inForce = slices.DeleteFunc(i.owner.inForce, func(x *Injection) bool { return x == i })
}

// Hits returns how many requests the fault has befallen.
func (i *Injection) Hits() int {
	i.owner.mu.Lock()
	defer i.owner.mu.Unlock()
	return i.hits
}

// WaitHits returns when the fault has befallen at least n requests, or with
// ctx's error. The last of them may still be on its way.
func (i *Injection) WaitHits(ctx context.Context, n int) error {
	for {
		i.owner.mu.Lock()
		reached, changed := i.hits >= n, i.changed.wait()
		i.owner.mu.Unlock()
		if reached {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// pick returns the fault that befalls a request, or nil.
func (f *faults) pick(r Request) *Injection {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, i := range f.inForce {
		if !i.fault.Endpoint.selects(r.Endpoint) || i.fault.Match != nil && !i.fault.Match(r) {
			continue
		}
		i.seen++
		switch {
		case i.seen < i.fault.Nth,
			i.fault.Times > 0 && i.hits >= i.fault.Times,
			i.fault.Probability > 0 && f.chance.Float64() >= i.fault.Probability:
			continue
		}
		i.hits++
		i.changed.fire()
		return i
	}
	return nil
}
