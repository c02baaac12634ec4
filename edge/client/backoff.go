package client

import (
	"errors"
	"math/rand/v2"
	"time"
)

// tooManyMessages is the close code after which a device is to come back
// slowly, although the connection itself was in order.
const tooManyMessages = 4029

// backoff counts attempts in vain and says how long to wait before the next.
type backoff struct {
	min, max time.Duration
	failures int
}

// wait returns the time until the next attempt after a connection that ended
// with err. reconnect is the edge's own wish, negative when it had none.
func (b *backoff) wait(err error, reconnect time.Duration) time.Duration {
	if reconnect >= 0 {
		return reconnect
	}
	var closed *ClosedError
	if errors.As(err, &closed) && closed.Code == tooManyMessages {
		b.failures = max(b.failures, 3)
	}
	if badToken(err) {
		b.failures = 30 // a fresh one did not help: others will not soon
	}
	ceiling := b.min
	for range b.failures + 1 {
		ceiling = min(2*ceiling, b.max)
	}
	b.failures = min(b.failures+1, 30)
	wait := b.min + rand.N(ceiling-b.min+1)
	var refused *RefusedError
	if errors.As(err, &refused) && refused.RetryAfter > 0 {
		wait = refused.RetryAfter + rand.N(ceiling-b.min+1)
	}
	return wait
}

// caughtUp forgets earlier failures: the edge has delivered everything.
func (b *backoff) caughtUp() { b.failures = 0 }
