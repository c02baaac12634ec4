package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
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

// registrationRecord is a Registration as the bucket keeps it.
type registrationRecord struct {
	Lane int   `json:"lane"`
	At   int64 `json:"at"` // Unix ms
}

const (
	// registeredFor is how long this process takes a registration for granted.
	// It ends so that one that was lost, with a backup put back, is made again.
	registeredFor = time.Hour
	// registeredMost bounds the users remembered so (some 12 MiB); one that is
	// forgotten costs a question to the server.
	registeredMost = 1 << 16
)

// Register makes user known to the bridges. It is harmless to repeat, and costs
// nothing for a user whom this process has registered within the last hour.
func (l *Log) Register(ctx context.Context, user string) error {
	if err := validUser(user); err != nil {
		return err
	}
	if l.registered.has(user, time.Now()) {
		return nil
	}
	rec := registrationRecord{Lane: NoLane, At: l.cfg.Wall().UnixMilli()}
	if _, err := l.swap(ctx, checkpointsBucket, registrationKey(l.Shard(user), user), rec, 0); err != nil && !errors.Is(err, errSwapped) {
		return fmt.Errorf("stream: register user %s: %w", user, err)
	}
	l.registered.claim(user, time.Now())
	return nil
}

// ErrReassigned says that a registration was changed since it was handed out.
var ErrReassigned = errors.New("stream: the registration was changed")

// Assign moves r to a lane. Only who writes the shard calls it. It returns
// [ErrReassigned] if the registration was changed since r was handed out, to
// another lane; FollowRegistrations hands out that one.
func (l *Log) Assign(ctx context.Context, r Registration, lane int) error {
	key := registrationKey(l.Shard(r.User), r.User)
	_, err := l.swap(ctx, checkpointsBucket, key, registrationRecord{Lane: lane, At: r.At.UnixMilli()}, r.rev)
	if errors.Is(err, errSwapped) {
		// Perhaps by an earlier call of which only the answer was lost.
		m, rerr := l.leaderGet(ctx, kvStream(checkpointsBucket), msgGet{LastFor: kvSubject(checkpointsBucket, key)})
		var there registrationRecord
		if rerr == nil && json.Unmarshal(m.Data, &there) == nil && there.Lane == lane {
			return nil
		}
		err = ErrReassigned
	}
	if err != nil {
		return fmt.Errorf("stream: assign user %s to lane %d: %w", r.User, lane, err)
	}
	return nil
}

// FollowRegistrations calls fn, from one goroutine, for each registered user
// of shard and then for each new or changed registration, until ctx ends; then
// it returns nil. current is called once, from the same goroutine, when all
// that were there at the beginning have been handed out. A registration may
// come twice: after a lost connection all come again. An error says that there
// is no such shard.
func (l *Log) FollowRegistrations(ctx context.Context, shard int, fn func(Registration), current func()) error {
	if shard < 0 || shard >= len(l.shards) {
		return fmt.Errorf("stream: shard %d of %d", shard, len(l.shards))
	}
	f := &keyFollower{
		log: l, bucket: checkpointsBucket, filter: kvSubject(checkpointsBucket, registrationKey(shard, "*")), current: current,
		fn: func(m jetstream.Msg, seq uint64) {
			var rec registrationRecord
			if json.Unmarshal(m.Data(), &rec) == nil {
				fn(Registration{User: userOf(m.Subject()), Lane: rec.Lane, At: time.UnixMilli(rec.At), rev: seq})
			}
		},
	}
	f.follow(ctx, "registrations are followed anew")
	return nil
}
