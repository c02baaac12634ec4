package bridge

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxReply    = 16 << 20 // bytes of a subscribe reply; 100 payloads of 32 KiB are a fifth of it
	maxWait     = 5 * time.Minute
	backoffCap  = 10 * time.Second
	backoffBase = 100 * time.Millisecond
)

// guard is the transport under the SDK's subscribe client, and where events
// are taken from. The SDK decides when to poll and signs the request; guard
// reads the reply raw, has it stored, remembers the cursor, and only then
// answers with the cursor and no messages. Behind a full page the next poll is
// sent meanwhile. Whatever goes wrong, the SDK sees a
// good reply with the old cursor and polls again: its own handling of errors
// ends the subscription, or moves it to "now", without a word.
type guard struct {
	// Static after construction.
	base  http.RoundTripper
	store func(*page) error // has all of a page stored, and may change next; called by one poll at a time
	polls *pulse
	// renew is called before every poll and, with refused set, after each 403.
	renew func(refused bool)
	// timeout bounds one poll, the reading of its body included.
	timeout time.Duration

	// slot holds one token for the poll that is being carried out. It is never
	// closed; whoever has put the token in owns the fields below.
	slot   chan struct{}
	at     cursor        // everything before it is stored
	fails  int           // failures since the last good poll
	spoilt int           // bad replies since then
	heard  time.Time     // when the last good reply came; zero when there was none
	trip   time.Duration // how long a reply that waits takes, by the quickest of late; 0 is not known
	ahead  *asked        // the poll after the one that is being stored; nil is none

	troubled atomic.Bool // the last poll that ended had no good reply

	mu      sync.Mutex              // guards what follows
	stopped bool                    // no poll is begun any more
	begun   chan struct{}           // closed by the first call after open
	cancel  context.CancelCauseFunc // ends the newest poll
	changes []*change               // to be made before the next poll
	calls   int                     // polls the SDK has in here
	left    time.Time               // when calls became 0 last
}

func newGuard(base http.RoundTripper, at cursor, timeout time.Duration, polls *pulse) *guard {
	return &guard{base: base, at: at, timeout: timeout, polls: polls, renew: func(bool) {},
		slot: make(chan struct{}, 1), begun: make(chan struct{}), left: time.Now()}
}

// Causes that end a poll before its reply: in favour of a newer one, and in
// favour of a change.
var (
	errSuperseded = errors.New("superseded by a newer poll")
	errChange     = errors.New("ended for a change")
)

// open lets polls in. The channel that it returns is closed by the first one.
func (g *guard) open() (begun <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stopped, g.begun, g.left = false, make(chan struct{}), time.Now()
	return g.begun
}

// change is something to be done between two polls.
type change struct {
	fn      func()
	decided atomic.Bool   // it is being made, or was given up
	done    chan struct{} // closed when it is made
}

// change calls fn between two polls, when the reply before is stored and
// nothing is asked for yet, and returns when it has been called. A poll that
// waits for its reply is ended. If ctx ends first fn is not called.
func (g *guard) change(ctx context.Context, fn func()) error {
	c := &change{fn: fn, done: make(chan struct{})}
	g.mu.Lock()
	g.changes = append(g.changes, c)
	if g.cancel != nil {
		g.cancel(errChange)
	}
	g.mu.Unlock()
	select {
	case g.slot <- struct{}{}:
		g.makeChanges()
		<-g.slot
	case <-c.done:
	case <-ctx.Done():
		if !c.decided.Swap(true) {
			return ctx.Err()
		}
	}
	<-c.done
	return nil
}

// makeChanges makes the changes that wait. The caller has the slot.
func (g *guard) makeChanges() {
	g.mu.Lock()
	changes := g.changes
	g.changes = nil
	g.mu.Unlock()
	for _, c := range changes {
		if !c.decided.Swap(true) {
			c.fn()
			close(c.done)
		}
	}
}

