package stream

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"reprise/hlc"
)

const (
	// foldSoon is after how long what few users did is written, at most foldFew of them.
	// What more did waits until foldLate, or until it takes foldBytes of memory: each
	// user's state is then read and written once for many events.
	foldSoon, foldLate = 2 * time.Second, time.Minute
	foldFew            = 500
	foldBytes          = 32 << 20
	// foldAtOnce is how many states are written at a time.
	foldAtOnce = 16
	// stateMost bounds a state's bytes. Of a user who has more, first the tags that
	// were taken back are forgotten, and then the state is given up: such a user gets
	// no snapshots.
	stateMost = 512 << 10
	// foldConsumer names the durable consumer of who folds a shard.
	foldConsumer = "fold"
)

// foldRecord is how far a shard was folded, as the bucket keeps it.
type foldRecord struct {
	Position
	// Whole says that every event up to Position is in the states: none was cut, by
	// retention, before it was folded.
	Whole bool `json:"whole"`
	// Gap is the stamp of the newest gap that may concern any user; zero is none.
	Gap hlc.Timestamp `json:"gap,omitempty"`
}

func foldKey(shard int) string { return "fold." + strconv.Itoa(shard) }

func stateKey(shard int, user string) string { return foldKey(shard) + "." + user }

// Folder folds a shard's log: it keeps what each user's events amount to in the
// bucket of the states, some seconds behind the log and never ahead of it. Where it
// is, is written behind the states: after a crash some events are folded again, which
// changes nothing. A log that was replaced, or a bucket that is empty, is folded from
// the beginning. One folder at a time is meant to run for a shard, by who writes it. Two
// do no harm, since all writes are decided by compare-and-set and only go forward: one
// that was left behind, paused or cut off, sees before it writes that another goes on.
//
// Run belongs to one goroutine; Forget may be called from any.
type Folder struct {
	// static after construction
	log   *Log
	shard int

	// flushing is held while states are written.
	flushing sync.Mutex
	at       foldRecord // guarded by flushing
	rev      uint64     // guarded by flushing; of at

	mu     sync.Mutex
	next   *batch                   // guarded by mu; what is to be folded
	erased map[string]hlc.Timestamp // guarded by mu; by user: events from before were erased, which may be under way
}

// NewFolder returns a folder of shard, which l must have.
func (l *Log) NewFolder(shard int) *Folder {
	return &Folder{log: l, shard: shard, next: newBatch(Position{}), erased: make(map[string]hlc.Timestamp)}
}

// batch is what came since states were written last.
type batch struct {
	began time.Time
	at    Position          // of the newest record
	users map[string]*State // what users' events of the time amount to
	gap   hlc.Timestamp     // that may concern any user
	lost  bool              // retention was faster
	reset bool              // the log was replaced
	bytes int
}

func newBatch(at Position) *batch {
	return &batch{began: time.Now(), at: at, users: make(map[string]*State)}
}

// of is what there is of a user.
func (b *batch) of(user string) *State {
	s := b.users[user]
	if s == nil {
		s = new(State)
		b.users[strings.Clone(user)] = s // the record keeps only its frame
		b.bytes += stateLeast
	}
	return s
}

// stateLeast is about what the smallest state takes in memory.
const stateLeast = 300

// due reports whether it is time to write.
func (b *batch) due() bool {
	return b.reset || b.bytes >= foldBytes || len(b.users) <= foldFew || time.Since(b.began) >= foldLate
}

// take takes a step of the log.
func (f *Folder) take(r *Record) (full bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.next
	b.at = r.Position
	switch r.Kind {
	case KindEvent:
		if r.Hlc < f.erased[r.User] {
			break // it was on its way when it was erased
		}
		s := b.of(r.User)
		before := s.contents()
		if err := s.Apply(r.Frame, r.Hlc); err != nil {
			f.log.logger.Error("a frame that is none is in no state", "shard", f.shard, "user", r.User, "hlc", r.Hlc, "err", err)
		}
		if s.contents() > before || bytes.HasPrefix(r.Frame, watchlistHead) {
			b.bytes += len(r.Frame) // what it adds to the state is no longer than that
		}
	case KindGap:
		if r.GapUser == "" {
			b.gap = r.Hlc
		} else {
			b.of(r.GapUser).Gap = r.Hlc
		}
	case KindLost:
		b.lost = true
	case KindReset:
		b.reset = true
	}
	return b.reset || b.bytes >= foldBytes
}

