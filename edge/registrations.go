package edge

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"

	"reprise/stream"
)

const (
	// registrationsKept bounds the users that wait for being registered. Above it
	// further ones are dropped, and counted; they are registered when they
	// connect the next time.
	registrationsKept = 100_000
	// registerTime bounds one attempt.
	registerTime = 5 * time.Second
)

// registrations makes users who connect known to the bridges, behind their
// handshakes.
type registrations struct {
	// static after construction
	log     *stream.Log
	logger  *slog.Logger
	dropped metric.Int64Counter
	more    chan struct{} // of one; sent to by add, never closed

	mu      sync.Mutex
	waiting []string
}

// add has user registered. It blocks on nothing.
func (r *registrations) add(user string) {
	r.mu.Lock()
	full := len(r.waiting) >= registrationsKept
	if !full {
		r.waiting = append(r.waiting, user)
	}
	r.mu.Unlock()
	if full {
		r.dropped.Add(context.Background(), 1)
		return
	}
	select {
	case r.more <- struct{}{}:
	default:
	}
}

// next takes the user who has waited longest.
func (r *registrations) next() (user string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) == 0 {
		r.waiting = nil // and what a storm made of it
		return "", false
	}
	user = r.waiting[0]
	r.waiting = r.waiting[1:]
	return user, true
}

// run registers until ctx ends. Who could not be registered goes to the end of
// the line. Who is still waiting at the end connects to another edge now, which
// does the same.
func (r *registrations) run(ctx context.Context) {
	for pause := backoffMin; ; {
		user, ok := r.next()
		if !ok {
			select {
			case <-r.more:
				continue
			case <-ctx.Done():
				return
			}
		}
		err := r.register(ctx, user)
		if err == nil {
			pause = backoffMin
			continue
		}
		if ctx.Err() != nil {
			return
		}
		r.add(user)
		r.logger.Warn("user not registered", "user", user, "err", err)
		select {
		case <-time.After(pause):
			pause = min(2*pause, backoffMax)
		case <-ctx.Done():
			return
		}
	}
}

func (r *registrations) register(ctx context.Context, user string) error {
	ctx, cancel := context.WithTimeout(ctx, registerTime)
	defer cancel()
	return r.log.Register(ctx, user)
}
