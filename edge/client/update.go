package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"reprise/hlc"
)

// Update is what a device sends up. Type decides which of the others are needed; see
// the protocol.
type Update struct {
	// Type is watchlist_update, progress_update, device_command or device_handoff.
	Type string `json:"type"`
	// ID makes a repetition harmless; "" gets a new one.
	ID string `json:"id"`
	// Operation is add or remove.
	Operation string `json:"operation,omitempty"`
	ContentID string `json:"content_id,omitempty"`
	UniqueTag string `json:"unique_tag,omitempty"`
	// PositionSeconds and DurationSeconds are nil where there is none.
	PositionSeconds *uint32 `json:"position_seconds,omitempty"`
	DurationSeconds *uint32 `json:"duration_seconds,omitempty"`
	TargetDeviceID  string  `json:"target_device_id,omitempty"`
	CommandType     string  `json:"command_type,omitempty"`
	// Payload is a JSON object; nil is none.
	Payload json.RawMessage `json:"payload,omitempty"`
	// ExpiresAt is Unix milliseconds; 0 is never.
	ExpiresAt int64 `json:"expires_at,omitempty"`
	// Timestamp is when it was made; "" gets a stamp of the client's clock.
	Timestamp string `json:"timestamp"`
}

// An UpdateError is the edge's refusal of an update, for good.
type UpdateError struct {
	Update        Update
	Code, Message string
}

func (e *UpdateError) Error() string {
	return fmt.Sprintf("client: update refused: %s: %s", e.Code, e.Message)
}

// ErrQueueFull is returned by [Client.Submit] when [Config.QueueLimit] updates wait.
var ErrQueueFull = errors.New("client: too many updates are waiting")

// How updates are sent: below what an edge allows by default (20 messages a second, 200
// at once), and so many under way at a time.
const (
	updateRate   = 15
	updateBurst  = 100
	updateWindow = 16
)

// ErrEnded is returned by [Client.Submit] when [Client.Run] has ended. What waited for
// an answer then is sent again by a client with the same [Store].
var ErrEnded = errors.New("client: Run has ended")

// Submit queues an update and waits until the edge has it on disk. It is sent when there
// is a connection, and again until it is answered; that goes on when ctx ends first. Of
// positions of one content that nobody was sent yet the newest, by Timestamp, takes the
// place of the other, which counts as taken. One that is refused for the moment goes
// behind what was sent meanwhile: whose order matters are submitted one after the other.
// Errors: [UpdateError], [ErrQueueFull], [ErrEnded], ctx's.
func (c *Client) Submit(ctx context.Context, u Update) error {
	if u.ID == "" {
		u.ID = uuid.NewString()
	}
	if !isUUID(u.ID) {
		return fmt.Errorf("client: update: id %q is no lower-case UUID", u.ID)
	}
	if u.Timestamp == "" {
		u.Timestamp = c.clock.Now().String()
	}
	if _, err := json.Marshal(u); err != nil {
		return fmt.Errorf("client: update: %w", err)
	}
	answered, err := c.updates.add(u, c.cfg.QueueLimit)
	if err != nil {
		return err
	}
	c.keep()
	select {
	case err := <-answered:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Pending are the updates that are not stored yet, oldest first.
func (c *Client) Pending() []Update { return c.updates.pending() }

// updates is the queue of what is to be sent up.
type updates struct {
	wake    chan struct{} // holds a token when there may be something to send
	backoff backoff       // what that of an update begins as

	mu      sync.Mutex
	entries []*queued // guarded by mu; oldest first
	ended   bool      // guarded by mu; nothing is added any more
	rate    float64   // guarded by mu; a second
	tokens  float64   // guarded by mu
	filled  time.Time // guarded by mu; when tokens was right
}

// queued is an update in the queue.
type queued struct {
	update   Update
	answered chan error // holds the answer
	sent     bool       // on the connection that there is
	backoff  backoff    // of refusals for the moment
	after    time.Time  // it is not to be sent before
}

func newUpdates(b backoff) *updates {
	return &updates{wake: make(chan struct{}, 1), backoff: b, rate: updateRate, tokens: updateBurst, filled: time.Now()}
}

func (q *updates) kick() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *updates) add(u Update, limit int) (answered chan error, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	stale := slices.IndexFunc(q.entries, func(e *queued) bool {
		return u.Type == "progress_update" && e.update.Type == u.Type && e.update.ContentID == u.ContentID && !e.sent && e.backoff.failures == 0
	})
	switch {
	case q.ended:
		return nil, ErrEnded
	case stale >= 0 && hlc.Origin(u.Timestamp) < hlc.Origin(q.entries[stale].update.Timestamp):
		taken := make(chan error, 1)
		taken <- nil
		return taken, nil
	case stale >= 0:
		q.entries[stale].answered <- nil
		q.entries = slices.Delete(q.entries, stale, stale+1)
	case len(q.entries) >= limit:
		return nil, ErrQueueFull
	}
	e := &queued{update: u, answered: make(chan error, 1), backoff: q.backoff}
	q.entries = append(q.entries, e)
	q.kick()
	return e.answered, nil
}

// restore puts what was kept before what was added since.
func (q *updates) restore(kept []Update) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var before []*queued
	for _, u := range kept {
		before = append(before, &queued{update: u, answered: make(chan error, 1), backoff: q.backoff})
	}
	q.entries = append(before, q.entries...)
	q.kick()
}

