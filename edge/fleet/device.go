package fleet

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"reprise/hlc"
)

// Device is one device of a user, with one connection at a time.
type Device struct {
	// static after construction
	User, ID string

	// guarded by mu
	mu         sync.Mutex
	wanted     bool     // connected, or to be connected again
	nc         net.Conn // nil while there is none
	cursor     string   // where it goes on, or "earliest"; "" is the end
	check      check
	incomplete bool // a welcome has said so
	pong       [131]byte
}

// NewDevice is a device of user that begins at a cursor: "" is the end.
func NewDevice(user, id, cursor string) *Device { return &Device{User: user, ID: id, cursor: cursor} }

// Cursor is where d would go on.
func (d *Device) Cursor() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cursor
}

// Judge sums up what devices were sent, when published(user) events of each one's
// user were. The devices must hear nothing meanwhile.
func Judge(devices []*Device, published func(user string) int) (v Verdict, incomplete int) {
	for _, d := range devices {
		d.mu.Lock()
		v.add(d.check.end(published(d.User)))
		if d.incomplete {
			incomplete++
		}
		d.mu.Unlock()
	}
	return v, incomplete
}

// Received is how many events d has been sent.
func (d *Device) Received() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.check.verdict.Events
}

// Send sends a text frame of at most 125 bytes.
func (d *Device) Send(text string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.nc == nil {
		return net.ErrClosed
	}
	_, err := d.nc.Write(appendMasked(nil, 1, []byte(text)))
	return err
}

// appendMasked appends a final frame of at most 125 bytes, with a mask of zeros
// (RFC 6455 section 5.3).
func appendMasked(b []byte, op byte, payload []byte) []byte {
	b = append(b, 0x80|op, 0x80|byte(len(payload)), 0, 0, 0, 0)
	return append(b, payload...)
}

// What a frame's text begins with.
var (
	typeWelcome   = []byte(`{"type":"welcome"`)
	typeCaughtUp  = []byte(`{"type":"caught_up"`)
	typePosition  = []byte(`{"type":"position"`)
	typeProgress  = []byte(`{"type":"progress_update"`)
	typeReconnect = []byte(`{"type":"reconnect"`)
)

// hear reads frames until the connection ends. after is how long the edge asked to
// wait then; 0 is nothing said.
func (d *Device) hear(f *Fleet, nc net.Conn, r *bufio.Reader, caughtUp func()) (after time.Duration, err error) {
	var head [10]byte
	var frame []byte
	live := false
	for {
		if _, err := io.ReadFull(r, head[:2]); err != nil {
			return after, err
		}
		n := uint64(head[1] & 0x7f)
		switch n {
		case 126:
			if _, err := io.ReadFull(r, head[2:4]); err != nil {
				return after, err
			}
			n = uint64(binary.BigEndian.Uint16(head[2:]))
		case 127:
			if _, err := io.ReadFull(r, head[2:10]); err != nil {
				return after, err
			}
			n = binary.BigEndian.Uint64(head[2:])
		}
		if n > maxFrame {
			return after, fmt.Errorf("fleet: a frame of %d bytes", n)
		}
		if uint64(cap(frame)) < n {
			frame = make([]byte, n)
		}
		frame = frame[:n]
		if _, err := io.ReadFull(r, frame); err != nil {
			return after, err
		}
		switch op := head[0] & 0x0f; {
		case op == 9:
			if _, err := nc.Write(appendMasked(d.pong[:0], 10, frame)); err != nil {
				return after, err
			}
		case op == 8:
			return after, closeError(frame)
		case op != 1:
		case bytes.HasPrefix(frame, typeProgress):
			position, stamp := member(frame, `"position":`), member(frame, `"hlc":"`)
			number, err := strconv.Atoi(position)
			at, herr := hlc.Parse(stamp)
			if err != nil || herr != nil {
				return after, fmt.Errorf("fleet: no event of a load: %s", frame)
			}
			d.mu.Lock()
			d.check.take(number, at)
			d.cursor = stamp
			d.mu.Unlock()
			f.heard(d, number, live)
		case bytes.HasPrefix(frame, typeWelcome):
			d.mu.Lock()
			d.cursor = member(frame, `"since":"`)
			d.incomplete = d.incomplete || !bytes.Contains(frame, []byte(`"complete":true`))
			d.mu.Unlock()
		case bytes.HasPrefix(frame, typeCaughtUp), bytes.HasPrefix(frame, typePosition):
			d.mu.Lock()
			d.cursor = member(frame, `"hlc":"`)
			d.mu.Unlock()
			if !live {
				live = true
				caughtUp()
			}
		case bytes.HasPrefix(frame, typeReconnect):
			ms, err := strconv.Atoi(member(frame, `"after_ms":`))
			if err != nil {
				return after, fmt.Errorf("fleet: no time to come back: %s", frame)
			}
			after = time.Duration(ms) * time.Millisecond
		}
		if cap(frame) > keptFrame {
			frame = nil
		}
	}
}

const (
	maxFrame  = 1 << 20
	keptFrame = 1 << 10
)

// member is the value of a frame's member, up to what ends it.
func member(frame []byte, name string) string {
	_, rest, _ := bytes.Cut(frame, []byte(name))
	if i := bytes.IndexAny(rest, `",}`); i >= 0 {
		return string(rest[:i])
	}
	return ""
}

// closeError is the edge's leave.
func closeError(payload []byte) error {
	if len(payload) < 2 {
		return io.EOF
	}
	return fmt.Errorf("fleet: closed with %d %s", binary.BigEndian.Uint16(payload), payload[2:])
}

// How long a handshake may take, and the way from there to caught_up.
const (
	patience = time.Minute
	catchUp  = 10 * time.Minute
)
