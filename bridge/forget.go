package bridge

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"reprise/stream"
)

// forgotten are the users of whom everything from before some time was erased.
// PubNub may send it again, or have it in its history: it is taken for nothing.
// Safe for concurrent use.
type forgotten struct {
	some atomic.Bool // whether there is anybody

	mu     sync.RWMutex
	before map[stream.UserKey]time.Time // guarded by mu
}

// note keeps what an order says of a user.
func (f *forgotten) note(o stream.Order) {
	if o.ForgottenBefore.IsZero() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.before == nil {
		f.before = make(map[stream.UserKey]time.Time)
	}
	if o.ForgottenBefore.After(f.before[o.User]) {
		f.before[o.User] = o.ForgottenBefore
	}
	f.some.Store(true)
}

// has tells whether what was published about user at timetoken is to be
// forgotten. As long as nobody is, it costs a load.
func (f *forgotten) has(user, timetoken string) bool {
	if !f.some.Load() || user == "" {
		return false
	}
	f.mu.RLock()
	before, known := f.before[stream.KeyOf(user)]
	f.mu.RUnlock()
	return known && timeOf(timetoken).Before(before)
}

// eraseTime is how long one request to forget a user may take; what is left
// then is asked for again.
const eraseTime = 7 * time.Second

// forget erases everything that the log keeps of a user from before at, and has
// every process forget it too.
func (sh *shard) forget(ctx context.Context, user string, at time.Time) (outcomeOf, error) {
	b := sh.b
	if !isUUID(user) || b.cfg.Log.Shard(user) != sh.writer.Shard() || at.IsZero() {
		return outcomeOf{Result: "failed", Detail: "the user is of another shard"}, nil
	}
	order := stream.Order{User: stream.KeyOf(user), At: at, RevokedBefore: at, ForgottenBefore: at}
	b.forgotten.note(order) // what is on its way is not appended after it was erased
	if err := b.cfg.Log.Command(ctx, user, order); err != nil {
		return outcomeOf{}, err
	}
	erasing, cancel := context.WithTimeout(ctx, eraseTime)
	defer cancel()
	n, err := sh.writer.Erase(erasing, user)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil && n > 0 {
		return outcomeOf{Result: "more", Events: n}, nil
	}
	if err == nil {
		err = b.cfg.Log.EraseRest(ctx, user)
	}
	if err != nil {
		return outcomeOf{}, err
	}
	b.cfg.Logger.Info("a user was forgotten", "shard", sh.writer.Shard(), "events", n)
	return outcomeOf{Result: "erased", Events: n}, nil
}
