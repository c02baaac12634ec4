package bridge

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/metric/noop"

	"reprise/bridge/pubnubtest"
	"reprise/stream"
)

// benchUsers is how many users take turns in the feed of a benchmark.
const benchUsers = 100

// BenchmarkIngest takes a full queue from the emulator through the real SDK and
// the guard, in alternating rounds: into the log, and into a sink that stores
// nothing. Without a round trip the same frames are then published to an equal
// stream as well, bare and asynchronously, 256 pending: the ceiling of any sink
// that stores. It reports medians, and
//
//   - ratio: stored/s against the slower one of discarded/s and bare/s; the goal
//     is 0.8.
//   - serial-ratio: stored/s against taking a page and then publishing it bare,
//     one after the other. Nothing is asked for before the reply before is
//     stored, so that is the bound of any bridge that promises as much.
//   - s-to-store: until the last message is in the log, and s-to-compare: until
//     history has then been compared, for full pages make the bridge doubt.
//   - stored-µs/msg, discarded-µs/msg, bare-µs/msg: CPU time of the whole process,
//     user and system, while messages are taken. The emulator, where there is one,
//     and the NATS server are in it.
//
// All is published before the first page is handed out.
//
//	go test ./bridge -run '^$' -bench '^BenchmarkIngest$' -benchtime 1x
func BenchmarkIngest(b *testing.B) {
	for _, bb := range []struct {
		roundTrip time.Duration
		rounds, n int
	}{{0, 7, 20_000}, {20 * time.Millisecond, 5, 10_000}} {
		b.Run("rtt="+bb.roundTrip.String(), func(b *testing.B) {
			var stored, discarded, bare []lap
			var compared []float64
			for b.Loop() {
				for range bb.rounds {
					s, behind := ingest(b, bb.roundTrip, bb.n)
					stored, compared = append(stored, s), append(compared, behind.Seconds())
					discarded = append(discarded, discard(b, bb.roundTrip, bb.n))
					if bb.roundTrip == 0 {
						bare = append(bare, publishBare(b, bb.n))
					}
				}
			}
			rate := medianOf(stored, lap.rate)
			ceiling := medianOf(discarded, lap.rate)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(rate, "stored/s")
			b.ReportMetric(ceiling, "discarded/s")
			if bare != nil {
				perSecond := medianOf(bare, lap.rate)
				b.ReportMetric(perSecond, "bare/s")
				b.ReportMetric(medianOf(bare, lap.cpu), "bare-µs/msg")
				b.ReportMetric(rate*(1/ceiling+1/perSecond), "serial-ratio")
				ceiling = min(ceiling, perSecond)
			}
			b.ReportMetric(rate/ceiling, "ratio")
			b.ReportMetric(medianOf(stored, lap.cpu), "stored-µs/msg")
			b.ReportMetric(medianOf(discarded, lap.cpu), "discarded-µs/msg")
			b.ReportMetric(medianOf(stored, func(s lap) float64 { return s.took.Seconds() }), "s-to-store")
			b.ReportMetric(median(compared), "s-to-compare")
		})
	}
}

func median[T cmp.Ordered](rounds []T) T {
	slices.Sort(rounds)
	return rounds[len(rounds)/2]
}

func medianOf(rounds []lap, of func(lap) float64) float64 {
	var all []float64
	for _, s := range rounds {
		all = append(all, of(s))
	}
	return median(all)
}

// lap is a time in which n messages were taken.
type lap struct {
	n         int
	took, ran time.Duration // on the wall, and on all CPUs
}

func (s lap) rate() float64 { return float64(s.n) / s.took.Seconds() }

// cpu is microseconds for each message.
func (s lap) cpu() float64 { return float64(s.ran.Nanoseconds()) / 1e3 / float64(s.n) }

// begin begins a lap, which ends when the returned function is called.
func begin(b *testing.B, n int) (end func() lap) {
	ran := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	ranBefore, began := ran(), time.Now()
	return func() lap { return lap{n, time.Since(began), ran() - ranBefore} }
}