func (q *updates) pending() []Update {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := make([]Update, 0, len(q.entries))
	for _, e := range q.entries {
		all = append(all, e.update)
	}
	return all
}

// due is what may be sent now, and how long until there may be more; negative is not
// before an answer comes.
func (q *updates) due(now time.Time) (frames [][]byte, next time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.tokens = min(updateBurst, q.tokens+now.Sub(q.filled).Seconds()*q.rate)
	q.filled = now
	underWay := 0
	for _, e := range q.entries {
		if e.sent {
			underWay++
		}
	}
	next = -1
	soon := func(d time.Duration) {
		if next < 0 || d < next {
			next = d
		}
	}
	for _, e := range q.entries {
		switch {
		case e.sent:
			continue
		case underWay >= updateWindow:
			return frames, -1
		case e.after.After(now):
			soon(e.after.Sub(now))
			continue
		case q.tokens < 1:
			soon(time.Duration((1 - q.tokens) / q.rate * float64(time.Second)))
			return frames, next
		}
		q.tokens--
		e.sent = true
		underWay++
		frame, _ := json.Marshal(e.update) // Submit has tried
		frames = append(frames, frame)
	}
	return frames, next
}

// answer takes the edge's answer to an update. It reports whether the queue changed.
func (q *updates) answer(id string, refused *UpdateError, temporary bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.kick()
	i := slices.IndexFunc(q.entries, func(e *queued) bool { return e.update.ID == id })
	if i < 0 {
		return false
	}
	e := q.entries[i]
	if temporary {
		e.sent, e.after = false, time.Now().Add(e.backoff.wait(nil, -1))
		return false
	}
	q.entries = slices.Delete(q.entries, i, i+1)
	if refused != nil {
		refused.Update = e.update
		e.answered <- refused
	} else {
		e.answered <- nil
	}
	return true
}

// end has everybody who waits told that nothing is answered any more.
func (q *updates) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	for _, e := range q.entries {
		e.answered <- ErrEnded // it has room: an entry that is answered is no more
	}
}

// again has everything sent that is not answered. It is called as a connection begins:
// when one ends, what sends may still be about to.
func (q *updates) again() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range q.entries {
		e.sent = false
	}
	q.kick()
}

// tooLarge gives up the largest of those under way: the edge has closed the connection
// for one of them, and would again.
func (q *updates) tooLarge() (changed bool) {
	q.mu.Lock()
	var largest *queued
	size := 0
	for _, e := range q.entries {
		if frame, _ := json.Marshal(e.update); e.sent && len(frame) > size {
			largest, size = e, len(frame)
		}
	}
	q.mu.Unlock()
	return largest != nil && q.answer(largest.update.ID, &UpdateError{Code: "too_large", Message: "the edge takes no frame of " + strconv.Itoa(size) + " bytes"}, false)
}

// slower has fewer sent a second: the edge found it too fast.
func (q *updates) slower() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.rate, q.tokens = max(1, q.rate/2), 0
}

// sendUpdates sends what is in the queue until done is closed.
func (c *Client) sendUpdates(ctx context.Context, done <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-done:
			return
		case <-c.updates.wake:
		case <-timer.C:
		}
		frames, next := c.updates.due(time.Now())
		for _, frame := range frames {
			if c.Send(ctx, frame) != nil {
				return // the connection is gone, and everything comes again
			}
		}
		if next >= 0 {
			timer.Reset(next)
		}
	}
}

// answered takes an accepted frame, or an error that names an update.
func (c *Client) answered(raw []byte) {
	var a struct {
		Type      string `json:"type"`
		ID        string `json:"id"`
		Code      string `json:"code"`
		Message   string `json:"message"`
		Temporary bool   `json:"temporary"`
	}
	if json.Unmarshal(raw, &a) != nil || a.ID == "" {
		return // an error of another kind
	}
	var refused *UpdateError
	if a.Type == "error" {
		refused = &UpdateError{Code: a.Code, Message: a.Message}
	}
	if c.updates.answer(a.ID, refused, refused != nil && a.Temporary) {
		c.keep()
	}
}

// heardOf follows what another device stamped.
func (c *Client) heardOf(raw []byte) {
	var origin struct {
		Timestamp string `json:"timestamp"`
	}
	if json.Unmarshal(raw, &origin) == nil {
		c.follow(hlc.Origin(origin.Timestamp))
	}
}

// follow has the client's clock be ahead of at: an update that is made after what the
// device has seen is newer. One that is too far ahead is not followed.
func (c *Client) follow(at hlc.Timestamp) {
	if at != hlc.Zero {
		_, _ = c.clock.Update(at)
	}
}
