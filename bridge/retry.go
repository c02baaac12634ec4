package bridge

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/time/rate"
)

// retrying makes a call until it succeeds, fails for good, or ctx ends; it
// waits for limiter (nil: no limit) before each attempt. A callError that is
// temporary or forbidden is tried again, after a back-off with full jitter that
// grows from 100 ms (1 s for forbidden and throttled) to 10 s, and not before
// PubNub's Retry-After, of which at most 5 minutes count. Any other error is
// returned at once. When ctx ends, the error is its cause, and the text tells of
// the last failure too.
func (c *caller) retrying(ctx context.Context, what string, limiter *rate.Limiter, call func(context.Context) error) error {
	var last *callError
	ended := func(err error) error {
		if last != nil {
			if last.forbidden() {
				return fmt.Errorf("bridge: %s: %w, after %w", what, err, last) // no waiting helped
			}
			return fmt.Errorf("bridge: %s: %w, after %v", what, err, last) // not %w: an ended ctx is not temporary
		}
		return fmt.Errorf("bridge: %s: %w", what, err)
	}
	for fails := 0; ; fails++ {
		if limiter != nil {
			if err := limiter.Wait(ctx); err != nil {
				if ctx.Err() != nil {
					err = context.Cause(ctx)
				}
				return ended(err) // the limiter also gives up if its turn lies behind ctx's deadline
			}
		}
		err := call(ctx)
		if err == nil {
			return nil
		}
		if !errors.As(err, &last) || !last.temporary() && !last.forbidden() {
			return err
		}
		c.failed(last)
		timer := time.NewTimer(max(backoff(last, fails), min(last.retryAfter, maxWait)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ended(context.Cause(ctx))
		}
	}
}

// backoff is how long to wait after e, which was preceded by so many failures.
func backoff(e *callError, fails int) time.Duration {
	base := backoffBase
	if e.result == pollForbidden || e.result == pollThrottled {
		base *= 10
	}
	return rand.N(min(backoffCap, base<<min(fails, 9)))
}
