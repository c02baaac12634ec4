package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"reprise/stream"
)

// BenchmarkRelay compares the way of an event from its append to the WebSocket
// of its user's device with its way to a bare durable consumer of an equal
// stream on the same server: same configuration, sync, headers and bytes. Both
// get 2,000 events a second, in alternating rounds; 1,000 devices of as many
// users are connected all the time. It reports the medians of the rounds' p50
// and p99, and by how many milliseconds the relay's p50 is above the bare one;
// the goal is 3.
//
//	go test ./e2e -run '^$' -bench '^BenchmarkRelay$' -benchtime 1x
func BenchmarkRelay(b *testing.B) {
	const connections, perSecond, rounds, length = 1_000, 2_000, 7, 2 * time.Second
	url := natsServer(b)
	relay := wire(b, stream.Config{URL: url, Node: "bench"}, "")
	writer, err := relay.log.Acquire(b.Context(), 0)
	if err != nil {
		b.Fatal(err)
	}
	defer writer.Close(context.Background())
	ctx, stop := context.WithCancel(b.Context())
	defer stop()

	sent := newSendings(2 * rounds * perSecond * int(length/time.Second))
	for i := range connections {
		openBenchDevice(ctx, b, relay.devices, i, sent)
	}
	bare := newBareConsumer(b, url, sent)
	next := 0
	round := func(send func(n int, ev stream.Event) error) (p50, p99 time.Duration) {
		first := next
		pace(perSecond, length, func() {
			ev := benchEvent(next, next%connections)
			sent.note(next)
			if err := send(next, ev); err != nil {
				b.Fatal(err)
			}
			next++
		})
		return sent.percentiles(b, first, next)
	}
	var ours50, ours99, bare50, bare99 []float64
	for b.Loop() {
		for range rounds {
			p50, p99 := round(func(_ int, ev stream.Event) error { return writer.Append(b.Context(), ev) })
			ours50, ours99 = append(ours50, milliseconds(p50)), append(ours99, milliseconds(p99))
			p50, p99 = round(bare.publish)
			bare50, bare99 = append(bare50, milliseconds(p50)), append(bare99, milliseconds(p99))
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(ours50), "p50-ms")
	b.ReportMetric(median(ours99), "p99-ms")
	b.ReportMetric(median(bare50), "bare-p50-ms")
	b.ReportMetric(median(bare99), "bare-p99-ms")
	b.ReportMetric(median(ours50)-median(bare50), "above-bare-ms")
	b.ReportMetric(median(ours50)/median(bare50), "ratio")
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

// natsServer is a NATS server that listens, so that both ways to a device have
// the same connections to it.
func natsServer(b testing.TB) (url string) {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true,
		StoreDir: b.TempDir(), SyncInterval: time.Second, NoSigs: true, NoLog: true})
	if err != nil {
		b.Fatal(err)
	}
	s.Start()
	b.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		b.Fatal("the NATS server is not ready")
	}
	return s.ClientURL()
}

// benchEvent is the n-th event, of one user. Its position says which it is.
func benchEvent(n, user int) stream.Event {
	m := progress(userNo(user), deviceNo(1), n)
	return stream.Event{ID: "bench:" + strconv.Itoa(n), User: m.user, Device: deviceNo(1), Timetoken: "17954373395308042",
		Frame: []byte(m.frame), StampAt: strings.Index(m.frame, noStamp)}
}

// sendings is when each event was sent, and how long it took to arrive.
type sendings struct {
	at      []atomic.Int64 // ns since began
	took    []atomic.Int64 // ns; 0 is not yet
	arrived atomic.Int64
	began   time.Time
	news    chan struct{} // capacity 1; sent to at each arrival
}

func newSendings(n int) *sendings {
	n += n / 10 // the pace is not exact
	return &sendings{at: make([]atomic.Int64, n), took: make([]atomic.Int64, n), began: time.Now(), news: make(chan struct{}, 1)}
}

func (s *sendings) note(n int) { s.at[n].Store(int64(time.Since(s.began))) }

// arrive takes an event's frame.
func (s *sendings) arrive(frame []byte) {
	now := int64(time.Since(s.began))
	var f struct {
		Position int `json:"position"`
	}
	if json.Unmarshal(frame, &f) == nil && s.at[f.Position].Load() != 0 {
		s.took[f.Position].Store(max(1, now-s.at[f.Position].Load()))
		s.arrived.Add(1)
		select {
		case s.news <- struct{}{}:
		default:
		}
	}
}

