package edge

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"reprise/hlc"
	"reprise/stream"
)

// conn is one WebSocket of one device: a cursor on its user's log.
type conn struct {
	// static after construction
	server    *Server
	shard     *shard
	tail      *tail
	wire      *wire
	ws        *websocket.Conn
	id        string
	user      string
	device    string
	remote    string
	asked     since
	echo      bool
	snapshot  bool // it wants its user's state where a replay would not be complete
	coalesce  bool // of the positions that it missed it wants the newest only
	connected time.Time
	came      hlc.Timestamp // orders the connections of its device at all edges
	runs      func()        // run, as a value: starting a goroutine with it costs nothing
	reads     func()        // read, likewise
	welcomed  chan struct{} // closed by the writer when the welcome was sent
	gone      chan struct{} // closed by close

	// owned by the writer, of which one at most exists at a time
	pos      stream.Position // everything up to here was sent, or is not for this device
	replayed int             // event frames before caught_up
	// incomplete: the welcome said that something is missing.
	incomplete bool
	heard      uint64         // announcements before this one were sent, or came too early
	linked     *replaySpan    // nil unless a sampled event was replayed
	fromLog    bool           // of the replay, something was read from the log
	newest     *stream.Newest // what of the replay need not be sent; nil unless that was asked for
	greeted    bool           // welcomed is closed

	// owned by the reader
	messages, controls bucket
	acked              hlc.Timestamp

	// owned by the wheel's goroutine
	nextPing time.Duration
	warned   int64 // the expiry of which token_expiring has been said, Unix ms

	// guarded by poller.mu
	fd int32 // that the poller knows it by; 0 is not yet, -1 is not any more

	// guarded by wheel.mu
	slot       int
	prev, next *conn

	state    atomic.Int32  // of the writer: idle, running, woken, dead
	reading  atomic.Int32  // of the reader: runs, parked
	signals  atomic.Uint32 // what the writer is asked to say
	phase    atomic.Int32
	at       atomic.Uint64 // pos.Hlc, for others to read
	resumed  atomic.Uint64 // the cursor that it came with, where that still counts
	told     atomic.Uint64 // the greatest hlc in a frame that was sent
	spoke    atomic.Int64  // when an event or a position was last sent, on the server's clock
	inLog    atomic.Bool   // the writer waits for the log
	expires  atomic.Int64  // of the token, Unix ms; 0 is never
	afterMS  atomic.Int64  // of the reconnect frame; 0 is none
	ending   atomic.Int32  // the code it ends with; 0 while it lives
	reason   atomic.Pointer[string]
	speaking atomic.Bool // a helper says the signals while the writer is in the log

	// guarded by mu
	mu     sync.Mutex
	cancel context.CancelFunc // of the writer's wait for the log
	ping   []byte             // payload of the device's last ping
}

// What a connection is about to do; it only ever goes up.
const (
	phaseOpening   = iota // the welcome is not yet made
	phaseReplaying        // the tail's end was not yet reached
	phaseLive
)

// What a writer can be asked to say, beside events.
const (
	sayPing uint32 = 1 << iota
	sayPong
	sayPosition
	sayExpiring
)

func (c *conn) cursor() hlc.Timestamp { return hlc.Timestamp(c.at.Load()) }

// moveTo sets the position. Only the writer moves it, and only forward.
func (c *conn) moveTo(p stream.Position) {
	c.pos = p
	c.at.Store(uint64(p.Hlc))
}

// signal has the writer say something. It blocks on nothing.
func (c *conn) signal(what uint32) {
	c.signals.Or(what)
	c.wake()
	if c.inLog.Load() && c.speaking.CompareAndSwap(false, true) {
		// A writer that waits for the log must not let a device believe that its
		// connection is dead.
		c.server.writers.Go(func() {
			defer c.speaking.Store(false)
			b := takeOutbox()
			defer b.give()
			c.say(b, sayPing|sayPong)
			if err := c.wire.send(b.bytes); err != nil {
				c.sendFailed(err)
			}
		})
	}
}

// say appends what the connection is asked to say and is among may.
func (c *conn) say(b *outbox, may uint32) {
	what := c.signals.And(^may) & may
	if what == 0 {
		return
	}
	if what&sayPing != 0 {
		b.bytes = appendFrame(b.bytes, opPing, nil)
	}
	if what&sayPong != 0 {
		c.mu.Lock()
		b.bytes = appendFrame(b.bytes, opPong, c.ping)
		c.mu.Unlock()
	}
	if what&sayExpiring != 0 {
		if at := c.expires.Load(); at != 0 {
			left := max(0, at-time.Now().UnixMilli())
			b.text(appendExpiring(b.scratch[:0], left))
		}
	}
	if what&sayPosition != 0 {
		at := c.pos.Hlc
		b.text(appendPosition(b.scratch[:0], at))
		c.tell(at)
		c.spoke.Store(int64(c.server.elapsed()))
	}
}

// tell notes that the device is being told at, which it may acknowledge then.
func (c *conn) tell(at hlc.Timestamp) {
	if uint64(at) > c.told.Load() {
		c.told.Store(uint64(at)) // only the writer tells
	}
}

// sendFailed ends the connection for an error of the wire.
func (c *conn) sendFailed(err error) {
	if err == errSlow {
		c.server.metrics.slow.Add(context.Background(), 1)
		c.close(codeSlow, "too slow")
		return
	}
	c.close(codeCut, "write: "+err.Error())
}
