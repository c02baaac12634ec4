package bridge

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"reprise/bridge/pubnubtest"
	"reprise/stream"
)

// patience is how long a test waits for the next thing that must come.
const patience = 60 * time.Second

// rig is a bridge between the emulator and an embedded log.
type rig struct {
	t      *testing.T
	pubnub *pubnubtest.Server
	log    *stream.Log
	logged *logBuffer
	cfg    Config
	b      *Bridge // of the last start
	starts int
	seen   chan stream.Record
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// newRig starts an emulator and a log of some shards. No bridge runs yet.
func newRig(t *testing.T, shards int, emulator pubnubtest.Config) *rig {
	t.Helper()
	if emulator.QueueSize == 0 {
		emulator.QueueSize = 1 << 20 // what is lost upstream is not the question here
	}
	if emulator.PollTimeout == 0 {
		emulator.PollTimeout = time.Second
	}
	s, err := pubnubtest.Start(emulator)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	r := &rig{t: t, pubnub: s, logged: &logBuffer{}, seen: make(chan stream.Record, 1<<16)}
	t.Cleanup(func() {
		if t.Failed() {
			all := r.logged.String()
			t.Logf("logged last:\n%s", all[max(0, len(all)-8000):])
		}
	})
	logger := slog.New(slog.NewTextHandler(r.logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r.log, err = stream.Open(testContext(t), stream.Config{DataDir: t.TempDir(), Shards: shards, Listen: "127.0.0.1:0", Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.log.Close() })
	r.cfg = Config{
		Log: r.log, Origin: s.Addr(), SubscribeKey: "demo", Channels: []string{"user.*", "global.announcements"},
		Logger: logger,
	}
	return r
}

// polls reports whether q is a poll of the bridge that was started last. One
// started before may have sent its last poll shortly before it ended, and the
// emulator reads it later.
func (r *rig) polls(q pubnubtest.Request) bool {
	u, err := url.Parse(q.URI)
	return err == nil && q.Endpoint == pubnubtest.Poll && u.Query().Get("uuid") == r.b.cfg.UserID
}

// start runs a bridge, with a user id of its own, until the returned function
// has been called, which waits for its end. The bridge is polling when start
// returns.
func (r *rig) start() (stop func()) {
	r.t.Helper()
	r.starts++
	cfg := r.cfg
	cfg.UserID = fmt.Sprintf("bridge-%d", r.starts)
	var err error
	if r.b, err = New(cfg); err != nil {
		r.t.Fatal(err)
	}
	last := 0
	if j := r.pubnub.Journal(); len(j) > 0 {
		last = j[len(j)-1].N
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.b.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				r.t.Errorf("Run() = %v, want nil after a stop", err)
			}
		case <-time.After(patience):
			r.t.Error("Run() has not returned")
		}
	})
	r.t.Cleanup(stop)
	if _, err := r.pubnub.WaitRequest(testContext(r.t), last, r.polls); err != nil {
		r.t.Fatalf("no poll: %v", err)
	}
	return stop
}

// follow hands every event of every shard from now on to r.seen.
func (r *rig) follow() {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	r.t.Cleanup(func() { cancel(); all.Wait() })
	for shard := range r.log.Shards() {
		started := make(chan struct{})
		all.Go(func() {
			err := r.log.Follow(ctx, shard, stream.FollowOptions{}, func(rec *stream.Record) {
				switch rec.Kind {
				case stream.KindStart:
					close(started)
				case stream.KindEvent:
					r.seen <- *rec
				}
			})
			if err != nil {
				r.t.Errorf("Follow(%d) = %v", shard, err)
			}
		})
		select {
		case <-started:
		case <-time.After(patience):
			r.t.Fatalf("Follow(%d) has not started", shard)
		}
	}
}

