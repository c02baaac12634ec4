package stream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// nodeLease keeps a second process of the same name from following under it:
// the two would share one durable consumer and each get half of the records.
type nodeLease struct {
	mu    sync.Mutex
	users int // calls of Follow under way
	lost  context.Context
	end   context.CancelCauseFunc
	ended chan struct{}
}

// errNodeTaken says that another process follows under this node's name.
var errNodeTaken = errors.New("another process follows under this node name; every edge needs a name of its own")

// holdNode claims the node's name for the first Follow and gives it back after
// the last. The returned context ends when ctx does, or with the cause
// errNodeTaken when the name is lost to another process.
func (l *Log) holdNode(ctx context.Context) (context.Context, func(), error) {
	n := &l.node
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.users == 0 {
		// A name that a crashed process left is free after the lease's life.
		claim, cancel := context.WithTimeoutCause(ctx, leaseTTL+2*leaseRenew, errNodeTaken)
		le, err := l.takeLease(claim, "node."+l.cfg.Node)
		if err != nil {
			err = fmt.Errorf("stream: follow as %q: %w", l.cfg.Node, context.Cause(claim))
			cancel()
			return nil, nil, err
		}
		cancel()
		n.lost, n.end = context.WithCancelCause(context.Background())
		n.ended = make(chan struct{})
		go l.renewNode(n.lost, le, n.end, n.ended)
	}
	n.users++
	held, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(n.lost, func() { cancel(context.Cause(n.lost)) })
	return held, func() {
		stop()
		cancel(nil)
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.users--; n.users == 0 {
			n.end(nil)
			<-n.ended
		}
	}, nil
}

// renewNode keeps the lease until ctx ends, and then gives it back.
func (l *Log) renewNode(ctx context.Context, le *lease, end context.CancelCauseFunc, ended chan<- struct{}) {
	defer close(ended)
	tick := time.NewTicker(leaseRenew)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			back, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			_ = le.release(back, 0)
			cancel()
			return
		case <-tick.C:
			if err := le.raise(ctx, 0); errors.Is(err, errLeaseLost) {
				end(fmt.Errorf("stream: follow as %q: %w", l.cfg.Node, errNodeTaken))
				return
			}
		}
	}
}
