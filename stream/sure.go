package stream

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// sureAfter is how long a server that led before its process was paused, or its links
	// were cut, may go on to answer once it is back, until it hears of its successor.
	sureAfter = 500 * time.Millisecond
	// sureWithin is within what time most replicas must have been heard by who leads. They
	// say something every second.
	sureWithin = 2500 * time.Millisecond
)

// errUnsure says that whoever answers for a stream may not lead it any more.
var errUnsure = errors.New("who answers has not heard from most replicas")

// sure returns nil when the questions that follow are answered by who leads the
// shard's stream. A deposed leader that does not know it answers from its past, in which
// the log ends earlier: it is asked about before anybody is told that the log lost
// something. With one replica that is at once.
func (l *Log) sure(ctx context.Context, shard int) error {
	for n := range 2 {
		var answer struct {
			Cluster struct {
				Replicas []struct {
					Offline bool          `json:"offline"`
					Active  time.Duration `json:"active"`
				} `json:"replicas"`
			} `json:"cluster"`
			Error *apiError `json:"error"`
		}
		if err := l.api(ctx, "STREAM.INFO."+eventsStream(shard), struct{}{}, &answer); err != nil {
			return err
		}
		if answer.Error != nil {
			return fmt.Errorf("stream: %s: %w", eventsStream(shard), answer.Error)
		}
		others := answer.Cluster.Replicas
		if len(others) == 0 {
			return nil
		}
		heard := 1
		for _, r := range others {
			if !r.Offline && r.Active < sureWithin {
				heard++
			}
		}
		if 2*heard <= len(others)+1 {
			return fmt.Errorf("stream: %s: %w", eventsStream(shard), errUnsure)
		}
		if n > 0 {
			break
		}
		select {
		case <-time.After(sureAfter):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
