package bridge

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"reprise/stream"
)

// A Bridge carries PubNub's channels into the log, and the outbox to PubNub.
// Make it with [New].
//
// All methods may be called at any time from any goroutine, but Run only once
// at a time.
type Bridge struct {
	// Static after construction.
	cfg         Config
	rules       rules
	inst        *instruments
	polls       *pulse
	historyRate *rate.Limiter
	comparing   chan struct{} // holds a token for each user in hand
	forgotten   forgotten

	// Static while Run runs.
	transport *http.Transport // of polls
	calls     *caller

	running atomic.Bool
	filling atomic.Int64 // jobs in hand that are not routine
	lanes   atomic.Int64 // polled
	gapAt   atomic.Int64 // Unix ms of the newest gap; 0 is none

	mu      sync.Mutex // guards what follows
	members int        // bridges that share the shards, this one included; 0 is not known yet
	shards  []*shard   // written by this bridge
	crowded int        // seconds for which that has been more than its share
	quiet   int        // seconds since history was compared last
	wild    *source    // the wildcard's; nil while no shard is written
	wildRef int        // tracks that use it or are about to
	endWild func()     // ends it and waits
}

// New checks cfg and makes a Bridge; it starts nothing. The error joins
// everything that is wrong with cfg.
func New(cfg Config) (*Bridge, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	b := &Bridge{cfg: cfg, rules: rules{opaque: cfg.OpaqueIDs}, comparing: make(chan struct{}, usersInAll)}
	if b.inst, err = newInstruments(cfg.Meter, b); err != nil {
		return nil, err
	}
	b.polls = &pulse{inst: b.inst, logger: cfg.Logger}
	b.historyRate = rate.NewLimiter(rate.Limit(cfg.HistoryRate), int(max(cfg.HistoryRate, 1)))
	return b, nil
}

// Run carries events until ctx ends, and returns nil then: what had been
// received by then is stored, as far as Config.StopTimeout allows. The only
// error is that the log has been closed, or that Run is running already.
//
// Bridges on one log share its shards. One that has none stands by.
func (b *Bridge) Run(ctx context.Context) error {
	if b.running.Swap(true) {
		return errors.New("bridge: run: runs already")
	}
	defer b.running.Store(false)
	b.transport = newTransport()
	defer b.transport.CloseIdleConnections()
	var err error
	if b.calls, err = newCaller(callerConfig{origin: b.cfg.Origin, tls: b.cfg.TLS, subscribeKey: b.cfg.SubscribeKey,
		publishKey: b.cfg.PublishKey, userID: b.cfg.UserID, token: b.cfg.Token, failed: b.inst.callFailed}); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	// PubNub's history has what was forgotten: nothing is carried before it is
	// known what that is.
	known := make(chan struct{})
	group.Go(func() error {
		return b.cfg.Log.FollowOrders(ctx, b.forgotten.note, func() { close(known) })
	})
	select {
	case <-known:
	case <-ctx.Done():
	}
	joined, leave := context.WithCancel(context.WithoutCancel(ctx))
	var membership sync.WaitGroup
	membership.Go(func() { b.cfg.Log.Join(joined, b.counted) })
	group.Go(func() error { b.balance(ctx); return nil })
	for n := range b.cfg.Log.Shards() {
		group.Go(func() error { return b.hold(ctx, n) })
	}
	err = group.Wait()
	leave() // others may take what was given back
	membership.Wait()
	return errors.Join(err, b.calls.close())
}

// counted is told how many bridges there are.
func (b *Bridge) counted(members int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.members != members {
		b.cfg.Logger.Info("bridges that share the shards", "bridges", members)
	}
	b.members = members
}

// share is how many shards are a fair share. Called with mu held.
func (b *Bridge) share() int {
	if b.members == 0 {
		return 0
	}
	return (b.cfg.Log.Shards() + b.members - 1) / b.members
}

// willing tells whether one more shard would be no more than a fair share.
func (b *Bridge) willing() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.shards) < b.share()
}

// crowdedFor is for how many seconds this bridge must have had more than its
// share before it gives a shard away: while another one dies, its membership
// and its leases do not run out in the same moment.
const crowdedFor = 5

// crowdedMost is for how many seconds it keeps the shard nevertheless while history is
// compared, or is to be compared once more: who takes it then has to begin again, with
// what PubNub has handed out since.
const crowdedMost = 60

// balance gives shards away, one at a time, until ctx ends.
func (b *Bridge) balance(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		b.relieve()
	}
}

// relieve, called once a second, gives a shard away if there have been too many for
// long enough.
func (b *Bridge) relieve() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.quiet++; b.filling.Load() > 0 {
		b.quiet = 0
	}
	if share := b.share(); share == 0 || len(b.shards) <= share {
		b.crowded = 0
		return
	}
	b.crowded++
	if b.crowded >= crowdedFor && b.quiet > int(historyLag.Seconds()) || b.crowded >= crowdedMost {
		b.crowded %= crowdedMost
		last := b.shards[len(b.shards)-1]
		b.shards = b.shards[:len(b.shards)-1] // one less from here on
		close(last.release)
	}
}

func (b *Bridge) holds(sh *shard) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shards == nil {
		b.polls.begin(time.Now())
	}
	b.shards = append(b.shards, sh)
}

func (b *Bridge) lets(sh *shard) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shards = slices.DeleteFunc(b.shards, func(x *shard) bool { return x == sh }); len(b.shards) == 0 {
		b.shards = nil
	}
}

// joinWildcard returns the feed of the wildcard, running, for t to attach to.
func (b *Bridge) joinWildcard(ctx context.Context, t *track) *source {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wildRef++
	if b.wild == nil {
		f := b.newSource(b.cfg.Channels, nil, t.cursor())
		run, cancel := context.WithCancel(context.WithoutCancel(ctx))
		ended := make(chan struct{})
		go func() { defer close(ended); f.run(run) }()
		b.wild, b.endWild = f, func() { cancel(); <-ended }
	}
	return b.wild
}

// leaveWildcard undoes joinWildcard. The last one ends the feed.
func (b *Bridge) leaveWildcard(f *source) {
	b.mu.Lock()
	end := func() {}
	if b.wildRef--; b.wildRef == 0 {
		end, b.wild, b.endWild = b.endWild, nil, nil
	}
	b.mu.Unlock()
	end()
}

// pause waits before the n-th repetition of something that failed, with full
// jitter, or until ctx ends, which it reports as false.
func pause(ctx context.Context, n int) bool {
	return sleep(ctx, rand.N(min(backoffCap, backoffBase<<min(n, 9)))) == nil
}

// origin is where the log began to follow PubNub, zero if it has not.
func (b *Bridge) origin(ctx context.Context) (cursor, error) {
	timetoken, region, err := b.cfg.Log.Origin(ctx)
	if err != nil || timetoken == "" {
		return cursor{}, err
	}
	return cursor{timetoken, region}, nil
}

// setOrigin makes at the origin, unless the log has one by now, and returns
// what is the origin then.
func (b *Bridge) setOrigin(ctx context.Context, at cursor) (cursor, error) {
	timetoken, region, err := b.cfg.Log.SetOrigin(ctx, at.timetoken, at.region)
	return cursor{timetoken, region}, err
}

// gapFound tells an operator of a gap.
func (b *Bridge) gapFound(ctx context.Context, shard int, g stream.Gap, why string) {
	b.gapAt.Store(time.Now().UnixMilli())
	b.inst.gap(ctx)
	b.cfg.Logger.Error("events may be missing that PubNub does not have any more", "shard", shard, "user", g.User, "from", g.From, "to", g.To, "why", why)
}
