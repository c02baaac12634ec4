package bridge

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"reprise/hlc"
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

// eraseTime is how long one request to forget a user waits for the end. The
// erasing goes on, and who asks again hears of it.
const eraseTime = 7 * time.Second

// erasure is the erasing of one user's events, under way or ended.
type erasure struct {
	done chan struct{} // closed when it has ended
	n    int           // valid after done
	err  error         // valid after done
}

// forget erases everything that the log keeps of a user from before at, and has
// every process forget it too. What the user's devices and publishers do from
// then on is not touched, so it may be repeated with the same at.
func (sh *shard) forget(ctx context.Context, user string, at time.Time) (outcomeOf, error) {
	b := sh.b
	if !isUUID(user) || b.cfg.Log.Shard(user) != sh.writer.Shard() || at.IsZero() {
		return outcomeOf{Result: "failed", Detail: "the user is of another shard"}, nil
	}
	order, err := b.cfg.Log.OrderOf(ctx, user)
	if err != nil {
		return outcomeOf{}, err
	}
	if order.ForgottenBefore.Before(at) {
		// All that the log has by now is from before, whichever clock is ahead.
		for _, t := range []time.Time{time.Now(), sh.writer.Stats().Last.Hlc.Time().Add(time.Millisecond)} {
			if t.After(at) {
				at = t
			}
		}
		at = at.Truncate(time.Millisecond)
		order = stream.Order{User: stream.KeyOf(user), At: at, RevokedBefore: at, ForgottenBefore: at}
		b.forgotten.note(order) // what is on its way is not appended after it was erased
		if err := b.cfg.Log.EraseRest(ctx, user); err != nil {
			return outcomeOf{}, err
		}
		if err := b.cfg.Log.Command(ctx, user, order); err != nil {
			return outcomeOf{}, err
		}
	}
	e := sh.erase(user, hlc.New(order.ForgottenBefore.UnixMilli(), 0))
	select {
	case <-e.done:
	case <-time.After(eraseTime):
		return outcomeOf{Result: "more"}, nil
	case <-ctx.Done():
		return outcomeOf{}, ctx.Err()
	}
	sh.mu.Lock()
	delete(sh.erasures, user)
	sh.mu.Unlock()
	if e.err != nil {
		return outcomeOf{}, e.err
	}
	if err := b.cfg.Log.EraseDevices(ctx, user); err != nil {
		return outcomeOf{}, err
	}
	b.cfg.Logger.Info("a user was forgotten", "shard", sh.writer.Shard(), "events", e.n)
	return outcomeOf{Result: "erased", Events: e.n}, nil
}

// erase begins to erase user's events, unless that is under way. It ends with the
// writer.
func (sh *shard) erase(user string, before hlc.Timestamp) *erasure {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if e := sh.erasures[user]; e != nil {
		return e
	}
	e := &erasure{done: make(chan struct{})}
	if sh.erasures == nil {
		sh.erasures = make(map[string]*erasure)
	}
	sh.erasures[user] = e
	ctx, cancel := context.WithCancel(context.Background())
	sh.erasing.Go(func() {
		defer cancel()
		select {
		case <-sh.writer.Done():
		case <-e.done:
		}
	})
	sh.erasing.Go(func() {
		defer close(e.done)
		if e.n, e.err = sh.writer.Erase(ctx, user, before); e.err == nil {
			e.err = sh.folder.Forget(ctx, user, before)
		}
	})
	return e
}
