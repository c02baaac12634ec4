package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// errNodeTaken says that another process follows under this node's name.
var errNodeTaken = errors.New("another process follows under this node name; every edge needs a name of its own")

// holdNode claims the name under which shard is followed: two processes that
// shared it would share one durable consumer, and each get half of the
// records. The returned context ends when ctx does, or with the cause
// errNodeTaken when the name is lost to another process; release gives the
// name back. A name that a crashed process left is free after its lease's life.
func (l *Log) holdNode(ctx context.Context, shard int) (held context.Context, release func(), err error) {
	key := "node." + l.cfg.Node + "." + strconv.Itoa(shard)
	le, err := l.takeLease(ctx, key, 0, leaseTTL+2*leaseRenew, func() bool { return true })
	if errors.Is(err, errLeaseLost) {
		err = errNodeTaken
	}
	if err != nil {
		return nil, nil, fmt.Errorf("stream: follow shard %d as %q: %w", shard, l.cfg.Node, err)
	}
	held, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(leaseRenew)
		defer tick.Stop()
		for {
			select {
			case <-held.Done():
				le.giveBack(held, 0)
				return
			case <-tick.C:
				if err := le.raise(held, 0); errors.Is(err, errLeaseLost) {
					cancel(fmt.Errorf("stream: follow shard %d as %q: %w", shard, l.cfg.Node, errNodeTaken))
					return
				}
			}
		}
	}()
	return held, func() { cancel(nil); <-ended }, nil
}
