package bridge

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"reprise/stream"
)

// shard is one shard of the log for as long as this bridge writes it.
type shard struct {
	// static after construction
	b       *Bridge
	writer  *stream.Writer
	folder  *stream.Folder
	release chan struct{} // closed by the bridge when another one is to have the shard

	mu      sync.Mutex
	counted stream.WriterStats // what the instruments know
	// erasures are of users who are being forgotten, until it was told.
	erasures map[string]*erasure
	erasing  sync.WaitGroup // their goroutines
}

// account tells the instruments what the writer has done since the last time.
func (sh *shard) account(ctx context.Context) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	now := sh.writer.Stats()
	sh.b.inst.appended(ctx, now.Appended-sh.counted.Appended, now.Duplicates-sh.counted.Duplicates)
	sh.counted = now
}

// hold writes shard whenever it can, until ctx ends (nil) or the log is closed.
func (b *Bridge) hold(ctx context.Context, n int) error {
	for fails := 0; ctx.Err() == nil; fails++ {
		w, err := b.cfg.Log.AcquireWhen(ctx, n, b.willing)
		if err == nil {
			began := time.Now()
			err = b.write(ctx, w)
			if time.Since(began) > time.Minute {
				fails = 0
			}
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, stream.ErrClosed):
			return err
		case errors.Is(err, stream.ErrDeposed):
			b.cfg.Logger.Warn("another bridge took the shard over, standing by", "shard", n, "err", err)
		case err != nil:
			b.cfg.Logger.Warn("writing the shard was interrupted, starting over", "shard", n, "err", err)
		}
		pause(ctx, fails)
	}
	return nil
}

// write carries everything of one shard until ctx ends, the shard is to be
// given to another bridge, or the writer has ended.
func (b *Bridge) write(ctx context.Context, w *stream.Writer) (err error) {
	sh := &shard{b: b, writer: w, folder: b.cfg.Log.NewFolder(w.Shard()), release: make(chan struct{})}
	b.holds(sh)
	defer func() {
		b.lets(sh)
		sh.account(context.WithoutCancel(ctx))
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.cfg.StopTimeout)
		defer cancel()
		if cerr := w.Close(closing); cerr != nil && !errors.Is(cerr, stream.ErrDeposed) && !errors.Is(cerr, stream.ErrClosed) {
			b.cfg.Logger.Warn("a shard was not closed in order", "shard", w.Shard(), "err", cerr)
		}
		sh.erasing.Wait() // they end with the writer
	}()
	// The parts end before the writer is closed, each in its own good order.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop, err := w.Answer(sh.answer)
	if err != nil {
		return fmt.Errorf("bridge: shard %d: %w", w.Shard(), err)
	}
	defer stop()
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel()
	failed := make(chan error, 2)
	carry := sh.carryWildcard
	if b.cfg.Lanes {
		carry = sh.carryLanes
	}
	parts.Go(func() { failed <- carry(ctx) })
	if b.cfg.PublishKey != "" {
		parts.Go(func() { sh.publish(ctx) })
	}
	parts.Go(func() { sh.folder.Run(ctx) })
	b.cfg.Logger.Info("bridging", "shard", w.Shard())
	select {
	case <-ctx.Done():
		return nil
	case <-sh.release:
		b.cfg.Logger.Info("giving the shard to another bridge", "shard", w.Shard())
		return nil
	case <-w.Done():
		return fmt.Errorf("bridge: shard %d: %w", w.Shard(), w.Err())
	case err := <-failed:
		return err
	}
}

// carryWildcard carries the shard's part of what the bridge's one subscription
// brings, until ctx ends.
func (sh *shard) carryWildcard(ctx context.Context) error {
	b := sh.b
	mark, err := sh.writer.Bookmark(ctx, "")
	if err != nil {
		return err
	}
	t, err := b.newTrack(sh, "", mark, func(ctx context.Context) ([]string, error) {
		return b.cfg.Log.Users(ctx, sh.writer.Shard())
	})
	if err != nil {
		return err
	}
	if t.cursor().isZero() {
		// The first start of all: everyone begins where the first of them did.
		at, err := b.origin(ctx)
		if err != nil {
			return err
		}
		t.begin(at)
	}
	t.checkAge()
	f := b.joinWildcard(ctx, t)
	defer b.leaveWildcard(f)
	var following sync.WaitGroup
	defer following.Wait()
	following.Go(func() { t.followNew(ctx) })
	t.carry(ctx, f)
	return nil
}

// followNew has the history of users who are registered from now on compared
// too, if something may have been dropped while nobody knew of them.
func (t *track) followNew(ctx context.Context) {
	began := time.Now()
	for fails := 0; ctx.Err() == nil; fails++ {
		err := t.b.cfg.Log.FollowRegistrations(ctx, t.shard.writer.Shard(), func(r stream.Registration) {
			t.mu.Lock()
			from := t.doubt
			t.mu.Unlock()
			if from != "" && r.At.After(began.Add(-historyLag)) {
				t.want(r.User, from, func(context.Context) error { return nil })
				t.joined(r.User)
			}
		}, func() {})
		if err != nil {
			t.b.cfg.Logger.Warn("registrations are not followed", "shard", t.shard.writer.Shard(), "err", err)
			pause(ctx, fails)
		}
	}
}

// carry attaches t to f and runs it until ctx ends; then what it has got is
// stored and its cursor saved, as far as Config.StopTimeout allows.
func (t *track) carry(ctx context.Context, f *source) {
	if err := f.attach(ctx, t); err != nil {
		return // ctx has ended
	}
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var running sync.WaitGroup
	running.Go(func() { t.run(work) })
	<-ctx.Done()
	closing, done := context.WithTimeout(context.WithoutCancel(ctx), t.b.cfg.StopTimeout)
	defer done()
	err := f.detach(closing, t)
	cancel()
	running.Wait()
	if err == nil {
		t.mu.Lock()
		t.starts = 0 // only deaths count
		t.mu.Unlock()
		err = t.save(closing)
	}
	if err != nil && t.shard.writer.Err() == nil {
		t.b.cfg.Logger.Warn("what came last is not stored, and will come again", "shard", t.shard.writer.Shard(), "err", err)
	}
}

// checkAge has history compared if PubNub's queue may not reach back to t's
// cursor any more, or the log has lost what came before it.
func (t *track) checkAge() {
	if lost := t.mark.Lost(); lost != (stream.Gap{}) {
		t.owe(stretch{From: timetokenAt(lost.From.Time())}, whyLost, true)
	}
	if at := t.cursor(); !at.isZero() && time.Since(timeOf(at.timetoken)) > t.b.cfg.SafeAge {
		t.owe(stretch{From: at.timetoken}, whyOutage, true)
	}
}