// RoundTrip implements [http.RoundTripper]. Its only error is
// context.Canceled: "context canceled" is the one text that ends the SDK's
// loop without side effects.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		req.Body.Close()
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	defer cancel(nil)
	if !g.enter(cancel) {
		return nil, context.Canceled
	}
	defer g.leave()
	select {
	case g.slot <- struct{}{}:
	case <-ctx.Done():
		if context.Cause(ctx) != errChange {
			return nil, context.Canceled
		}
		g.slot <- struct{}{} // the change comes first
	}
	defer func() { <-g.slot }()
	if ctx.Err() != nil && context.Cause(ctx) != errChange {
		return nil, context.Canceled
	}
	g.makeChanges()
	g.renew(false)
	if req.URL.Query().Get("tt") != g.at.timetoken {
		return g.answer(req), nil // a handshake, or a cursor that is not ours
	}
	if err := g.poll(ctx, req); err != nil && !g.wait(ctx, err) {
		return nil, context.Canceled
	}
	g.makeChanges()
	return g.answer(req), nil
}

// asked is a poll that is under way, or has its reply.
type asked struct {
	at     cursor
	req    *http.Request
	cancel context.CancelFunc
	done   chan struct{} // closed when what follows is there

	began, heard time.Time // by the wall: the other clock stands still while the machine sleeps
	page         page
	err          error
}

// newAsked is the SDK's request, from a cursor on. The caller has it sent.
func (g *guard) newAsked(ctx context.Context, req *http.Request, at cursor) *asked {
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	return &asked{at: at, req: outgoing(ctx, req, at), cancel: cancel, done: make(chan struct{})}
}

// send sends the request and waits for the reply.
func (a *asked) send(base http.RoundTripper) {
	defer a.cancel()
	a.began = time.Now().Round(0)
	a.page, a.err = fetch(base, a.req)
	a.heard = time.Now().Round(0)
	close(a.done)
}

// ask carries out a poll from g.at, or takes the reply to one that was sent
// ahead.
func (g *guard) ask(ctx context.Context, req *http.Request) *asked {
	a := g.ahead
	g.ahead = nil
	switch {
	case a != nil && a.at == g.at:
		defer context.AfterFunc(ctx, a.cancel)()
		<-a.done
		return a
	case a != nil:
		a.cancel()
	}
	a = g.newAsked(ctx, req, g.at)
	a.send(g.base)
	return a
}

// askAhead sends the next poll while a full page is being stored. It says
// nothing to PubNub about what came before: should that not be stored, the reply
// is thrown away.
func (g *guard) askAhead(req *http.Request, at cursor) {
	g.ahead = g.newAsked(context.WithoutCancel(req.Context()), req, at)
	go g.ahead.send(g.base)
}

// unask ends a poll that was sent ahead. The caller has the slot.
func (g *guard) unask() {
	if g.ahead != nil {
		g.ahead.cancel()
		g.ahead = nil
	}
}

// poll carries out one poll. The cursor has moved if and only if err is nil.
func (g *guard) poll(ctx context.Context, req *http.Request) error {
	a := g.ask(ctx, req)
	p, err := a.page, a.err
	if err != nil {
		if ctx.Err() != nil {
			return &pollError{result: pollSuperseded}
		}
		if err.(*pollError).result == pollBadReply {
			g.spoilt++
		}
		g.troubled.Store(true)
		g.polls.failed(time.Now())
		return err
	}
	g.polls.good(time.Now())
	g.troubled.Store(false)
	if took := a.heard.Sub(a.began); g.trip == 0 || took < g.trip {
		g.trip = took
	} else {
		g.trip = min(took, g.trip+g.trip/8) // the way may have become longer
	}
	p.prev, p.spoilt, p.trip = g.at, g.spoilt, g.trip
	if !g.heard.IsZero() {
		p.lapse = max(0, a.began.Sub(g.heard))
	}
	if len(p.messages) >= fullPage && p.next != g.at {
		g.askAhead(req, p.next)
	}
	if err := g.store(&p); err != nil {
		return &pollError{result: pollStore, class: err.Error()}
	}
	stalled := p.next == g.at
	g.at, g.heard, g.spoilt = p.next, a.heard, 0
	if stalled && len(p.messages) > 0 {
		// The same messages would come again at once.
		return &pollError{result: pollStalled}
	}
	g.fails = 0
	g.polls.count(pollOK, "")
	return nil
}

