package stream

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// UserKey stands for a user where the user's id must not be kept: the first half
// of its SHA-256. The zero UserKey is nobody's.
type UserKey [16]byte

// KeyOf is the key of a user. It allocates nothing.
func KeyOf(user string) UserKey {
	var id [36]byte
	n := copy(id[:], user)
	sum := sha256.Sum256(id[:n])
	return UserKey(sum[:16])
}

// Order is what an operator has said of a user, for every process that has to do
// with the user. It names nobody: who was forgotten is not kept.
type Order struct {
	User UserKey
	// At is when the newest of it was said: connections from before are to end.
	At time.Time
	// RevokedBefore: tokens that were issued before it are worth nothing. Zero is
	// none.
	RevokedBefore time.Time
	// ForgottenBefore: what was published before it is kept nowhere. Zero is
	// nothing.
	ForgottenBefore time.Time
}

// orderRecord is an Order as the bucket keeps it: Unix milliseconds, 0 for none.
type orderRecord struct {
	At        int64 `json:"at"`
	Revoked   int64 `json:"revoked_before,omitempty"`
	Forgotten int64 `json:"forgotten_before,omitempty"`
}

// orderLife is how long an order is kept: longer than events, than PubNub's
// history is ever read, and than tokens should be good.
const orderLife = 30 * 24 * time.Hour

const orderPrefix = "order."

func orderKey(shard int, user UserKey) string {
	return orderPrefix + strconv.Itoa(shard) + "." + hex.EncodeToString(user[:])
}

func milliOf(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func timeOfMilli(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

func (r orderRecord) order(user UserKey) Order {
	return Order{User: user, At: timeOfMilli(r.At), RevokedBefore: timeOfMilli(r.Revoked), ForgottenBefore: timeOfMilli(r.Forgotten)}
}

// Command gives an order about user, on top of those that there are: each time in
// it only ever moves forward. It is stored when Command returns nil; processes
// hear of it from FollowOrders.
func (l *Log) Command(ctx context.Context, user string, o Order) error {
	if err := validUser(user); err != nil {
		return err
	}
	key := orderKey(l.Shard(user), KeyOf(user))
	for n := 0; ; n++ {
		have, rev, err := l.readOrder(ctx, key)
		if err == nil {
			was := have
			have.At = max(have.At, milliOf(o.At))
			have.Revoked = max(have.Revoked, milliOf(o.RevokedBefore))
			have.Forgotten = max(have.Forgotten, milliOf(o.ForgottenBefore))
			if have == was {
				return nil // said before
			}
			if _, err = l.swap(ctx, stateBucket, key, have, rev); err == nil {
				return nil
			}
		}
		if !errors.Is(err, errSwapped) || n == 10 || !retry(ctx, n) {
			return fmt.Errorf("stream: order about user %s: %w", user, err)
		}
	}
}

// OrderOf is the order about user; the zero Order is none.
func (l *Log) OrderOf(ctx context.Context, user string) (Order, error) {
	key := KeyOf(user)
	have, _, err := l.readOrder(ctx, orderKey(l.Shard(user), key))
	if err != nil || have == (orderRecord{}) {
		return Order{}, wrap("order", err)
	}
	return have.order(key), nil
}

func (l *Log) readOrder(ctx context.Context, key string) (r orderRecord, rev uint64, err error) {
	m, err := l.leaderGet(ctx, kvStream(stateBucket), msgGet{LastFor: kvSubject(stateBucket, key)})
	if errors.Is(err, errNoMessage) {
		return orderRecord{}, 0, nil
	}
	if err != nil {
		return orderRecord{}, 0, err
	}
	_ = json.Unmarshal(m.Data, &r) // what is none is replaced
	return r, m.Seq, nil
}

// FollowOrders calls fn, from one goroutine, for the orders that there are and
// then for each new one, until ctx ends; then it returns nil. current is called
// once, from the same goroutine, when those that were there have been handed out.
// An order may come twice. Orders that are too old to matter are deleted.
func (l *Log) FollowOrders(ctx context.Context, fn func(Order), current func()) error {
	f := &keyFollower{
		log: l, bucket: stateBucket, filter: kvSubject(stateBucket, orderPrefix+">"), current: current,
		fn: func(m jetstream.Msg, _ uint64) {
			subject := m.Subject()
			var key UserKey
			var r orderRecord
			raw, err := hex.DecodeString(lastToken(subject))
			if err != nil || len(raw) != len(key) || json.Unmarshal(m.Data(), &r) != nil {
				return
			}
			copy(key[:], raw)
			if o := r.order(key); time.Since(o.At) < orderLife {
				fn(o)
				return
			}
			if err := l.purge(ctx, kvStream(stateBucket), subject); err != nil {
				l.logger.Warn("an old order is not deleted", "err", err)
			}
		},
	}
	f.follow(ctx, "orders are followed anew")
	return nil
}