// benchEmulator has a queue that does not overflow.
func benchEmulator(roundTrip time.Duration) pubnubtest.Config {
	return pubnubtest.Config{QueueSize: 1 << 20, MaxMessages: 1 << 20, PollTimeout: 2 * time.Second, RoundTrip: roundTrip}
}

func benchPubNub(b *testing.B, roundTrip time.Duration) *pubnubtest.Server {
	b.Helper()
	s, err := pubnubtest.Start(benchEmulator(roundTrip))
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func benchLog(b *testing.B, shards int) *stream.Log {
	b.Helper()
	log, err := stream.Open(b.Context(), stream.Config{DataDir: b.TempDir(), Shards: shards, Listen: "127.0.0.1:0"})
	if err != nil {
		b.Fatal(err)
	}
	return log
}

func benchChannel(n int) string { return "user." + userN(n) + ".sync" }

var benchPayload = fmt.Appendf(nil, `{"type":"progress_update","content_id":%q,"position_seconds":1234,"duration_seconds":7200,"timestamp":"1795437339530","device_id":%q}`, testContent, testDevice)

// queueUp makes every poll of s wait while do is called and then n messages of
// some users are published. The returned function lets the polls go on.
func queueUp(b *testing.B, s *pubnubtest.Server, n, users int, do func()) (letGo func()) {
	b.Helper()
	held := s.Inject(pubnubtest.Fault{Kind: pubnubtest.Hold, Endpoint: pubnubtest.Poll})
	do()
	if err := held.WaitHits(b.Context(), 1); err != nil {
		b.Fatal(err)
	}
	for i := range n {
		s.Publish(benchChannel(i%users), benchPayload)
	}
	return held.Clear
}

// running is a bridge that runs.
type running struct {
	*Bridge
	b    *testing.B
	end  context.CancelFunc
	done chan error
}

func run(b *testing.B, cfg Config) *running {
	b.Helper()
	bridge, err := New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	r := &running{bridge, b, cancel, make(chan error, 1)}
	go func() { r.done <- bridge.Run(ctx) }()
	return r
}

// stop stops the bridge, in good order.
func (r *running) stop() {
	r.b.Helper()
	r.end()
	if err := <-r.done; err != nil {
		r.b.Fatal(err)
	}
}

// appended is how many events are in the log by the bridge's doing.
func (r *running) appended() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, sh := range r.shards {
		n += int(sh.writer.Stats().Appended)
	}
	return n
}

// stored returns when n events are in the log. A reader of the log would cost
// as much as the bridge, so the writers' counts are looked at each millisecond.
func (r *running) stored(n int) {
	r.b.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if got := r.appended(); got == n {
			return
		} else if got > n {
			r.b.Fatalf("%d events are stored, want %d", got, n)
		}
		if r.b.Context().Err() != nil {
			r.b.Fatal(r.b.Context().Err())
		}
	}
}

// saying is a log handler that tells when a line was logged.
type saying struct {
	slog.Handler
	text string
	left *atomic.Int64
	said chan<- struct{} // closed at the last of so many such lines
}

// newSaying makes a logger that closes said when text has been logged times times.
func newSaying(text string, times int) (l *slog.Logger, said <-chan struct{}) {
	s := saying{Handler: slog.DiscardHandler, text: text, left: new(atomic.Int64)}
	s.left.Store(int64(times))
	ch := make(chan struct{})
	s.said = ch
	return slog.New(s), ch
}

func (s saying) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (s saying) Handle(_ context.Context, r slog.Record) error {
	if r.Message == s.text && s.left.Add(-1) == 0 {
		close(s.said)
	}
	return nil
}

