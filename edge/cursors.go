package edge

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"reprise/hlc"
	"reprise/stream"
)

// Bounds of what is kept of acknowledgements before they are saved.
const (
	// cursorsEvery is how often: a device that acknowledges every event costs the
	// log one write a second.
	cursorsEvery = time.Second
	// cursorsKept bounds the devices that wait for being saved while the log is
	// out of reach. Above it acknowledgements of further devices are dropped;
	// the device then continues at an older cursor, or sends its own.
	cursorsKept = 200_000
	// cursorsAtOnce is how many are saved at a time.
	cursorsAtOnce = 16
)

type deviceKey struct{ user, device string }

// cursors saves what devices acknowledge, behind them, the newest only.
type cursors struct {
	log    *stream.Log
	logger *slog.Logger

	mu     sync.Mutex
	unsent map[deviceKey]hlc.Timestamp // not yet saved, or being saved
}

// ack keeps at as what device of user has acknowledged. The last call counts.
func (cs *cursors) ack(user, device string, at hlc.Timestamp) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	key := deviceKey{user, device}
	if _, known := cs.unsent[key]; known || len(cs.unsent) < cursorsKept {
		cs.unsent[key] = at
	}
}

// acked is what device last acknowledged, here or, as far as it was saved,
// anywhere.
func (cs *cursors) acked(ctx context.Context, user, device string) (hlc.Timestamp, bool, error) {
	cs.mu.Lock()
	at, ok := cs.unsent[deviceKey{user, device}]
	cs.mu.Unlock()
	if ok || cs.log == nil {
		return at, ok, nil
	}
	return cs.log.Cursor(ctx, user, device)
}

// run saves until ctx ends, and then once more.
func (cs *cursors) run(ctx context.Context) {
	ticker := time.NewTicker(cursorsEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			cs.save(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			cs.save(last)
			return
		}
	}
}

// save saves what waits now. What fails waits for the next time.
func (cs *cursors) save(ctx context.Context) {
	cs.mu.Lock()
	waiting := make(map[deviceKey]hlc.Timestamp, len(cs.unsent))
	for key, at := range cs.unsent {
		waiting[key] = at
	}
	cs.mu.Unlock()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(cursorsAtOnce)
	for key, at := range waiting {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			if err := cs.log.SaveCursor(ctx, key.user, key.device, at); err != nil {
				return err
			}
			cs.mu.Lock()
			defer cs.mu.Unlock()
			if cs.unsent[key] == at {
				delete(cs.unsent, key)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		cs.logger.Warn("cursors not saved", "devices", len(waiting), "err", err)
	}
}
