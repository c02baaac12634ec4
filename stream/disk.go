package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// A JetStream whose disk is full refuses to work, and goes on refusing when there
// is room again: its server has to be started anew. So the embedded server's disk
// is never let run full by what is appended here: below a reserve nothing more is
// taken, and reading goes on. Should somebody else fill it to the last byte, the
// server is started anew when there is room.

const (
	// defaultReserve is Config.Reserve's.
	defaultReserve = 64 << 20
	// diskEvery is how often the room on the disk is looked at. At 100 MB/s it is
	// a fraction of the default reserve.
	diskEvery = 200 * time.Millisecond
	// stuckFor is how long the server must have been of no use, with room on the
	// disk, before it is started anew, and restartEvery how often at most.
	// healthEvery is how often it is asked: that reads directories.
	stuckFor     = 5 * time.Second
	restartEvery = 30 * time.Second
	healthEvery  = time.Second
)

// errFull says that the disk has no room beyond the reserve.
var errFull = errors.New("stream: the disk is full")

// disk is what is known of the room on the embedded server's disk. The zero disk
// has room for ever.
type disk struct {
	mu   sync.Mutex
	room chan struct{} // guarded by mu; nil while there is room, closed when there is again
}

// waiting is closed when there is room again; nil while there is.
func (d *disk) waiting() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.room
}

// full says whether there is no room beyond the reserve.
func (d *disk) full() bool { return d.waiting() != nil }

// set notes whether there is room. It says whether that is new.
func (d *disk) set(full bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if full == (d.room != nil) {
		return false
	}
	if full {
		d.room = make(chan struct{})
	} else {
		close(d.room)
		d.room = nil
	}
	return true
}

// await waits until there is room. It returns ctx's error when ctx ends first.
func (d *disk) await(ctx context.Context) error {
	room := d.waiting()
	if room == nil {
		return nil
	}
	select {
	case <-room:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", errFull, ctx.Err())
	}
}

// Full says whether the embedded log takes nothing more because its disk has too
// little room. An external log's disk is its servers' affair.
func (l *Log) Full() bool { return l.disk.full() }

// watchDisk looks at the room on the disk until ctx ends.
func (l *Log) watchDisk(ctx context.Context) {
	tick := time.NewTicker(diskEvery)
	defer tick.Stop()
	var restarted, asked, well time.Time
	for {
		l.look()
		now := time.Now()
		if l.disk.full() {
			well = now // it cannot be helped yet
		} else if now.Sub(asked) >= healthEvery {
			asked = now
			why := l.server.stuck()
			if why == "" && l.Held() < stuckFor {
				well = now
			}
			if now.Sub(well) > stuckFor && now.Sub(restarted) > restartEvery {
				l.logger.Warn("the embedded server stores nothing though there is room on the disk: it is started anew", "why", why)
				if err := l.server.restart(); err != nil {
					l.logger.Error("the embedded server does not start", "err", err)
				}
				restarted, well = time.Now(), time.Now()
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look measures the room on the disk. Room is there again when a half more than
// the reserve is free, so that a bridge does not stop and go.
func (l *Log) look() {
	free, err := freeBytes(l.cfg.DataDir)
	if err != nil {
		return // it says nothing of the room
	}
	least := l.cfg.Reserve
	if l.disk.full() {
		least += least / 2
	}
	if full := free < least; l.disk.set(full) {
		log := slog.Int64("free", free)
		if full {
			l.logger.Error("the disk is nearly full: nothing more is taken from PubNub or from devices until there is room", log, "reserve", l.cfg.Reserve)
		} else {
			l.logger.Warn("there is room on the disk again", log)
		}
	}
}

// freeBytes is how much this process can write below dir.
func freeBytes(dir string) (int64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}

// current is the server that runs at the moment.
func (e *embedded) current() *server.Server {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ns
}

// InProcessConn implements [nats.InProcessConnProvider].
func (e *embedded) InProcessConn() (net.Conn, error) { return e.current().InProcessConn() }

// restart stops the server and starts another one on the same files and address.
func (e *embedded) restart() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if addr, ok := e.ns.Addr().(*net.TCPAddr); ok && e.cfg.Listen != "" {
		e.cfg.Listen = addr.String() // a free port was taken: clients know this one
	}
	e.ns.Shutdown()
	e.ns.WaitForShutdown()
	ns, err := startServer(e.cfg)
	if err != nil {
		return err // the next one has the port still
	}
	e.ns = ns
	return nil
}

// stuck says why the server will not store things any more, "" when it will: a
// stream has met an error in writing, after which it refuses everything, or
// JetStream was disabled for that.
func (e *embedded) stuck() string {
	ns := e.current()
	if !ns.JetStreamEnabled() {
		return "JetStream is disabled"
	}
	if health := ns.Healthz(nil); strings.Contains(health.Error, "write error") {
		return health.Error
	}
	return ""
}

// startServer starts a server on cfg.DataDir and waits until it serves.
func startServer(cfg Config) (*server.Server, error) {
	ns, err := newServer(cfg)
	if err != nil {
		return nil, err
	}
	ns.Start()
	if !ns.ReadyForConnections(30*time.Second) || !ns.JetStreamEnabled() {
		ns.Shutdown()
		return nil, fmt.Errorf("stream: embedded server on %s does not start (is there room and permission to write?)", cfg.DataDir)
	}
	return ns, nil
}
