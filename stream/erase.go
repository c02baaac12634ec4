package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"reprise/hlc"
)

// erasesAtOnce bounds the records that are being erased at a time.
const erasesAtOnce = 16

// Erase takes every event of user with a stamp below before out of the log, and
// has the server overwrite them. It returns how many those were. It may be
// repeated, and has to be after an error: what was erased then stays so. In a long
// log it takes as long as reading all of it.
//
// To whoever follows the shard the erased records are a hole that the leader
// confirms, not a loss. Behind them stands a marker, so that the log's end is
// known. HAZARD: where the very first records of the log are among them, its
// beginning moves, and cursors of other users from before it count as trimmed.
// Errors: ErrDeposed, ErrClosed, ctx's, and what [Log.Read] returns.
func (w *Writer) Erase(ctx context.Context, user string, before hlc.Timestamp) (int, error) {
	if err := validUser(user); err != nil {
		return 0, err
	}
	if err := w.do(ctx, op{marker: true}); err != nil {
		return 0, err
	}
	if err := w.Flush(ctx); err != nil {
		return 0, err
	}
	var all []uint64
	if _, err := w.each(ctx, user, 0, func(r *Record) {
		if r.Hlc < before {
			all = append(all, r.Seq)
		}
	}); err != nil {
		return 0, err
	}
	n, err := w.log.erase(ctx, w.log.shards[w.shard].stream, all)
	w.lookMu.Lock()
	w.forgetLooked(user)
	w.lookMu.Unlock()
	if err != nil {
		return n, fmt.Errorf("stream: erase user %s: %w", user, err)
	}
	return n, nil
}

// erase overwrites and deletes records. One that is gone is no error.
func (l *Log) erase(ctx context.Context, stream string, seqs []uint64) (int, error) {
	var n atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(erasesAtOnce)
	for _, seq := range seqs {
		g.Go(func() error {
			err := l.remove(ctx, stream, seq, true)
			if err == nil {
				n.Add(1)
			}
			return err
		})
	}
	err := g.Wait()
	return int(n.Load()), err
}

// purge deletes all that a stream has of a subject.
func (l *Log) purge(ctx context.Context, stream, subject string) error {
	req := struct {
		Filter string `json:"filter"`
	}{subject}
	var answer struct {
		Error *apiError `json:"error"`
	}
	if err := l.api(ctx, "STREAM.PURGE."+stream, req, &answer); err != nil {
		return err
	}
	if answer.Error != nil {
		return fmt.Errorf("stream: %s: purge: %w", stream, answer.Error)
	}
	return nil
}

// Footprint is what the log keeps of a user beside the events.
type Footprint struct {
	// Events and First and Last are of the user's events; zeros where there are none.
	Events      uint64
	First, Last hlc.Timestamp
	// Cursors are what the user's devices acknowledged last, by device.
	Cursors    map[string]hlc.Timestamp
	Outbox     uint64 // updates that wait
	Dead       uint64 // dead letters of the user's channels
	Registered bool
}

// Footprint looks for everything that is kept of user.
func (l *Log) Footprint(ctx context.Context, user string) (f Footprint, err error) {
	if err := validUser(user); err != nil {
		return f, err
	}
	shard := l.Shard(user)
	var errs [6]error
	f.Events, errs[0] = l.count(ctx, eventsStream(shard), subjectOf(shard, user))
	if f.Events > 0 {
		var first, last Record
		first, errs[1] = l.edgeOf(ctx, shard, msgGet{Seq: 1, NextFor: subjectOf(shard, user)})
		last, errs[2] = l.edgeOf(ctx, shard, msgGet{LastFor: subjectOf(shard, user)})
		f.First, f.Last = first.Hlc, last.Hlc
	}
	f.Cursors, errs[3] = l.cursorsOf(ctx, user)
	f.Outbox, errs[4] = l.count(ctx, outboxStream, outboxSubject(shard, user))
	_, err = l.leaderGet(ctx, kvStream(checkpointsBucket), msgGet{LastFor: kvSubject(checkpointsBucket, registrationKey(shard, user))})
	if f.Registered = err == nil; errors.Is(err, errNoMessage) {
		err = nil
	}
	var dead []uint64
	dead, errs[5] = l.deadOf(ctx, user)
	f.Dead = uint64(len(dead))
	if err = errors.Join(append(errs[:], err)...); err != nil {
		return f, fmt.Errorf("stream: footprint of user %s: %w", user, err)
	}
	return f, nil
}

