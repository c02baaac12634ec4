package edge

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"reprise/hlc"
	"reprise/stream"
)

// device is a device of a test: a real WebSocket client that keeps what it is
// sent. All its waits end in a failed test after a while.
type device struct {
	t      testing.TB
	ws     *websocket.Conn
	frames chan heard
	pings  chan struct{}
	ended  chan struct{} // closed after err was set
	err    error
	waits  time.Duration
}

// heard is a frame that a device was sent.
type heard struct {
	Type     string
	Hlc      string
	Replayed int
	Node     string
	N        int // of the test's own events
	ID       string
	Code     string
	InMS     int64 `json:"in_ms"`
	AfterMS  int64 `json:"after_ms"`
	Resume   struct {
		Since    string
		Complete bool
		Reason   string
	}
	text string
}

// patience is how long a test waits for what must come.
const patience = time.Minute

type dialing struct {
	client   *http.Client
	header   http.Header
	offers   []string
	patience time.Duration // 0 is patience; fake time takes more
}

// connect connects with the query and starts to read.
func connect(t testing.TB, url, query string, d dialing) *device {
	t.Helper()
	dev := &device{t: t, frames: make(chan heard, 20000), pings: make(chan struct{}, 1000), ended: make(chan struct{}), waits: cmp.Or(d.patience, patience)}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, url+"/ws?"+query, &websocket.DialOptions{
		HTTPClient: d.client, HTTPHeader: d.header, Subprotocols: d.offers,
		OnPingReceived: func(context.Context, []byte) bool {
			dev.pings <- struct{}{}
			return true
		},
	})
	if err != nil {
		t.Fatalf("connect(%s) = %v", query, err)
	}
	ws.SetReadLimit(1 << 20)
	dev.ws = ws
	go dev.read()
	t.Cleanup(func() { ws.CloseNow(); <-dev.ended })
	return dev
}

func (d *device) read() {
	defer close(d.ended)
	for {
		_, text, err := d.ws.Read(context.Background())
		if err != nil {
			d.err = err
			close(d.frames)
			return
		}
		h := heard{text: string(text)}
		if err := json.Unmarshal(text, &h); err != nil {
			h.Type = "not JSON"
		}
		d.frames <- h
	}
}

// next is the next frame.
func (d *device) next() heard {
	d.t.Helper()
	select {
	case h, ok := <-d.frames:
		if !ok {
			d.t.Fatalf("next() = closed: %v, want a frame", d.err)
		}
		return h
	case <-time.After(d.waits):
		d.t.Fatal("next() = nothing, want a frame")
	}
	panic("unreachable")
}

// want is the next frame, which must be of the type.
func (d *device) want(typ string) heard {
	d.t.Helper()
	h := d.next()
	if h.Type != typ {
		d.t.Fatalf("next() = %s, want a %s", h.text, typ)
	}
	return h
}

// until reads events up to a frame of the type, which it returns with them.
func (d *device) until(typ string) (events []heard, last heard) {
	d.t.Helper()
	for {
		h := d.next()
		if h.Type == typ {
			return events, h
		}
		if h.Type != "event" {
			d.t.Fatalf("next() = %s, want an event or a %s", h.text, typ)
		}
		events = append(events, h)
	}
}

// closed waits for the end of the connection and returns its code, -1 without one.
func (d *device) closed() websocket.StatusCode {
	d.t.Helper()
	select {
	case <-d.ended:
		return websocket.CloseStatus(d.err)
	case <-time.After(d.waits):
		d.t.Fatal("closed() = open, want the connection to end")
	}
	panic("unreachable")
}

func (d *device) send(text string) {
	d.t.Helper()
	d.sendAs(websocket.MessageText, []byte(text))
}

func (d *device) sendAs(typ websocket.MessageType, b []byte) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := d.ws.Write(ctx, typ, b); err != nil {
		d.t.Fatalf("send(%.80q) = %v", b, err)
	}
}

// pipes is a listener whose connections are net.Pipes, which work in fake time.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// played is a Server whose log is played by hand: its one shard is fed by the
// test. What has to be read from a log is not part of its tests.
type played struct {
	*Server
	t     testing.TB
	pipes *pipes
	seq   int
}

// play starts a Server and stops it at the end of the test, when it must have
// let go of everything.
func play(t testing.TB, cfg Config) *played {
	t.Helper()
	filled, err := cfg.filled()
	if err != nil {
		t.Fatal(err)
	}
	s, err := newServer(filled, 1)
	if err != nil {
		t.Fatal(err)
	}
	p := &played{Server: s, t: t, pipes: newPipes()}
	p.step(stream.Record{Kind: stream.KindStart})
	ctx, cancel := context.WithCancel(context.Background())
	turned := make(chan struct{})
	go func() { defer close(turned); s.wheel.run(ctx, s.sweep) }()
	s.arrivals.elsewhere = func(stream.Word, []stream.Arrival) error { return nil }
	told := make(chan struct{})
	go func() { defer close(told); s.arrivals.run(ctx) }()
	web := &http.Server{Handler: s}
	served := make(chan struct{})
	go func() { defer close(served); web.Serve(p.pipes) }()
	t.Cleanup(func() {
		s.dismiss()
		cancel()
		<-turned
		<-told
		s.writers.Wait()
		web.Close()
		<-served
		if n := s.registry.count(); n != 0 {
			t.Errorf("registry.count() = %d at the end, want 0", n)
		}
	})
	return p
}

// step feeds a record; its position is the next, a millisecond after the last.
func (p *played) step(r stream.Record) stream.Position {
	p.seq++
	if r.Position == (stream.Position{}) {
		r.Position = at(p.seq)
	}
	p.shards[0].handle(&r)
	return r.Position
}

// event feeds the n-th event of user, sent by device.
func (p *played) event(user, device string, n int) stream.Position {
	pos := at(p.seq + 1)
	return p.step(stream.Record{Kind: stream.KindEvent, User: user, Device: device, Stored: time.Now(), Frame: eventFrame(pos.Hlc, n)})
}

func eventFrame(at hlc.Timestamp, n int) []byte {
	return fmt.Appendf(nil, `{"type":"event","hlc":"%s","n":%d}`, at, n)
}

func (p *played) connect(user, device, more string) *device {
	p.t.Helper()
	tr := &http.Transport{DialContext: p.pipes.dial, DisableKeepAlives: true}
	return connect(p.t, "http://edge", "user_id="+user+"&device_id="+device+"&since=latest"+more, dialing{client: &http.Client{Transport: tr}, patience: time.Hour})
}

// joined connects and waits until the device is live.
func (p *played) joined(user, device, more string) *device {
	p.t.Helper()
	d := p.connect(user, device, more)
	d.want("welcome")
	d.want("caught_up")
	return d
}

// uuidOf makes a UUID of a number.
func uuidOf(kind byte, n int) string {
	return fmt.Sprintf("%s-0000-4000-8000-%012d", strings.Repeat(string(kind), 8), n)
}
