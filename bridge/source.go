package bridge

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

const (
	// sdkPatience is how long the SDK may go without a poll before it counts as
	// dead. It polls within a millisecond of every answer.
	sdkPatience = 30 * time.Second
	watchEvery  = time.Second
)

var errSilentSDK = errors.New("bridge: the sdk has stopped polling")

// source is one subscription at PubNub, polled through the real SDK, and the
// tracks that its messages go to: one for each shard that this bridge writes
// where the subscription is a wildcard, a single one where it is a lane.
type source struct {
	// static after construction
	b        *Bridge
	channels []string // names and wildcards
	groups   []string
	guard    *guard
	work     context.Context // what storing happens under: it outlives a stop
	giveUp   context.CancelFunc

	// owned by who has the guard's slot
	flood  flood
	origin cursor // where this source began the log; zero if it did not

	mu       sync.Mutex
	tracks   []*track      // changed between polls only
	attached chan struct{} // sent to when a track is; room for one
}

func (b *Bridge) newSource(channels, groups []string, start cursor) *source {
	f := &source{b: b, channels: channels, groups: groups, attached: make(chan struct{}, 1)}
	f.work, f.giveUp = context.WithCancel(context.Background())
	f.guard = newGuard(b.transport, start, b.cfg.PollTimeout, b.polls)
	f.guard.store = f.take
	f.flood.troubled = f.guard.troubled.Load
	return f
}

// run polls until ctx ends. A reply that is being stored then is stored, if
// that takes no longer than Config.StopTimeout.
func (f *source) run(ctx context.Context) {
	defer f.giveUp()
	f.gather(ctx)
	for n := 0; ; n++ {
		began := time.Now()
		err := f.session(ctx)
		if ctx.Err() != nil {
			return
		}
		f.b.cfg.Logger.Warn("polling was interrupted, starting over", "err", err)
		if time.Since(began) > time.Minute {
			n = 0
		}
		if !pause(ctx, n) {
			return
		}
	}
}

// gatherFor is for how long no track must have come for polling to begin. A
// lease that is free is taken within 250 ms.
const gatherFor = 400 * time.Millisecond

// gather waits for the tracks that there will be: each that comes later has
// polling go back to its own cursor.
func (f *source) gather(ctx context.Context) {
	most := 1
	if f.groups == nil {
		most = f.b.cfg.Log.Shards()
	}
	timer := time.NewTimer(gatherFor)
	defer timer.Stop()
	for {
		f.mu.Lock()
		n := len(f.tracks)
		f.mu.Unlock()
		if n == most {
			return
		}
		select {
		case <-f.attached:
			timer.Reset(gatherFor)
		case <-timer.C:
			if n > 0 {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// session polls with one SDK client until ctx ends or the client is dead.
func (f *source) session(ctx context.Context) error {
	cfg := &f.b.cfg
	g := f.guard
	sub, err := subscribe(sdkConfig{origin: cfg.Origin, tls: cfg.TLS, subscribeKey: cfg.SubscribeKey,
		publishKey: cfg.PublishKey, userID: cfg.UserID}, g)
	if err != nil {
		return err
	}
	if cfg.Token != nil {
		g.renew = func(bool) { sub.setToken(cfg.Token()) }
		g.renew(false)
	}
	if err = sub.start(f.channels, f.groups); err == nil {
		err = f.watch(ctx)
	}
	g.stop()
	timer := time.AfterFunc(cfg.StopTimeout, f.giveUp)
	g.slot <- struct{}{} // the page in hand has been stored, or given up; no other begins
	g.unask()
	<-g.slot
	timer.Stop()
	return errors.Join(err, sub.stop())
}

// watch returns when ctx ends, or when the SDK does not poll any more.
func (f *source) watch(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if f.guard.unasked() > sdkPatience {
				return errSilentSDK
			}
		}
	}
}

// attach gives f's messages to t as well, from t's own cursor on: polling goes
// back to there if it has come farther.
func (f *source) attach(ctx context.Context, t *track) error {
	return f.guard.change(ctx, func() {
		start := t.cursor()
		switch at := f.guard.at; {
		case start.isZero() && !f.origin.isZero():
			t.begin(f.origin)
			f.guard.at = f.origin
		case start.isZero():
			t.begin(at)
		case at.isZero() || olderTimetoken(start.timetoken, at.timetoken):
			f.guard.at = start
		}
		f.flood.join(t)
		f.mu.Lock()
		f.tracks = append(f.tracks, t)
		f.mu.Unlock()
		kick(f.attached)
	})
}

// detach ends what attach began. What t has got by then is stored when detach
// returns nil.
func (f *source) detach(ctx context.Context, t *track) error {
	t.gone.Store(true)
	t.wake() // the page in hand may be waiting for room that nobody makes
	return f.guard.change(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.tracks = slices.DeleteFunc(f.tracks, func(x *track) bool { return x == t })
	})
}

// trackOf is where a message of user goes, "" being nobody's; nil where
// another bridge writes that shard.
func trackOf(tracks []*track, shard int) *track {
	for _, t := range tracks {
		if t.shard.writer.Shard() == shard {
			return t
		}
	}
	return nil
}

// take stores a page: when it returns nil, every message of it that is this
// bridge's affair is in the log, among the dead letters, or held back by its
// track. Checkpoints follow. It is called by one poll at a time.
func (f *source) take(p *page) error {
	ctx := f.work
	began := time.Now()
	f.mu.Lock()
	// Who writes a lost shard next goes on from its checkpoint.
	f.tracks = slices.DeleteFunc(f.tracks, func(t *track) bool { return t.ended() })
	tracks := slices.Clone(f.tracks)
	f.mu.Unlock()
	for _, t := range tracks {
		t.open(p)
	}
	if p.prev.isZero() && len(f.groups) == 0 {
		var err error
		if p.next, err = f.b.setOrigin(ctx, p.next); err != nil {
			return err
		}
		f.origin = p.next
	}
	f.flood.page(f.b, p, tracks)
	defer f.flood.taken()
	for i := range p.messages {
		m := &p.messages[i]
		user, _ := parseChannel(m.channel)
		shard := 0 // announcements, and what is on nobody's channel
		if user != "" {
			shard = f.b.cfg.Log.Shard(user)
		}
		if t := trackOf(tracks, shard); t != nil {
			t.add(ctx, m)
		}
	}
	var failed error
	for _, t := range tracks {
		if err := t.close(ctx, p); err != nil && !t.ended() {
			failed = errors.Join(failed, err)
		}
	}
	if failed == nil && len(p.messages) > 0 {
		f.b.inst.stored(ctx, time.Since(began))
	}
	return failed
}
