package stream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"reprise/hlc"
)

const (
	// leaseRenew is how often a holder writes its lease anew.
	leaseRenew = time.Second
	// leaseTTL is how long a lease must stand unchanged, by the watch of who
	// wants it, before it may be taken.
	leaseTTL = 3 * time.Second
	// leasePoll is how often who waits for a lease looks at it.
	leasePoll = 250 * time.Millisecond
	// ceilingAhead is how far the ceiling is put above the newest stamp.
	ceilingAhead = 3 * time.Second
)

// errLeaseLost says that somebody else has taken the lease.
var errLeaseLost = errors.New("lease lost")

// leaseRecord is a lease as the bucket keeps it.
type leaseRecord struct {
	Holder string `json:"holder"` // node that holds it, "" when given back
	Boot   string `json:"boot"`   // the holder's opening of the log
	Epoch  uint64 `json:"epoch"`  // rises with every taking
	// Ceiling is at or above every stamp that was ever used under this lease.
	Ceiling hlc.Timestamp `json:"ceiling"`
}

// lease is a claim to a name, decided by compare-and-set. It says who should
// act, not who can: what must not happen twice needs a fence as well.
type lease struct {
	log     *Log
	key     string
	epoch   uint64
	boot    string
	already hlc.Timestamp // ceiling of whoever held it before

	mu      sync.Mutex
	ceiling hlc.Timestamp
	rev     uint64
}

// takeLease waits until nobody renews key and takes it, with an epoch above
// after. With patience, it gives up with errLeaseLost after having seen the
// lease held for so long. One that nobody claims is left alone until willing.
func (l *Log) takeLease(ctx context.Context, key string, after uint64, patience time.Duration, willing func() bool) (*lease, error) {
	var seen uint64
	var first, since time.Time // when the lease was first read; when it was seen to change
	for {
		rec, rev, err := l.readLease(ctx, key)
		if err == nil {
			if first.IsZero() {
				first = time.Now()
			}
			if rev != seen || since.IsZero() {
				seen, since = rev, time.Now()
			}
			if rec.Holder == "" && willing() || rec.Holder != "" && (l.ownsStale(rec) || time.Since(since) >= leaseTTL) {
				epoch := max(rec.Epoch, after) + 1
				le := &lease{log: l, key: key, boot: l.boot + "/" + strconv.FormatUint(epoch, 10), epoch: epoch, already: rec.Ceiling, ceiling: rec.Ceiling, rev: rev}
				if err = le.write(ctx, l.cfg.Node, rec.Ceiling); err == nil {
					return le, nil
				}
				since = time.Time{} // somebody moved it: start waiting anew
				if !errors.Is(err, errLeaseLost) {
					first = time.Time{} // nobody holds it: it is the server that will not
				}
			}
			if patience > 0 && !first.IsZero() && time.Since(first) > patience {
				return nil, errLeaseLost
			}
		}
		t := time.NewTimer(leasePoll)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, errors.Join(ctx.Err(), err)
		case <-t.C:
		}
	}
}

// ownsStale says that rec was left by an earlier process on the directory
// that this one has locked, so that nobody can be holding it.
func (l *Log) ownsStale(rec leaseRecord) bool {
	return l.server != nil && l.cfg.Listen == "" && len(rec.Boot) >= len(l.boot) && rec.Boot[:len(l.boot)] != l.boot
}

func (l *Log) readLease(ctx context.Context, key string) (rec leaseRecord, rev uint64, err error) {
	m, err := l.leaderGet(ctx, kvStream(leasesBucket), msgGet{LastFor: kvSubject(leasesBucket, key)})
	if errors.Is(err, errNoMessage) {
		return leaseRecord{}, 0, nil
	}
	if err != nil {
		return leaseRecord{}, 0, err
	}
	if err := json.Unmarshal(m.Data, &rec); err != nil {
		return leaseRecord{}, 0, fmt.Errorf("stream: lease %s: %w", key, err)
	}
	return rec, m.Seq, nil
}

// raise writes the lease anew with a ceiling of at least want. It returns
// errLeaseLost if somebody else has taken it; any other error leaves the
// lease as it was, and it can be tried again.
func (le *lease) raise(ctx context.Context, want hlc.Timestamp) error {
	return le.write(ctx, le.log.cfg.Node, want)
}

func (le *lease) write(ctx context.Context, holder string, ceiling hlc.Timestamp) error {
	le.mu.Lock()
	rev := le.rev
	ceiling = max(ceiling, le.ceiling)
	le.mu.Unlock()
	want := leaseRecord{Holder: holder, Boot: le.boot, Epoch: le.epoch, Ceiling: ceiling}
	rev, err := le.log.swap(ctx, leasesBucket, le.key, want, rev)
	if errors.Is(err, errSwapped) {
		// The write before this one may have been stored although its answer
		// was lost; then the record is still ours. One with a lower epoch is
		// from a backup that was restored: nobody has taken the lease since.
		rec, now, rerr := le.log.readLease(ctx, le.key)
		if rerr != nil {
			return rerr
		}
		if rec.Boot != le.boot && rec.Epoch >= le.epoch {
			return errLeaseLost
		}
		rev, err = le.log.swap(ctx, leasesBucket, le.key, want, now)
	}
	if err != nil {
		return err
	}
	le.mu.Lock()
	le.rev, le.ceiling = rev, ceiling
	le.mu.Unlock()
	return nil
}

// covers says whether stamp may be used.
func (le *lease) covers(stamp hlc.Timestamp) bool {
	le.mu.Lock()
	defer le.mu.Unlock()
	return stamp <= le.ceiling
}

// giveBack frees the lease, so that the next one need not wait for it. last is
// the newest stamp that was used: the ceiling comes down to it. It takes a
// second at most, even where ctx has ended.
func (le *lease) giveBack(ctx context.Context, last hlc.Timestamp) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	le.mu.Lock()
	le.ceiling = last
	le.mu.Unlock()
	if err := le.write(ctx, "", last); err != nil && !errors.Is(err, errLeaseLost) {
		le.log.logger.Warn("lease not given back, the next holder waits for it", "key", le.key, "err", err)
	}
}

// errSwapped says that the value was not at the expected revision.
var errSwapped = errors.New("stream: changed by somebody else")

// swap writes value as JSON to key in bucket if its revision is rev (0: not
// there) and returns the new revision, or errSwapped.
func (l *Log) swap(ctx context.Context, bucket, key string, value any, rev uint64) (uint64, error) {
	data, err := plainJSON(value)
	if err != nil {
		return 0, fmt.Errorf("stream: %s %s: %w", bucket, key, err)
	}
	ack, err := l.js.Publish(ctx, kvSubject(bucket, key), data, jetstream.WithExpectLastSequencePerSubject(rev))
	var api *jetstream.APIError
	if errors.As(err, &api) && isWrongSequence(int(api.ErrorCode)) {
		return 0, errSwapped
	}
	if err != nil {
		return 0, wrap(bucket+" "+key, err)
	}
	return ack.Sequence, nil
}

// plainJSON is value as JSON without escaping for HTML.
func plainJSON(value any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(value)
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), err
}

// Error codes of the server that mean "not at the expected sequence": of a
// single server and of a replicated stream.
const (
	codeWrongSequence           = 10071
	codeWrongSequenceReplicated = 10164
)

func isWrongSequence(code int) bool {
	return code == codeWrongSequence || code == codeWrongSequenceReplicated
}