// percentiles waits until all events before end have arrived, and returns how
// long those from first on took.
func (s *sendings) percentiles(b *testing.B, first, end int) (p50, p99 time.Duration) {
	timeout := time.After(patience)
	for s.arrived.Load() < int64(end) {
		select {
		case <-s.news:
		case <-timeout:
			b.Fatalf("%d of %d events have arrived", s.arrived.Load(), end)
		}
	}
	var took []time.Duration
	for n := first; n < end; n++ {
		took = append(took, time.Duration(s.took[n].Load()))
	}
	slices.Sort(took)
	return took[len(took)/2], took[len(took)*99/100]
}

// pace calls fn perSecond times a second for as long as length.
func pace(perSecond int, length time.Duration, fn func()) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	began, done := time.Now(), 0
	for elapsed := time.Duration(0); elapsed < length; elapsed = time.Since(began) {
		for due := int(elapsed.Seconds() * float64(perSecond)); done < due; done++ {
			fn()
		}
		<-tick.C
	}
}

// openBenchDevice connects the n-th user's device, and hands on what it reads
// until ctx ends.
func openBenchDevice(ctx context.Context, b *testing.B, addr string, n int, sent *sendings) {
	b.Helper()
	url := fmt.Sprintf("ws://%s/ws?user_id=%s&device_id=%s&since=latest", addr, userNo(n), deviceNo(2))
	var ws *websocket.Conn
	var err error
	for range 100 { // an edge that has only just started refuses until it follows the log
		if ws, _, err = websocket.Dial(ctx, url, nil); err == nil {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	if err != nil {
		b.Fatalf("connecting device %d: %v", n, err)
	}
	b.Cleanup(func() { ws.CloseNow() })
	caughtUp := make(chan struct{})
	go func() {
		live := false
		for {
			_, text, err := ws.Read(context.Background())
			switch {
			case err != nil:
				return
			case live:
				sent.arrive(text)
			case strings.HasPrefix(string(text), `{"type":"caught_up"`):
				live = true
				close(caughtUp)
			}
		}
	}()
	select {
	case <-caughtUp:
	case <-time.After(patience):
		b.Fatalf("device %d has not caught up", n)
	}
}

// bareConsumer is a stream equal to the log's and a durable consumer of it.
type bareConsumer struct {
	js   jetstream.JetStream
	sent *sendings
}

func newBareConsumer(b *testing.B, url string, sent *sendings) *bareConsumer {
	b.Helper()
	connect := func() jetstream.JetStream {
		nc, err := nats.Connect(url)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(nc.Close)
		js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(256))
		if err != nil {
			b.Fatal(err)
		}
		return js
	}
	in, out := connect(), connect()
	log, err := in.Stream(b.Context(), "REPRISE_EVENTS_0")
	if err != nil {
		b.Fatal(err)
	}
	equal := log.CachedInfo().Config
	equal.Name, equal.Subjects = "BARE", []string{"bare.*"}
	s, err := out.CreateStream(b.Context(), equal)
	if err != nil {
		b.Fatal(err)
	}
	consumer, err := s.CreateConsumer(b.Context(), jetstream.ConsumerConfig{Durable: "bare", AckPolicy: jetstream.AckAllPolicy,
		MemoryStorage: true, MaxAckPending: 20_000})
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	consuming, err := consumer.Consume(func(m jetstream.Msg) {
		sent.arrive(m.Data())
		if n++; n%500 == 0 {
			m.Ack() // one that is lost is made good by the next
		}
	}, jetstream.PullMaxMessages(2_000))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(consuming.Stop)
	return &bareConsumer{in, sent}
}

// publish publishes ev with the headers that the log gives it.
func (c *bareConsumer) publish(n int, ev stream.Event) error {
	_, err := c.js.PublishMsgAsync(&nats.Msg{Subject: "bare." + ev.User, Data: ev.Frame, Header: nats.Header{
		"Nats-Msg-Id": {ev.ID}, "Reprise-Format": {"1"}, "Reprise-Writer": {"1"}, "Reprise-Hlc": {fmt.Sprintf("%016x", n)},
		"Reprise-Device": {ev.Device}, "Reprise-Timetoken": {ev.Timetoken},
	}})
	return err
}