// followAnnouncements hands every announcement from now on to a channel.
func (r *rig) followAnnouncements() <-chan string {
	r.t.Helper()
	const probe = "{}"
	probed := make(chan struct{}, 1)
	announced := make(chan string, 1024)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	r.t.Cleanup(func() { cancel(); done.Wait() })
	done.Go(func() {
		r.log.FollowAnnouncements(ctx, func(frame []byte, _ time.Time) {
			if string(frame) == probe {
				select {
				case probed <- struct{}{}:
				default:
				}
				return
			}
			announced <- string(frame)
		})
	})
	ask := testContext(r.t)
	for i := 0; ; i++ { // following begins at some moment: announce until it has
		if _, err := r.log.Announce(ask, fmt.Sprint("probe", i), []byte(probe)); err != nil {
			r.t.Fatalf("announcements are not followed: %v", err)
		}
		select {
		case <-probed:
			return announced
		default:
		}
	}
}

// events waits for n events.
func (r *rig) events(n int) []stream.Record {
	r.t.Helper()
	var all []stream.Record
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for len(all) < n {
		select {
		case rec := <-r.seen:
			all = append(all, rec)
			timer.Reset(patience)
		case <-timer.C:
			r.t.Fatalf("%d events, want %d", len(all), n)
		}
	}
	return all
}

// noMore fails if there is another event after one that marks the end.
func (r *rig) noMore(user string) {
	r.t.Helper()
	r.pubnub.Publish("user."+user+".notifications", []byte(`{"the":"end"}`))
	if rec := r.events(1)[0]; !strings.Contains(string(rec.Frame), `"the":"end"`) {
		r.t.Errorf("one event too many: %s", rec.Frame)
	}
}

// jetStream is a client of the embedded server.
func (r *rig) jetStream() jetstream.JetStream {
	r.t.Helper()
	nc, err := nats.Connect(r.log.ClientURL())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		r.t.Fatal(err)
	}
	return js
}

// window sets the deduplication window of every shard.
func (r *rig) window(d time.Duration) {
	r.t.Helper()
	js, ctx := r.jetStream(), testContext(r.t)
	for shard := range r.log.Shards() {
		s, err := js.Stream(ctx, fmt.Sprint("REPRISE_EVENTS_", shard))
		if err != nil {
			r.t.Fatal(err)
		}
		cfg := s.CachedInfo().Config
		cfg.Duplicates = d
		if _, err := js.UpdateStream(ctx, cfg); err != nil {
			r.t.Fatal(err)
		}
	}
}

// dead waits for n dead letters and returns them in order of their storing.
func (r *rig) dead(n int) []jetstream.Msg {
	r.t.Helper()
	ctx := testContext(r.t)
	c, err := r.jetStream().OrderedConsumer(ctx, "REPRISE_DEAD", jetstream.OrderedConsumerConfig{})
	if err != nil {
		r.t.Fatal(err)
	}
	var all []jetstream.Msg
	for len(all) < n {
		m, err := c.Next(jetstream.FetchMaxWait(patience))
		if err != nil {
			r.t.Fatalf("%d dead letters, want %d: %v", len(all), n, err)
		}
		all = append(all, m)
	}
	return all
}

// until polls a condition for some time.
func until(d time.Duration, cond func() bool) bool {
	for end := time.Now().Add(d); time.Now().Before(end); {
		if cond() {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return cond()
}

func userN(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012x", n) }

// logBuffer keeps what was logged.
type logBuffer struct {
	mu    sync.Mutex
	all   bytes.Buffer
	added chan struct{} // closed by the next Write; nil if nobody waits
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.added != nil {
		close(b.added)
		b.added = nil
	}
	return b.all.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

// wait returns when text has been logged n times.
func (b *logBuffer) wait(ctx context.Context, text string, n int) error {
	for {
		b.mu.Lock()
		if strings.Count(b.all.String(), text) >= n {
			b.mu.Unlock()
			return nil
		}
		if b.added == nil {
			b.added = make(chan struct{})
		}
		added := b.added
		b.mu.Unlock()
		select {
		case <-added:
		case <-ctx.Done():
			return fmt.Errorf("%q not logged: %w", text, ctx.Err())
		}
	}
}

func formatTT(timetoken int64) string { return strconv.FormatInt(timetoken, 10) }
