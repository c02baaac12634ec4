package stream

import (
	"context"
	"errors"
	"time"
)

// ErrOutboxFull says that the outbox, or this user's part of it, takes no more
// for now.
var ErrOutboxFull = errors.New("stream: the outbox is full")

// Update is what a device sent up, on its way to PubNub.
type Update struct {
	// ID is the device's own, a UUID; its scope is User and Device.
	ID           string
	User, Device string
	// Channel is the PubNub channel to publish to.
	Channel string
	// Expires is the Unix time in milliseconds at which it is worth nothing any
	// more; 0 is never.
	Expires int64
	// Body is what is published: a JSON object.
	Body []byte
}

// Submit stores u in the outbox and returns when it is stored, or was stored
// under the same id within the last minutes. It returns [ErrOutboxFull] where
// there is no room.
func (l *Log) Submit(ctx context.Context, u Update) error { panic("not yet") }

// Pending is an Update in the outbox.
type Pending struct {
	Update
	Seq    uint64    // its place in the outbox
	Stored time.Time // when it was stored
	Again  bool      // it was handed out before: it may have been published
}

// FollowOutbox calls fn, from one goroutine, for each entry of shard's outbox,
// oldest first, until ctx ends; then it returns nil. Entries stay in the outbox
// until [Log.Settle]; those that are left come again with the next FollowOutbox,
// marked Again. Only who writes the shard calls it: a second follower takes the
// entries from the first.
func (l *Log) FollowOutbox(ctx context.Context, shard int, fn func(Pending)) error { panic("not yet") }

// Settle takes an entry out of the outbox: it was published, dropped or buried.
func (l *Log) Settle(ctx context.Context, p Pending) error { panic("not yet") }

// OutboxDepth is how many entries wait in the outbox of all shards.
func (l *Log) OutboxDepth(ctx context.Context) (uint64, error) { panic("not yet") }