// count is how many messages a stream has of one subject.
func (l *Log) count(ctx context.Context, stream, subject string) (n uint64, err error) {
	err = l.subjects(ctx, stream, subject, func(_ string, messages uint64) { n = messages })
	return n, err
}

// edgeOf is a record that may have gone since it was counted.
func (l *Log) edgeOf(ctx context.Context, shard int, get msgGet) (Record, error) {
	m, err := l.leaderGet(ctx, eventsStream(shard), get)
	if errors.Is(err, errNoMessage) {
		return Record{}, nil
	}
	if err != nil {
		return Record{}, err
	}
	r, _, err := parseLeader(m)
	return r, err
}

// cursorsOf lists what the devices of user acknowledged last.
func (l *Log) cursorsOf(ctx context.Context, user string) (map[string]hlc.Timestamp, error) {
	found, err := l.newest(ctx, cursorsBucket, cursorKey(user, "*"))
	if err != nil {
		return nil, err
	}
	cursors := make(map[string]hlc.Timestamp, len(found))
	for _, m := range found {
		if at, err := hlc.ParseBytes(m.Data); err == nil {
			cursors[lastToken(header(m.Header, headerSubject))] = at
		}
	}
	return cursors, nil
}

// deadOf lists the numbers of the dead letters of user: those that came on one of
// the user's channels, and updates of the user's devices.
func (l *Log) deadOf(ctx context.Context, user string) (seqs []uint64, err error) {
	err = l.buried(ctx, msgGet{Seq: 1, NextFor: deadSubject + "*"}, -1, func(b Buried) {
		if strings.HasPrefix(b.Channel, "user."+user+".") || strings.HasPrefix(b.ID, outboxIDs(user)) {
			seqs = append(seqs, b.Seq)
		}
	})
	return seqs, err
}

// EraseRest takes out what is kept of user beside events and devices: updates in
// the outbox, dead letters and the registration. Done before the order to forget
// is given, it takes nothing of a user who comes back. It may be repeated.
func (l *Log) EraseRest(ctx context.Context, user string) error {
	if err := validUser(user); err != nil {
		return err
	}
	shard := l.Shard(user)
	dead, err := l.deadOf(ctx, user)
	if err == nil {
		_, err = l.erase(ctx, deadStream, dead)
	}
	err = errors.Join(err,
		l.purge(ctx, outboxStream, outboxSubject(shard, user)),
		l.purge(ctx, kvStream(checkpointsBucket), kvSubject(checkpointsBucket, registrationKey(shard, user))))
	l.registered.forget(user)
	return wrap("erase user "+user, err)
}

// EraseDevices takes out what is kept of user's devices: cursors and presence,
// which edges may write until they have heard the order to forget.
func (l *Log) EraseDevices(ctx context.Context, user string) error {
	if err := validUser(user); err != nil {
		return err
	}
	err := errors.Join(
		l.purge(ctx, kvStream(cursorsBucket), kvSubject(cursorsBucket, cursorKey(user, "*"))),
		l.purge(ctx, kvStream(presenceBucket), kvSubject(presenceBucket, user+".*")))
	return wrap("erase user "+user, err)
}

// Forget lets go of what this process remembers of a user: that the user is
// registered, that devices of the user were seen.
func (l *Log) Forget(user UserKey) {
	l.registered.drop(func(id string) bool { return KeyOf(id) == user })
	l.sightings.written.drop(func(d deviceOf) bool { return KeyOf(d.user) == user })
}
