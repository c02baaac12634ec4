package bridge

import (
	"context"
	"errors"
	"hash/maphash"
	"strings"
	"sync"
	"time"

	"reprise/stream"
)

const (
	// publishAtOnce is how many entries of a shard's outbox are on their way to
	// PubNub at a time, of as many users.
	publishAtOnce = 16
	// idMemory is for how long an id that a device gave is remembered.
	idMemory = 24 * time.Hour
	// sentMost bounds the ids that a shard's outbox remembers, some 8 MiB. Beyond
	// it users are forgotten, and looked up in the log again when they come back.
	sentMost = 200_000
)

// outbox carries a shard's outbox to PubNub: each user's updates one after the
// other, in the order in which they were stored.
type outbox struct {
	sh   *shard
	room chan struct{} // one token for each call under way

	mu      sync.Mutex
	waiting map[string][]stream.Pending    // by user; a user who is listed has a goroutine
	sent    map[string]map[uint64]struct{} // by user: hashes of the ids that are in the log or on their way there
	kept    int                            // hashes in sent
	users   sync.WaitGroup
}

var idSeed = maphash.MakeSeed()

// publish carries the outbox until ctx ends.
func (sh *shard) publish(ctx context.Context) {
	o := &outbox{sh: sh, room: make(chan struct{}, publishAtOnce),
		waiting: make(map[string][]stream.Pending), sent: make(map[string]map[uint64]struct{})}
	defer o.users.Wait()
	for fails := 0; ctx.Err() == nil; fails++ {
		if err := sh.b.cfg.Log.FollowOutbox(ctx, sh.writer.Shard(), func(p stream.Pending) { o.add(ctx, p) }); err != nil {
			sh.b.cfg.Logger.Warn("the outbox is not carried", "shard", sh.writer.Shard(), "err", err)
			pause(ctx, fails)
		}
	}
}

// add queues p behind what its user has sent before.
func (o *outbox) add(ctx context.Context, p stream.Pending) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, running := o.waiting[p.User]
	o.waiting[p.User] = append(o.waiting[p.User], p)
	if !running {
		o.users.Go(func() { o.user(ctx, p.User) })
	}
}

// user carries what waits of one user.
func (o *outbox) user(ctx context.Context, user string) {
	for {
		o.mu.Lock()
		if len(o.waiting[user]) == 0 {
			delete(o.waiting, user)
			o.mu.Unlock()
			return
		}
		p := o.waiting[user][0]
		o.waiting[user] = o.waiting[user][1:]
		o.mu.Unlock()
		for fails := 0; ; fails++ {
			result, err := o.carry(ctx, p)
			if err == nil {
				err = o.sh.b.cfg.Log.Settle(ctx, p)
			}
			if err == nil {
				o.sh.b.inst.outboxed(ctx, result)
				break
			}
			if ctx.Err() != nil {
				return // what is left comes again, to whoever has the shard next
			}
			o.sh.b.cfg.Logger.Warn("an update waits in the outbox", "user", user, "device", p.Device, "err", err)
			if !pause(ctx, fails) {
				return
			}
		}
	}
}

// errExpired says that an update has expired in the outbox.
var errExpired = errors.New("expired")

// carry publishes one update, and says what became of it. It returns an error
// when that is not decided yet.
func (o *outbox) carry(ctx context.Context, p stream.Pending) (result string, err error) {
	b := o.sh.b
	id := updateID(p.User, p.Device, p.ID)
	var seen bool
	err = o.inRoom(ctx, func() (err error) {
		seen, err = o.seen(ctx, p.User, id)
		return err
	})
	switch {
	case err != nil:
		return "", err
	case seen:
		return "duplicate", nil
	}
	err = b.calls.retrying(ctx, "publish", nil, func(ctx context.Context) error {
		if p.Expires != 0 && p.Expires <= time.Now().UnixMilli() {
			return errExpired
		}
		return o.inRoom(ctx, func() error {
			_, err := b.calls.publish(ctx, p.Channel, p.Body, updateMeta(id))
			return err
		})
	})
	var call *callError
	switch {
	case err == nil:
		o.remember(p.User, id)
		return "published", nil
	case errors.Is(err, errExpired):
		return "expired", nil
	case ctx.Err() == nil && errors.As(err, &call) && !call.temporary() && !call.forbidden() && call.result != callUnsent:
		b.cfg.Logger.Warn("PubNub does not take an update from a device", "user", p.User, "device", p.Device, "err", call)
		dead := stream.DeadLetter{ID: id, Reason: string(call.reason()), Detail: "publish: " + string(call.result) + ": " + call.class,
			Channel: p.Channel, Publisher: p.Device, Raw: p.Body}
		if _, err := b.cfg.Log.Bury(ctx, dead); err != nil {
			return "", err
		}
		b.inst.buried(ctx, Reason(dead.Reason))
		return "dead", nil
	}
	return "", err
}

