package stream

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const membersPrefix = "bridge."

// Join keeps this process on the list of those that share the shards until ctx
// ends, and calls changed, from this goroutine, with how many those are: at
// first and whenever it is another number. Nobody's right to write depends on
// it: it only says which share of the shards is fair.
func (l *Log) Join(ctx context.Context, changed func(members int)) {
	own := kvSubject(leasesBucket, membersPrefix+l.boot)
	defer l.leave(ctx, own)
	seen := make(map[string]member)
	count := 0
	tick := time.NewTicker(leaseRenew)
	defer tick.Stop()
	for ctx.Err() == nil {
		ask, cancel := context.WithTimeout(ctx, leaseRenew)
		_, err := l.js.Publish(ask, own, []byte(`{"holder":"`+l.cfg.Node+`"}`), jetstream.WithRetryAttempts(0))
		if err == nil {
			err = l.countMembers(ask, seen)
		}
		cancel()
		if err == nil {
			now := 0
			for subject, m := range seen {
				switch age := time.Since(m.changed); {
				case age < leaseTTL:
					now++
				case age > 20*leaseTTL: // nobody has tidied up after it
					l.leave(ctx, subject)
					delete(seen, subject)
				}
			}
			if now != count {
				count = now
				changed(count)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// member is when a process was seen to renew its membership last.
type member struct {
	seq     uint64
	changed time.Time
}

// countMembers notes which memberships have changed.
func (l *Log) countMembers(ctx context.Context, seen map[string]member) error {
	_, err := l.direct.get(ctx, kvStream(leasesBucket), msgGet{MultiLast: []string{kvSubject(leasesBucket, membersPrefix+"*")}}, probeMost+1, func(m *nats.Msg) error {
		subject, seq := header(m.Header, headerSubject), number(m.Header, headerSequence)
		if seq > seen[subject].seq {
			seen[subject] = member{seq: seq, changed: time.Now()}
		}
		return nil
	})
	if errors.Is(err, errNoMessage) {
		return nil // a replica that lags
	}
	return err
}

// leave takes a membership off the list, within a second. Where that fails it
// runs out by itself.
func (l *Log) leave(ctx context.Context, subject string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	var answer struct{}
	_ = l.api(ctx, "STREAM.PURGE.KV_"+leasesBucket, struct {
		Filter string `json:"filter"`
	}{subject}, &answer)
}
