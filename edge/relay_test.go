package edge

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"reprise/hlc"
	"reprise/stream"
)

// relay is a Server over a real log on disk, with a writer to fill it and a
// listener on a free port.
type relay struct {
	*Server
	t      testing.TB
	log    *stream.Log
	writer *stream.Writer
	url    string
	stop   context.CancelFunc
	ended  chan error // what Run returned
}

func openLog(t testing.TB, cfg stream.Config) *stream.Log {
	t.Helper()
	cfg.DataDir = t.TempDir()
	l, err := stream.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// newRelay runs a Server over a new log.
func newRelay(t testing.TB, cfg Config) *relay {
	t.Helper()
	l := openLog(t, stream.Config{Node: "edge-1"})
	w := acquireShard(t, l)
	r := serve(t, cfg, l)
	r.writer = w
	return r
}

func acquireShard(t testing.TB, l *stream.Log) *stream.Writer {
	t.Helper()
	w, err := l.Acquire(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close(context.Background()) })
	return w
}

// serve runs a Server over l until the test ends, when Run must end well and
// leave nothing behind.
func serve(t testing.TB, cfg Config, l *stream.Log) *relay {
	t.Helper()
	cfg.Log = l
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{Server: s, t: t, log: l, ended: make(chan error, 1)}
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.url = "http://" + ln.Addr().String()
	mux := http.NewServeMux()
	mux.Handle("/ws", s)
	mux.Handle("/v1/", s.Admin())
	web := &http.Server{Handler: mux}
	go web.Serve(ln)
	go func() { r.ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-r.ended:
			if err != nil {
				t.Errorf("Run() = %v, want nil", err)
			}
		case <-time.After(patience):
			t.Error("Run() goes on, want it to end")
		}
		web.Close()
		if n, u := s.registry.count(), s.users.Load(); n != 0 || u != 0 || s.registry.seats != 0 {
			t.Errorf("registry at the end = %d connections, %d users, %d seats, want none", n, u, s.registry.seats)
		}
	})
	r.await("the feeds", s.following)
	return r
}

// await polls until ok: for what has no event of its own to wait for.
func (r *relay) await(what string, ok func() bool) {
	r.t.Helper()
	give := time.After(patience)
	for tick := time.NewTicker(time.Millisecond); !ok(); {
		select {
		case <-tick.C:
		case <-give:
			r.t.Fatalf("%s: not after %v", what, patience)
		}
	}
}

// publish appends the n-th event of user, sent by device.
func (r *relay) publish(user, device string, n int) {
	r.t.Helper()
	r.append(stream.Event{User: user, Device: device}, n)
}

func (r *relay) append(ev stream.Event, n int) {
	r.t.Helper()
	if err := r.tryAppend(ev, n); err != nil {
		r.t.Fatal(err)
	}
}

func (r *relay) tryAppend(ev stream.Event, n int) error {
	ev.ID = fmt.Sprintf("test:%s:%d", ev.User, n)
	ev.Frame = eventFrame(hlc.Zero, n)
	ev.StampAt = strings.Index(string(ev.Frame), `0000000000000000`)
	return r.writer.Append(context.Background(), ev)
}

// flush waits until everything published is stored and has reached the tails.
func (r *relay) flush() stream.Position {
	r.t.Helper()
	if err := r.writer.Flush(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	last := r.writer.Stats().Last
	r.await("the feed", func() bool { return r.shards[0].dispatched().Hlc >= last.Hlc })
	return last
}

func (r *relay) connect(user, device, more string) *device {
	r.t.Helper()
	return connect(r.t, r.url, "user_id="+user+"&device_id="+device+more, dialing{})
}

// joined connects at the end and waits until the device is live.
func (r *relay) joined(user, device, more string) *device {
	r.t.Helper()
	d := r.connect(user, device, "&since=latest"+more)
	d.want("welcome")
	d.want("caught_up")
	return d
}

// wantRun checks that events are exactly from..to-1, with rising stamps above after.
func wantRun(t testing.TB, events []heard, from, to int, after string) {
	t.Helper()
	if len(events) != to-from {
		t.Fatalf("events = %d, want %d", len(events), to-from)
	}
	for i, e := range events {
		if e.N != from+i || e.Hlc <= after {
			t.Fatalf("event %d = %s after %s, want n %d and a higher stamp", i, e.text, after, from+i)
		}
		after = e.Hlc
	}
}