// ingest carries n messages into a log. It also returns how long after the last
// one was stored history had been compared.
func ingest(b *testing.B, roundTrip time.Duration, n int) (s lap, compared time.Duration) {
	pubnub := benchPubNub(b, roundTrip)
	defer pubnub.Close()
	log := benchLog(b, 1)
	defer log.Close()
	logger, said := newSaying("history compared with the log", 1)
	var r *running
	letGo := queueUp(b, pubnub, n, benchUsers, func() {
		r = run(b, Config{Log: log, Origin: pubnub.Addr(), SubscribeKey: "demo", Channels: []string{"user.*"}, Logger: logger})
	})
	end := begin(b, n)
	letGo()
	r.stored(n)
	s = end()
	stored := time.Now()
	<-said
	compared = time.Since(stored)
	if got := r.appended(); got != n {
		b.Fatalf("%d events are stored, want %d", got, n)
	}
	r.stop()
	return s, compared
}

// discard takes n messages as a bridge does, and stores nothing.
func discard(b *testing.B, roundTrip time.Duration, n int) lap {
	pubnub := benchPubNub(b, roundTrip)
	defer pubnub.Close()
	transport := newTransport()
	defer transport.CloseIdleConnections()
	inst, err := newInstruments(noop.Meter{}, &Bridge{})
	if err != nil {
		b.Fatal(err)
	}
	g := newGuard(transport, cursor{}, time.Minute, &pulse{inst: inst, logger: slog.New(slog.DiscardHandler)})
	var left atomic.Int64
	left.Store(int64(n))
	all := make(chan struct{})
	g.store = func(p *page) error {
		if len(p.messages) > 0 && left.Add(-int64(len(p.messages))) == 0 {
			close(all)
		}
		return nil
	}
	sub, err := subscribe(sdkConfig{origin: pubnub.Addr(), subscribeKey: "demo", userID: "nobody"}, g)
	if err != nil {
		b.Fatal(err)
	}
	letGo := queueUp(b, pubnub, n, benchUsers, func() { err = sub.start([]string{"user.*"}, nil) })
	if err != nil {
		b.Fatal(err)
	}
	end := begin(b, n)
	letGo()
	<-all
	s := end()
	g.stop()
	if err := sub.stop(); err != nil {
		b.Fatal(err)
	}
	return s
}

// publishBare publishes the frames of n messages, with the headers that events
// have, to a stream that is configured like the log's.
func publishBare(b *testing.B, n int) lap {
	log := benchLog(b, 1)
	defer log.Close()
	nc, err := nats.Connect(log.ClientURL())
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(256))
	if err != nil {
		b.Fatal(err)
	}
	events, err := js.Stream(b.Context(), "REPRISE_EVENTS_0")
	if err != nil {
		b.Fatal(err)
	}
	equal := events.CachedInfo().Config
	equal.Name, equal.Subjects = "BARE", []string{"bare.*"}
	if _, err := js.CreateStream(b.Context(), equal); err != nil {
		b.Fatal(err)
	}
	frames := make([]result, n)
	for i := range frames {
		var bad *refusal
		if frames[i], bad = (rules{}).judge(benchChannel(i%benchUsers), benchPayload); bad != nil {
			b.Fatal(bad)
		}
	}
	timetoken := time.Now().UnixMicro() * 10
	end := begin(b, n)
	for i, f := range frames {
		at := strconv.FormatInt(timetoken+int64(i), 10)
		m := &nats.Msg{Subject: "bare." + f.user, Data: f.frame, Header: nats.Header{
			"Reprise-Format": {"1"}, "Reprise-Writer": {"1"}, "Reprise-Hlc": {noStamp}, "Reprise-Device": {f.device},
			"Reprise-Timetoken": {at}, "Nats-Msg-Id": {"user." + f.user + ".sync:" + at},
		}}
		if _, err := js.PublishMsgAsync(m, jetstream.WithStallWait(time.Minute)); err != nil {
			b.Fatal(err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-b.Context().Done():
		b.Fatal(b.Context().Err())
	}
	return end()
}
