package edge

import (
	"context"
	"math/rand/v2"
	"time"
)

// Within which time after its close a drained device comes back: the closes
// are spread already, so this only takes the edge off each step.
const (
	reconnectMin = 100 * time.Millisecond
	reconnectMax = 1500 * time.Millisecond
)

// drainStep is how often a few more devices are let go.
const drainStep = 10 * time.Millisecond

// Drain refuses new devices and lets those that are here go, evenly over the
// time over: each is told when to reconnect, and closed with 1012. It returns
// nil when the last is gone, which takes a little longer than over at most, and
// Run returns then; or ctx's error when that ends first, which leaves the rest
// to Run's end.
func (s *Server) Drain(ctx context.Context, over time.Duration) error {
	conns := s.registry.refuse()
	rand.Shuffle(len(conns), func(i, j int) { conns[i], conns[j] = conns[j], conns[i] })
	s.cfg.Logger.Info("drain begins", "connections", len(conns), "over", over)
	ticker := time.NewTicker(drainStep)
	defer ticker.Stop()
	begin := time.Now()
	for gone := 0; gone < len(conns); {
		due := len(conns)
		if passed := time.Since(begin); passed < over {
			due = 1 + int(float64(len(conns))*float64(passed)/float64(over))
		}
		for ; gone < min(due, len(conns)); gone++ {
			conns[gone].letGo()
		}
		if gone == len(conns) {
			break
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.registry.empty:
			gone = len(conns)
		}
	}
	select {
	case <-s.registry.empty:
	case <-ctx.Done():
		return ctx.Err()
	}
	s.once.Do(func() { close(s.drained) })
	return nil
}

// letGo tells the device when to come back, and closes.
func (c *conn) letGo() {
	c.afterMS.Store((reconnectMin + rand.N(reconnectMax-reconnectMin)).Milliseconds())
	c.close(codeRestart, "drain")
}
