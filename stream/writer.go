package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"reprise/hlc"
)

const (
	// window is how many appends may be in flight: W of the fence. Raising it
	// on a log that has writers of an older build breaks their fence.
	window = 256
	// opsAhead is how many requests may wait for the pipeline: who appends a page
	// need not meet the pipeline for each event.
	opsAhead = 128
	// appendTimeout is for how long nothing may be answered while appends are in
	// flight before the leader is asked how far things got, and leaderTimeout how long one
	// such question may take: a leader that is being elected answers none, and is not to
	// be waited for longer than it takes to be elected. The server has no such limit.
	appendTimeout, leaderTimeout = 2 * time.Second, 1500 * time.Millisecond
	// fenceTimeout is how long a fence may take to be stored.
	fenceTimeout = 5 * time.Second
	// markerEvery is how long a shard may be idle before its writer writes a
	// marker, so that cursors and the retention horizon move on.
	markerEvery = 30 * time.Second
	// maxFrame bounds a frame, headerRoom its headers; a server whose largest
	// payload is less is refused, for it would stop the shard.
	maxFrame   = 512 << 10
	headerRoom = 8 << 10
)

// Writer appends to one shard: the only one to do so at a time. It keeps at
// most 256 appends in flight, each expecting the sequence before its own, so
// that the log's order is the order of Append, or nothing is stored (go-back-N).
// When an answer is not the expected one, the writer asks the leader what the
// last record is, takes everything of its own up to that stamp as stored, and
// sends the rest again with the same bytes and stamps.
//
// A Writer is safe for concurrent use.
type Writer struct {
	// static after construction
	log   *Log
	nc    *nats.Conn
	shard int
	lease *lease
	epoch string
	clock hlc.Clock
	ops   chan op        // sent to by callers, never closed; what is left at the end is not done
	acks  chan *nats.Msg // sent to by nats.go, never closed
	inbox string         // prefix of reply subjects
	stop  chan struct{}  // closed by fail: run and renew end
	done  chan struct{}  // closed when run, renew and answers have returned

	answers sync.WaitGroup // added to with mu held, while err is nil

	// owned by Acquire
	newest uint64 // epoch of the log's last record
	fenced bool   // and that record is ours
	lost   Gap    // between the log's end and the newest checkpoint

	// owned by run, before ready by Acquire
	flying  []flying // oldest first
	token   uint64   // of the next send
	head    uint64   // sequence that the newest flying append will get
	known   known
	waiters []waiter
	taken   uint64 // appends accepted
	stored  uint64 // appends that are in the log
	stalls  int    // resyncs since something was stored
	refusal error  // the server's newest
	msg     *nats.Msg
	active  time.Time // when an append was last taken, or stored
	heard   time.Time // when one was last stored

	// guarded by lookMu
	lookMu    sync.Mutex
	looked    map[string]*looked
	lookedIDs int

	// guarded by mu
	mu    sync.Mutex
	err   error    // why the writer ended
	last  Position // newest stored record
	stats WriterStats
}

// op is one request to run: an append, a wait for everything before it, or a
// question about ids.
type op struct {
	ev     Event
	marker bool
	gap    Gap
	flush  chan<- struct{} // closed by run; nil for an append
	ask    *recall         // nil for an append
}

// flying is an append that is not known to be stored.
type flying struct {
	ev     Event
	id     string // under which it is stored: ev.ID, or that with an ordinal
	marker bool
	gap    Gap
	stamp  hlc.Timestamp
	token  uint64
	sent   time.Time
	state  flyingState
	seq    uint64 // that the server named
}

type flyingState uint8

const (
	inFlight flyingState = iota
	isStored
	isDuplicate // the server had its id already, at seq
)

// waiter is released when stored reaches at.
type waiter struct {
	at   uint64
	done chan<- struct{}
}

// WriterStats counts over a writer's life.
type WriterStats struct {
	Appended   uint64 // events stored
	Duplicates uint64 // events dropped because they are in the log
	Conflicts  uint64 // events that came under a known id with other bytes
	Resyncs    uint64 // times the leader had to be asked
	Last       Position
}

func newWriter(l *Log, shard int, le *lease) *Writer {
	return &Writer{
		log: l, nc: l.appends, shard: shard, lease: le,
		epoch: strconv.FormatUint(le.epoch, 10),
		clock: hlc.Clock{Wall: l.cfg.Wall, MaxDrift: l.cfg.MaxDrift},
		ops:   make(chan op, opsAhead), acks: make(chan *nats.Msg, 4*window),
		inbox: nats.NewInbox() + ".",
		stop:  make(chan struct{}), done: make(chan struct{}),
		looked: make(map[string]*looked),
		msg:    &nats.Msg{Header: make(nats.Header)},
	}
}