// inRoom calls fn when fewer than publishAtOnce others are being called. Who
// waits before another attempt has no place in there: users whom PubNub refuses
// for now do not hold up the others.
func (o *outbox) inRoom(ctx context.Context, fn func() error) error {
	select {
	case o.room <- struct{}{}:
		defer func() { <-o.room }()
		return fn()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reason is why an update that PubNub refuses is a dead letter.
func (e *callError) reason() Reason {
	if e.class == "413" || e.class == "414" {
		return TooLarge
	}
	return BadValue
}

// seen tells whether an id of user's is in the log already.
func (o *outbox) seen(ctx context.Context, user, id string) (bool, error) {
	hash := maphash.String(idSeed, id)
	o.mu.Lock()
	ids, known := o.sent[user]
	_, found := ids[hash]
	o.mu.Unlock()
	if known {
		return found, nil
	}
	kept, err := o.sh.writer.Since(ctx, user, time.Now().Add(-idMemory))
	if err != nil {
		return false, err
	}
	ids = make(map[uint64]struct{})
	for _, k := range kept {
		if strings.HasPrefix(k.ID, updatePrefix) {
			ids[maphash.String(idSeed, k.ID)] = struct{}{}
		}
	}
	_, found = ids[hash]
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sent[user] = ids
	o.kept += len(ids) + 1
	return found, nil
}

// remember notes that an id of user's, whom seen has been asked about, is on
// its way into the log.
func (o *outbox) remember(user, id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if ids, known := o.sent[user]; known {
		ids[maphash.String(idSeed, id)] = struct{}{}
		o.kept++
	}
	for other, ids := range o.sent {
		if o.kept <= sentMost {
			break
		}
		if _, busy := o.waiting[other]; !busy {
			delete(o.sent, other)
			o.kept -= len(ids) + 1
		}
	}
}

// An update's id in the log, and in the meta of its PubNub message.
const updatePrefix = "out:"

func updateID(user, device, id string) string { return updatePrefix + user + ":" + device + ":" + id }

// updateMeta is the meta with which an update is published.
func updateMeta(id string) []byte { return []byte(`{"reprise_id":"` + id + `"}`) }

// ownID reads the id out of the meta of a message on a channel of user's, ""
// if there is none of ours. Anybody who may publish there can write one; it is
// good for nothing but ids of that user.
func ownID(user string, meta []byte) (id string) {
	at := skipSpace(meta, 0)
	if at >= len(meta) || len(meta) > 4<<10 {
		return ""
	}
	if meta[at] == '"' {
		meta = textOf(meta[at:])
		if at = skipSpace(meta, 0); at >= len(meta) {
			return ""
		}
	}
	if meta[at] != '{' {
		return ""
	}
	m := newMembers(meta, at, maxLevels)
	for name, value, ok := m.next(); ok; name, value, ok = m.next() {
		if string(name) == "reprise_id" {
			id = string(textOf(value))
		}
	}
	const length = len(updatePrefix) + 3*uuidLen + 2
	if m.err != nil || len(id) != length || id[:len(updatePrefix)+uuidLen+1] != updatePrefix+user+":" {
		return ""
	}
	device, own := id[length-2*uuidLen-1:length-uuidLen-1], id[length-uuidLen:]
	if !isUUID(device) || !isUUID(own) || id[length-uuidLen-1] != ':' {
		return ""
	}
	return id
}
