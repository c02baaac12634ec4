package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestStackStopsFromTheTop(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	s := newStack()
	var order []string // parts append at their end, one at a time if the stack keeps its promise
	for _, name := range []string{"log", "edge", "bridge"} {
		s.push(ctx, name, func(ctx context.Context) error {
			<-ctx.Done()
			order = append(order, name)
			return nil
		})
	}
	cancel() // which is not what stops parts
	if err := s.stop(); err != nil {
		t.Errorf("stop() error = %v, want nil", err)
	}
	if want := []string{"bridge", "edge", "log"}; !slices.Equal(order, want) {
		t.Errorf("parts ended as %q, want %q", order, want)
	}
}

func TestStackReportsAnEarlyEnd(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for _, tt := range []struct {
		err  error
		want string
	}{{broken, "part: broken"}, {nil, "part: ended by itself"}} {
		s := newStack()
		s.push(t.Context(), "other", func(ctx context.Context) error { <-ctx.Done(); return nil })
		s.push(t.Context(), "part", func(context.Context) error { return tt.err })
		if err := <-s.failed; err.Error() != tt.want {
			t.Errorf("failed = %v, want %s", err, tt.want)
		}
		if err := s.stop(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("stop() error = %v, want %s", err, tt.want)
		}
	}
}
