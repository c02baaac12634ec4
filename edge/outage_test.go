package edge

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"reprise/stream"
)

// link is the TCP way to a NATS server, which can be taken down.
type link struct {
	ln     net.Listener
	target string

	mu   sync.Mutex
	down bool
	open []net.Conn
}

func newLink(t testing.TB, url string) *link {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{ln: ln, target: strings.TrimPrefix(url, "nats://")}
	go l.serve()
	t.Cleanup(func() { ln.Close(); l.set(true) })
	return l
}

func (l *link) serve() {
	for {
		near, err := l.ln.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", l.target)
		l.mu.Lock()
		if err != nil || l.down {
			near.Close()
			if err == nil {
				far.Close()
			}
			l.mu.Unlock()
			continue
		}
		l.open = append(l.open, near, far)
		l.mu.Unlock()
		go func() { io.Copy(far, near); far.Close() }()
		go func() { io.Copy(near, far); near.Close() }()
	}
}

func (l *link) set(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
	if down {
		for _, c := range l.open {
			c.Close()
		}
		l.open = nil
	}
}

// While the log is out of reach nobody is closed, nobody is told caught_up who
// has not caught up, and afterwards all goes on without a word.
func TestLogOutOfReach(t *testing.T) {
	t.Parallel()
	server := openLog(t, stream.Config{Node: "server", Listen: "127.0.0.1:0"})
	way := newLink(t, server.ClientURL())
	l, err := stream.Open(t.Context(), stream.Config{URL: way.ln.Addr().String(), Node: "edge-1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	r := serve(t, Config{TailPerUser: 16}, l)
	r.writer = acquireShard(t, server)
	const before, during, after = 600, 300, 100
	live := r.joined(uuidA, uuidOf('a', 1), "")
	for n := range before {
		r.publish(uuidA, "", n)
		live.want("event")
	}
	way.set(true)
	resuming := r.connect(uuidA, uuidOf('a', 2), "&since=earliest")
	for n := range during {
		r.publish(uuidA, "", before+n)
	}
	if err := r.writer.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	resuming.send(`{"type":"device_heartbeat"}`)
	if n := len(resuming.frames) + len(live.frames); n != 0 {
		t.Errorf("frames while the log is out of reach = %d, want none", n)
	}
	way.set(false)
	for n := range after {
		r.publish(uuidA, "", before+during+n)
	}
	var got []heard
	for len(got) < during+after {
		got = append(got, live.want("event"))
	}
	wantRun(t, got, before, before+during+after, "")
	if w := resuming.want("welcome"); !w.Resume.Complete {
		t.Errorf("welcome = %s, want complete", w.text)
	}
	events, _ := resuming.until("caught_up")
	for len(events) < before+during+after {
		events = append(events, resuming.want("event"))
	}
	wantRun(t, events, 0, before+during+after, "")
}

// What retention has cut is said to be missing, and what is there is sent; the
// cursor that comes with it is good again.
func TestTrimmedLog(t *testing.T) {
	t.Parallel()
	l := openLog(t, stream.Config{Node: "edge-1", MaxBytes: 100 << 10})
	r := serve(t, Config{TailPerUser: 8}, l)
	r.writer = acquireShard(t, l)
	const total = 2000
	for n := range total {
		r.publish(uuidA, "", n)
	}
	r.flush()
	d := r.connect(uuidA, uuidOf('a', 1), "&since=earliest")
	if w := d.want("welcome"); w.Resume.Complete || w.Resume.Reason != "trimmed" {
		t.Errorf("welcome = %s, want trimmed", w.text)
	}
	events, end := d.until("caught_up")
	if len(events) < 8 || len(events) > total/2 {
		t.Errorf("events = %d, want what 100 KiB hold of %d", len(events), total)
	}
	wantRun(t, events, total-len(events), total, "")
	back := r.connect(uuidA, uuidOf('a', 2), "&since="+end.Hlc)
	if w := back.want("welcome"); !w.Resume.Complete {
		t.Errorf("welcome = %s, want complete from what caught_up said", w.text)
	}
	if c := back.want("caught_up"); c.Replayed != 0 {
		t.Errorf("caught_up = %s, want 0 replayed", c.text)
	}
}
