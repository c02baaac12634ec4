package bridge

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"reprise/stream"
)

// A Bridge carries PubNub's channels into the log. Make it with [New].
//
// All methods may be called at any time from any goroutine, but Run only once
// at a time.
type Bridge struct {
	// Static after construction.
	cfg   Config
	rules rules
	inst  *instruments
	polls *pulse

	running atomic.Bool
	active  atomic.Bool // holds every shard's writer
}

// New checks cfg and makes a Bridge; it starts nothing. The error joins
// everything that is wrong with cfg.
func New(cfg Config) (*Bridge, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	b := &Bridge{cfg: cfg, rules: rules{opaque: cfg.OpaqueIDs}}
	if b.inst, err = newInstruments(cfg.Meter, b); err != nil {
		return nil, err
	}
	b.polls = &pulse{inst: b.inst, logger: cfg.Logger}
	return b, nil
}

// Run carries events until ctx ends, and returns nil then: what had been
// received by then is stored, as far as Config.StopTimeout allows. The only
// error is that the log has been closed, or that Run is running already.
//
// Run waits until it holds the writer of every shard; until then, and whenever
// another bridge has taken one, this is a standby.
func (b *Bridge) Run(ctx context.Context) error {
	if b.running.Swap(true) {
		return errors.New("bridge: run: runs already")
	}
	defer b.running.Store(false)
	for fails := 0; ; {
		began := time.Now()
		err := b.serve(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, stream.ErrClosed):
			return err
		case errors.Is(err, stream.ErrDeposed):
			b.cfg.Logger.Warn("another bridge took over, standing by", "err", err)
		default:
			b.cfg.Logger.Warn("bridging was interrupted, starting over", "err", err)
		}
		if time.Since(began) > time.Minute {
			fails = 0
		}
		timer := time.NewTimer(rand.N(min(backoffCap, backoffBase<<min(fails, 9))))
		fails++
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}