// fetch sends a poll and reads the reply.
func fetch(base http.RoundTripper, req *http.Request) (page, error) {
	resp, err := base.RoundTrip(req)
	if err != nil {
		return page{}, networkError(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	switch {
	case resp.StatusCode != http.StatusOK:
		return page{}, statusError(resp)
	case err != nil:
		return page{}, networkError(err)
	case len(body) > maxReply:
		return page{}, &pollError{result: pollBadReply, class: "subscribe reply: more than 16 MiB"}
	}
	p, err := parsePage(body)
	if err != nil {
		return page{}, &pollError{result: pollBadReply, class: err.Error()}
	}
	return p, nil
}

// outgoing is the request as it goes to PubNub: unmodified but for the cursor,
// whose region may not fit the SDK's int8. (Nothing is signed here: a bridge has
// no secret key.)
func outgoing(ctx context.Context, req *http.Request, at cursor) *http.Request {
	out := req.Clone(ctx)
	parts := strings.Split(out.URL.RawQuery, "&")
	for i, part := range parts {
		switch {
		case strings.HasPrefix(part, "tt="):
			parts[i] = "tt=" + at.timetoken
		case strings.HasPrefix(part, "tr=") && !at.isZero():
			parts[i] = "tr=" + strconv.Itoa(at.region)
		}
	}
	out.URL.RawQuery = strings.Join(parts, "&")
	return out
}

// maxSDKRegion is the greatest region that the SDK's int8 holds. Past it the
// SDK would forget the cursor.
const maxSDKRegion = 127

// answer is the reply that the SDK gets. The zero cursor is "0": the SDK then
// makes a new handshake, with a new token.
func (g *guard) answer(req *http.Request) *http.Response {
	timetoken, region := g.at.timetoken, g.at.region
	if g.at.isZero() {
		timetoken = "0"
	}
	if region > maxSDKRegion {
		region = 0
	}
	return goodReply(req, `{"t":{"t":"`+timetoken+`","r":`+strconv.Itoa(region)+`},"m":[]}`)
}

// wait backs off after err, with full jitter, and reports whether the SDK
// shall be answered: not if the poll was superseded or the guard stopped.
func (g *guard) wait(ctx context.Context, err error) bool {
	var p *pollError
	errors.As(err, &p)
	g.polls.count(p.result, p.class)
	base := backoffBase
	switch p.result {
	case pollSuperseded:
		return context.Cause(ctx) == errChange
	case pollForbidden:
		g.renew(true)
		base *= 10
	case pollThrottled:
		base *= 10
	}
	delay := rand.N(min(backoffCap, base<<min(g.fails, 9)))
	g.fails++
	timer := time.NewTimer(max(delay, min(p.retryAfter, maxWait)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return context.Cause(ctx) == errChange
	}
}

// enter lets a poll in, in place of the one before it.
func (g *guard) enter(cancel context.CancelCauseFunc) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.begun:
	default:
		close(g.begun)
	}
	if g.stopped {
		return false
	}
	if g.cancel != nil {
		g.cancel(errSuperseded)
	}
	g.cancel = cancel
	g.calls++
	return true
}

func (g *guard) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.calls--; g.calls == 0 {
		g.left = time.Now()
	}
}

// stop lets no further poll begin and ends the one that waits for a reply.
// What is being stored goes on: take the slot to wait for that.
func (g *guard) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stopped = true
	if g.cancel != nil {
		g.cancel(errSuperseded)
	}
}

// unasked is for how long the SDK has had no poll in here. It polls again at
// once after every answer, so more than a moment means that its loop has died.
func (g *guard) unasked() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.calls > 0 {
		return 0
	}
	return time.Since(g.left)
}