// Run folds until ctx ends. What stands in its way is waited out.
func (f *Folder) Run(ctx context.Context) {
	defer f.log.sights.folded[f.shard].Store(nil)
	for n := 0; ctx.Err() == nil; n++ {
		began := time.Now()
		err := f.fold(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > time.Minute {
			n = 0
		}
		f.log.logger.Warn("states are folded anew", "shard", f.shard, "err", err)
		retry(ctx, n)
	}
}

// fold follows the log from where it was folded to, until something is not as it
// must be.
func (f *Folder) fold(ctx context.Context) error {
	at, err := f.load(ctx)
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.next = newBatch(at)
	f.mu.Unlock()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	full := make(chan struct{}) // received from by this goroutine
	var following sync.WaitGroup
	defer following.Wait()
	defer stop(nil)
	following.Go(func() {
		f.log.followFrom(ctx, f.shard, foldConsumer, at, func(r *Record) {
			if f.take(r) {
				select {
				case full <- struct{}{}:
				case <-ctx.Done():
				}
			}
		})
	})
	tick := time.NewTicker(foldSoon)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-full:
		case <-tick.C:
		}
		if err := f.flush(ctx); err != nil {
			return err
		}
	}
}

// load reads how far the shard was folded; nothing is from the beginning.
func (f *Folder) load(ctx context.Context) (Position, error) {
	f.flushing.Lock()
	defer f.flushing.Unlock()
	return f.loadHeld(ctx)
}

// loadHeld is load with flushing held.
func (f *Folder) loadHeld(ctx context.Context) (Position, error) {
	at, rev, err := f.log.readFold(ctx, f.shard)
	if err != nil {
		return Position{}, err
	}
	if rev == 0 {
		at.Whole = true
	} else if at.Seq == 0 && !at.Whole {
		at, rev, err = f.begin(ctx, rev) // was interrupted
	}
	if err == nil {
		f.set(at, rev)
	}
	return at.Position, err
}

// begin throws all states of the shard away.
func (f *Folder) begin(ctx context.Context, rev uint64) (foldRecord, uint64, error) {
	rev, err := f.log.swap(ctx, stateBucket, foldKey(f.shard), foldRecord{}, rev)
	if err != nil {
		return foldRecord{}, 0, err
	}
	if err := f.log.purge(ctx, kvStream(stateBucket), kvSubject(stateBucket, stateKey(f.shard, "*"))); err != nil {
		return foldRecord{}, 0, err
	}
	whole := foldRecord{Whole: true}
	rev, err = f.log.swap(ctx, stateBucket, foldKey(f.shard), whole, rev)
	return whole, rev, err
}

