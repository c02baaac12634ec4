package main

import (
	"context"
	"errors"
	"fmt"
)

// stack is the running parts of a node. Parts are started one after another and
// stopped the other way round, each only when the one above it has ended.
// It belongs to one goroutine.
type stack struct {
	parts  []*part
	failed chan error // parts send when they end; room for one each, see push
}

// part is something that runs until its context ends.
type part struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{} // closed by the part's goroutine at its end
	err    error         // valid after done
}

// maxParts bounds a stack, so that a part's end never waits for a reader.
const maxParts = 16

func newStack() *stack { return &stack{failed: make(chan error, maxParts)} }

// push starts run. Its context ends when the part is stopped, not when ctx
// ends: that ctx ends is a reason to stop parts in order.
func (s *stack) push(ctx context.Context, name string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p := &part{name: name, cancel: cancel, done: make(chan struct{})}
	s.parts = append(s.parts, p)
	go func() {
		defer close(p.done)
		p.err = run(ctx)
		if p.err != nil {
			p.err = fmt.Errorf("%s: %w", name, p.err)
		} else if ctx.Err() == nil {
			p.err = fmt.Errorf("%s: ended by itself", name)
		}
		if p.err != nil {
			s.failed <- p.err
		}
	}()
}

// pop stops the part that was started last and returns how it ended.
func (s *stack) pop() error {
	p := s.parts[len(s.parts)-1]
	s.parts = s.parts[:len(s.parts)-1]
	p.cancel()
	<-p.done
	return p.err
}

// stop stops all parts.
func (s *stack) stop() error {
	var errs []error
	for len(s.parts) > 0 {
		errs = append(errs, s.pop())
	}
	return errors.Join(errs...)
}
