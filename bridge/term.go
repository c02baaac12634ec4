package bridge

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"reprise/stream"
)

const (
	// sdkPatience is how long the SDK may go without a poll before it counts as
	// dead. It polls within a millisecond of every answer.
	sdkPatience = 30 * time.Second
	watchEvery  = time.Second
)

var errSilentSDK = errors.New("bridge: the sdk has stopped polling")

// term is one stretch of time during which this process writes the log.
type term struct {
	// Static once all shards are acquired.
	bridge  *Bridge
	writers []*stream.Writer // by shard
	failed  chan error       // holds the first reason to give up; never closed

	// Owned by the poll in hand.
	counted []stream.WriterStats // by shard, what the instruments know
}

// fail ends the term; only the first call counts.
func (t *term) fail(err error) {
	select {
	case t.failed <- err:
	default:
	}
}

// serve takes every shard and carries events until ctx ends (nil) or something
// forces this bridge to give up its shards.
func (b *Bridge) serve(ctx context.Context) (err error) {
	t := &term{bridge: b, failed: make(chan error, 1)}
	// Both outlive ctx by StopTimeout: what was received is still stored.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var watchers sync.WaitGroup
	defer watchers.Wait()
	defer t.release(context.WithoutCancel(ctx))
	if err := t.acquire(ctx, &watchers); err != nil {
		return err
	}
	t.counted = make([]stream.WriterStats, len(t.writers))
	start, err := t.start()
	if err != nil {
		return err
	}
	b.polls.begin(time.Now())
	b.active.Store(true)
	defer b.active.Store(false)
	b.cfg.Logger.Info("bridging", "shards", len(t.writers), "timetoken", start.timetoken, "region", start.region)
	return t.poll(ctx, work, cancel, start)
}

// acquire takes the writers of all shards, in order, so that of two bridges
// one gets them all. A watcher for each writer ends the term with it.
func (t *term) acquire(ctx context.Context, watchers *sync.WaitGroup) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for shard := range t.bridge.cfg.Log.Shards() {
		w, err := t.bridge.cfg.Log.Acquire(ctx, shard)
		if cause := context.Cause(ctx); err != nil && cause != nil {
			err = cause // an earlier shard was lost meanwhile, or this is a stop
		}
		if err != nil {
			return fmt.Errorf("bridge: acquire shard %d: %w", shard, err)
		}
		t.writers = append(t.writers, w)
		watchers.Go(func() {
			<-w.Done()
			err := fmt.Errorf("bridge: shard %d: %w", shard, w.Err())
			t.fail(err)
			cancel(err)
		})
	}
	return nil
}

// release gives all shards back.
func (t *term) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, t.bridge.cfg.StopTimeout)
	defer cancel()
	var all sync.WaitGroup
	for _, w := range t.writers {
		all.Go(func() {
			if err := w.Close(ctx); err != nil && !errors.Is(err, stream.ErrDeposed) && !errors.Is(err, stream.ErrClosed) {
				t.bridge.cfg.Logger.Warn("a shard was not closed in order", "shard", w.Shard(), "err", err)
			}
		})
	}
	all.Wait()
}

// start is the oldest cursor of all shards: what lies before it is stored in
// every one of them. A shard without a checkpoint does not count: the first
// cursor of all is saved for every shard before anything is stored.
func (t *term) start() (cursor, error) {
	var oldest cursor
	for _, w := range t.writers {
		saved := w.Checkpoint()
		if saved.Timetoken == "" {
			continue
		}
		timetoken, ok := canonical(saved.Timetoken)
		if !ok {
			return cursor{}, fmt.Errorf("bridge: checkpoint of shard %d: no timetoken", w.Shard())
		}
		if oldest.isZero() || olderTimetoken(timetoken, oldest.timetoken) {
			oldest = cursor{timetoken, saved.Region}
		}
	}
	return oldest, nil
}

// poll runs the SDK from start on. work is what storing happens under; cancel
// ends it.
func (t *term) poll(ctx, work context.Context, cancel context.CancelFunc, start cursor) error {
	cfg := &t.bridge.cfg
	transport := newTransport()
	defer transport.CloseIdleConnections()
	g := newGuard(transport, start, cfg.PollTimeout, t.bridge.polls)
	g.store = func(p page) error {
		err := t.store(work, p)
		if errors.Is(err, stream.ErrDeposed) || errors.Is(err, stream.ErrClosed) {
			t.fail(err)
			g.stop()
		}
		return err
	}
	sub, err := subscribe(sdkConfig{origin: cfg.Origin, tls: cfg.TLS, subscribeKey: cfg.SubscribeKey,
		publishKey: cfg.PublishKey, userID: cfg.UserID}, g)
	if err != nil {
		return err
	}
	if cfg.Token != nil {
		g.renew = func(bool) { sub.setToken(cfg.Token()) }
		g.renew(false)
	}
	if err = sub.start(cfg.Channels); err == nil {
		err = t.watch(ctx, g)
	}
	g.stop()
	timer := time.AfterFunc(cfg.StopTimeout, cancel)
	defer timer.Stop()
	g.slot <- struct{}{} // the page in hand has been stored, or given up; no other begins
	return errors.Join(err, sub.stop())
}

// watch returns when ctx ends (nil), when the term has failed, or when the SDK
// does not poll any more.
func (t *term) watch(ctx context.Context, g *guard) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-t.failed:
			return err
		case <-tick.C:
			if g.unasked() > sdkPatience {
				return errSilentSDK
			}
		}
	}
}