// flush writes the states of who had events, and then how far that was.
func (f *Folder) flush(ctx context.Context) error {
	f.flushing.Lock()
	defer f.flushing.Unlock()
	f.mu.Lock()
	b := f.next
	due := b.due()
	if due {
		f.next = newBatch(b.at)
	}
	f.mu.Unlock()
	if !due {
		return nil
	}
	if b.reset {
		f.log.logger.Warn("the log was replaced, states are folded from its beginning", "shard", f.shard)
		if _, _, err := f.begin(ctx, f.rev); err != nil {
			return err
		}
		return errReplaced
	}
	if b.at == f.at.Position {
		return nil
	}
	if _, rev, err := f.log.readFold(ctx, f.shard); err != nil || rev != f.rev {
		return cmp.Or(err, errSwapped)
	}
	var mu sync.Mutex
	newest := uint64(0) // guarded by mu
	g, write := errgroup.WithContext(ctx)
	g.SetLimit(foldAtOnce)
	for user, news := range b.users {
		g.Go(func() error {
			rev, err := f.write(write, user, news)
			mu.Lock()
			defer mu.Unlock()
			newest = max(newest, rev)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	now := foldRecord{Position: b.at, Whole: f.at.Whole && !b.lost, Gap: max(f.at.Gap, b.gap)}
	if err := f.advance(ctx, now, newest); err != nil {
		return err
	}
	f.mu.Lock()
	maps.DeleteFunc(f.erased, func(_ string, before hlc.Timestamp) bool { return before <= now.Hlc })
	f.mu.Unlock()
	return nil
}

// errRolledBack says that the bucket has lost what it had acknowledged.
var errRolledBack = errors.New("the bucket has lost states that it had acknowledged")

// advance writes how far was folded, behind the states, of which newest is the highest
// revision. A cluster can lose what it has acknowledged, by a full disk and a restart
// at the same time; then it loses all from some revision on. Lost with the record of
// how far, states are folded again. Lost just before it, its revision tells, and it is
// taken back. Called with flushing held.
func (f *Folder) advance(ctx context.Context, to foldRecord, newest uint64) error {
	rev, err := f.log.swap(ctx, stateBucket, foldKey(f.shard), to, f.rev)
	if err != nil {
		return err
	}
	if rev <= newest {
		_, err := f.log.swap(ctx, stateBucket, foldKey(f.shard), f.at, rev)
		return cmp.Or(err, errRolledBack)
	}
	f.set(to, rev)
	return nil
}

// set notes what the bucket has. Called with flushing held.
func (f *Folder) set(at foldRecord, rev uint64) {
	if !at.Whole && (f.at.Whole || f.rev == 0) {
		f.log.logger.Warn("events were cut before they were folded: no user of the shard is given snapshots", "shard", f.shard)
	}
	f.at, f.rev = at, rev
	f.log.sights.folded[f.shard].Store(&at)
}

// write merges news into user's state and returns the revision.
func (f *Folder) write(ctx context.Context, user string, news *State) (uint64, error) {
	key := stateKey(f.shard, user)
	for {
		s, rev, err := f.log.readState(ctx, key)
		if err != nil {
			return 0, err
		}
		s.merge(news)
		if s.shrink(stateMost) {
			f.log.inst.tooLarge.Add(ctx, 1)
			f.log.logger.Warn("a state is too large", "shard", f.shard, "user", user, "given_up", s.full)
		}
		if rev, err = f.log.swap(ctx, stateBucket, key, s, rev); !errors.Is(err, errSwapped) {
			return rev, err
		}
	}
}

// Forget takes user's state away and lets nothing from before a stamp back into it.
// The events themselves must have been erased. It may be repeated.
func (f *Folder) Forget(ctx context.Context, user string, before hlc.Timestamp) error {
	f.flushing.Lock()
	defer f.flushing.Unlock()
	f.mu.Lock()
	f.erased[user] = max(f.erased[user], before)
	upTo := f.next.at
	delete(f.next.users, user)
	f.mu.Unlock()
	if upTo == (Position{}) { // Run has not begun
		var err error
		if upTo, err = f.loadHeld(ctx); err != nil {
			return err
		}
	}
	// What the user did since is in the log, and may be folded already.
	var s State
	for at := (Position{Hlc: before - 1}); at.Hlc < upTo.Hlc; {
		chunk, err := f.log.Read(ctx, user, at, upTo)
		if err != nil && !errors.Is(err, ErrTrimmed) {
			return err
		}
		for _, r := range chunk.Records {
			if err := s.Apply(r.Frame, r.Hlc); err != nil {
				return err
			}
		}
		at = chunk.Next
	}
	// Whoever was left behind with what came before must not write it any more.
	rev, err := f.log.swap(ctx, stateBucket, foldKey(f.shard), f.at, f.rev)
	if err != nil {
		return err
	}
	f.rev = rev
	key := stateKey(f.shard, user)
	if err := f.log.purge(ctx, kvStream(stateBucket), kvSubject(stateBucket, key)); err != nil || s.Hlc == hlc.Zero {
		return err
	}
	s.shrink(stateMost)
	_, err = f.log.swap(ctx, stateBucket, key, &s, 0)
	return err
}

// readFold asks the bucket's leader how far shard was folded; revision 0 is not at all.
func (l *Log) readFold(ctx context.Context, shard int) (at foldRecord, rev uint64, err error) {
	m, err := l.leaderGet(ctx, kvStream(stateBucket), msgGet{LastFor: kvSubject(stateBucket, foldKey(shard))})
	if errors.Is(err, errNoMessage) {
		return at, 0, nil
	}
	if err == nil {
		err = json.Unmarshal(m.Data, &at)
	}
	if err != nil {
		return at, 0, fmt.Errorf("stream: fold of shard %d: %w", shard, err)
	}
	return at, m.Seq, nil
}

// readState asks the bucket's leader for a state; revision 0 is none.
func (l *Log) readState(ctx context.Context, key string) (*State, uint64, error) {
	m, err := l.leaderGet(ctx, kvStream(stateBucket), msgGet{LastFor: kvSubject(stateBucket, key)})
	if errors.Is(err, errNoMessage) {
		return &State{}, 0, nil
	}
	s := new(State)
	if err == nil {
		err = json.Unmarshal(m.Data, s)
	}
	return s, m.Seq, wrap("state "+key, err)
}