// start keeps the lease from now on, and begins to write once ready is closed:
// the take-over has succeeded.
func (w *Writer) start(ready <-chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	var both sync.WaitGroup
	both.Go(func() { w.renew(ctx) })
	both.Go(func() {
		select {
		case <-ready:
			w.run(ctx)
		case <-ctx.Done():
		}
	})
	go func() {
		<-w.stop
		cancel()
		both.Wait()
		w.answers.Wait()
		close(w.done)
	}()
}

// Shard is the shard that w writes.
func (w *Writer) Shard() int { return w.shard }

// Done is closed when the writer has ended: closed or deposed, see Err.
func (w *Writer) Done() <-chan struct{} { return w.done }

// Err is nil while the writer works, ErrDeposed or ErrClosed afterwards.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// fail ends the writer; the first error stays.
func (w *Writer) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
		close(w.stop)
	}
}

// Stats counts over the writer's life.
func (w *Writer) Stats() WriterStats {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.stats
	s.Last = w.last
	return s
}

// Append has ev stamped and sent, in the order of the calls. It may return before
// that, and before ev is stored (see Flush); it blocks while 256 are in flight
// and 128 wait. An event whose ID
// and bytes are in the log already is dropped; one whose ID comes with other
// bytes is stored under the ID with ":1", ":2" … behind it. Errors: ErrDeposed,
// ErrClosed, ctx's.
func (w *Writer) Append(ctx context.Context, ev Event) error {
	if err := validUser(ev.User); err != nil {
		return err
	}
	if ev.ID == "" || len(ev.ID) > headerRoom/4 || ev.StampAt < 0 || ev.StampAt+16 > len(ev.Frame) || len(ev.Frame) > maxFrame {
		return fmt.Errorf("stream: append user %s: id %q, stamp at %d of %d bytes: not an event", ev.User, ev.ID, ev.StampAt, len(ev.Frame))
	}
	return w.do(ctx, op{ev: ev})
}

// Gap notes a gap in the log. It is stored when Gap returns nil.
func (w *Writer) Gap(ctx context.Context, g Gap) error {
	if err := w.do(ctx, op{marker: true, gap: g}); err != nil {
		return err
	}
	return w.Flush(ctx)
}

// Flush waits until everything appended before the call is stored. Errors:
// ErrDeposed, ErrClosed, ctx's.
func (w *Writer) Flush(ctx context.Context) error {
	done := make(chan struct{})
	if err := w.do(ctx, op{flush: done}); err != nil {
		return err
	}
	select {
	case <-done:
		return nil
	case <-w.stop:
		return w.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *Writer) do(ctx context.Context, o op) error {
	select {
	case <-w.stop:
		return w.Err()
	default:
	}
	if o.flush == nil && o.ask == nil {
		if err := w.awaitRoom(ctx); err != nil {
			return err
		}
	}
	select {
	case w.ops <- o:
		return nil
	case <-w.stop:
		return w.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// awaitRoom waits until there is room on the disk, or the writer ends.
func (w *Writer) awaitRoom(ctx context.Context) error {
	room := w.log.disk.waiting()
	if room == nil {
		return nil
	}
	w.log.hold(w)
	defer w.log.unhold(w)
	select {
	case <-room:
		return nil
	case <-w.stop:
		return w.Err()
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", errFull, ctx.Err())
	}
}

// Close flushes until ctx ends, gives the lease back and ends the writer. It
// returns what the flush returned.
func (w *Writer) Close(ctx context.Context) error {
	err := w.Flush(ctx)
	deposed := w.Err() != nil
	w.fail(ErrClosed)
	<-w.done
	if !deposed {
		w.lease.giveBack(ctx, w.clock.Last())
	}
	return err
}

// renew keeps the lease, and its ceiling above the stamps, until the writer ends.
func (w *Writer) renew(ctx context.Context) {
	tick := time.NewTicker(leaseRenew)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := w.raise(ctx); errors.Is(err, errLeaseLost) {
			w.log.logger.Warn("lease lost", "shard", w.shard, "epoch", w.lease.epoch)
			w.fail(ErrDeposed)
			return
		}
	}
}

// raise renews the lease with a ceiling some seconds above the newest stamp.
func (w *Writer) raise(ctx context.Context) error {
	wall := hlc.New(w.log.cfg.Wall().UnixMilli(), 0)
	newest := max(w.clock.Last(), wall)
	w.log.inst.drift.Record(ctx, float64(newest.Millis()-wall.Millis())/1000)
	return w.lease.raise(ctx, hlc.New(newest.Millis()+ceilingAhead.Milliseconds(), 0))
}
