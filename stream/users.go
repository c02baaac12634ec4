package stream

import (
	"context"
	"time"
)

// NoLane is the lane of a user who has none.
const NoLane = -1

// Registration is a user whose events are wanted although there may be none yet.
type Registration struct {
	User string
	Lane int       // the lane that carries the user's channels, or NoLane
	At   time.Time // when the user was registered
	rev  uint64
}

// Register makes user known to the bridges. It is harmless to repeat.
func (l *Log) Register(ctx context.Context, user string) error { panic("not yet") }

// Assign moves r to a lane. Only who writes the shard calls it.
func (l *Log) Assign(ctx context.Context, r Registration, lane int) error { panic("not yet") }

// FollowRegistrations calls fn, from one goroutine, for each registered user
// of shard and then for each new or changed registration, until ctx ends; then
// it returns nil. current is called once, when all that were there at the
// beginning have been handed out. A registration may come twice.
func (l *Log) FollowRegistrations(ctx context.Context, shard int, fn func(Registration), current func()) error {
	panic("not yet")
}

// Users lists, in order, the users of shard that the log has events of or that
// are registered.
func (l *Log) Users(ctx context.Context, shard int) ([]string, error) { panic("not yet") }
