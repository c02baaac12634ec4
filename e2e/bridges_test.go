package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"reprise/bridge/pubnubtest"
)

const bridgeShards = 4

// TestTwoBridges has two bridges share the shards of one log, and kills and
// pauses either of them at random while publishers go on. The log has every
// message once, in each publisher's order, its stamps rise, and nobody has
// written behind a successor.
func TestTwoBridges(t *testing.T) {
	t.Parallel()
	took := twoBridges(t, pubnubtest.Config{QueueSize: 100_000}, 30*time.Second, true)
	if len(took) == 0 {
		t.Fatal("nothing was taken over")
	}
	t.Logf("shards were taken over %v after a kill", took)
}

// BenchmarkTakeOver is the same for a minute. It prints how long after a kill a
// shard has its first event from the other bridge.
func BenchmarkTakeOver(b *testing.B) {
	var took []time.Duration
	for b.Loop() {
		took = append(took, twoBridges(b, pubnubtest.Config{QueueSize: 100_000}, time.Minute, true)...)
	}
	slices.Sort(took)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(len(took)), "take-overs")
	b.ReportMetric(took[len(took)/2].Seconds(), "s-median")
	b.ReportMetric(took[len(took)-1].Seconds(), "s-most")
}

// TestTwoBridgesAndAShortQueue is the same with a queue at PubNub that overflows
// with each take-over: history makes good what it drops. A user's events are in
// order of their arrival then, whatever their age.
func TestTwoBridgesAndAShortQueue(t *testing.T) {
	t.Parallel()
	twoBridges(t, pubnubtest.Config{QueueSize: 100}, 25*time.Second, false)
}

// twoBridges runs two bridges for a time, judges what is in the log then, and
// returns how long take-overs took, sorted.
func twoBridges(t testing.TB, config pubnubtest.Config, length time.Duration, ordered bool) []time.Duration {
	const users, perSecond = 20, 200
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	blows := makeBlows(rand.New(rand.NewPCG(seed, 0)), length)
	pubnub, url := emulatorWith(t, config), natsServer(t)
	log := openStreams(t, url)
	pair := &bridgePair{t: t, url: url, origin: pubnub.Addr(), holders: make(map[Tenure]string)}
	run := newRun(t, &relay{t: t})

	// Whom the log does not know when PubNub drops an event nobody can ask for.
	pair.start(0)
	if err := pubnub.WaitPolls(within(t), 1); err != nil {
		t.Fatalf("WaitPolls(1) = %v, want nil", err)
	}
	p := run.publisher(pubnub.Addr())
	everyone := func(text string) {
		for i := range users {
			p.publish(notice(userNo(i), text))
		}
	}
	everyone("hello")
	log.awaitEvents(users)
	pair.start(1)

	stop := run.keepPublishing(pubnub.Addr(), users, perSecond)
	defer stop()
	deaths := pair.suffer(blows)
	stop()
	everyone("the end")
	if !log.awaitEvents(len(run.publishes)) {
		for _, p := range pair.procs {
			p.dump(t)
		}
		t.FailNow()
	}
	pair.stop()

	records := log.read()
	for i, v := range JudgeShards(bridgeShards, records) {
		if i == 20 {
			break
		}
		t.Errorf("JudgeShards(the log) says %s", v)
	}
	h := History{Logs: LogsOf(records)}
	for i, p := range run.publishes {
		if !ordered {
			p.Publisher = strconv.Itoa(i)
		}
		h.Publishes = append(h.Publishes, *p)
	}
	for i, v := range Judge(h) {
		if i == 20 {
			break
		}
		t.Errorf("Judge(the log) says %s", v)
	}
	gaps, writers := 0, make(map[Tenure]bool)
	for _, r := range records {
		writers[Tenure{r.Shard, r.Writer}] = true
		if r.Gap {
			gaps++
		}
	}
	t.Logf("%d events, %d of them from history; %d writers of %d shards, %d of them deposed while they lived",
		len(run.publishes), pair.filled, len(writers), bridgeShards, pair.deposed)
	if !ordered && pair.filled == 0 {
		t.Error("PubNub's queue has dropped nothing")
	}
	if gaps > 0 {
		t.Errorf("%d gaps are noted in the log, and PubNub's history has everything", gaps)
	}
	if len(writers) < bridgeShards+2 {
		t.Errorf("%d writers of %d shards: hardly anything was taken over", len(writers), bridgeShards)
	}
	return takeOvers(records, deaths, pair.holders)
}

// A blow is what a bridge suffers: a kill, or a pause.
type blow struct {
	bridge   int
	kill     bool
	at, back time.Duration // the bridge goes, and comes back
}

// A take-over is measured if the other bridge was there a second before the kill
// and nothing happened to either for calm behind it; lasting is for how long a
// bridge that was left alone is sure to have a shard.
const (
	calm    = 6 * time.Second
	lasting = 12 * time.Second
)

// makeBlows makes up what happens, of which some kills are to be measured.
func makeBlows(chance *rand.Rand, length time.Duration) []blow {
	between := func(from, to time.Duration) time.Duration { return from + time.Duration(chance.Int64N(int64(to-from))) }
	for {
		var blows []blow
		var back [2]time.Duration
		for at := between(2*time.Second, 8*time.Second); at < length; at += between(500*time.Millisecond, 4*time.Second) {
			b := blow{bridge: chance.IntN(2), kill: chance.IntN(5) < 2, at: at}
			if back[b.bridge] > at {
				b.bridge = 1 - b.bridge
			}
			if back[b.bridge] > at {
				continue
			}
			switch {
			case b.kill:
				b.back = at + between(0, 3*time.Second)
			case chance.IntN(3) == 0:
				b.back = at + between(100*time.Millisecond, 8*time.Second)
			default: // just when the other has taken over and not stored anything
				b.back = at + between(3*time.Second, 3600*time.Millisecond)
			}
			back[b.bridge] = b.back
			blows = append(blows, b)
			if b.kill && chance.IntN(2) == 0 {
				at += calm
			}
		}
		measured, sure, pauses := 0, 0, 0
		for _, b := range blows {
			if !b.kill {
				pauses++
			}
			if b.measured(blows) {
				measured++
				if b.untouched(blows) {
					sure++
				}
			}
		}
		if measured >= int(length/(20*time.Second)) && sure > 0 && pauses >= int(length/(15*time.Second)) {
			return blows
		}
	}
}

func TestMakeBlows(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		var back [2]time.Duration
		for _, b := range makeBlows(rand.New(rand.NewPCG(seed, 0)), 60*time.Second) {
			if b.at < back[b.bridge] {
				t.Fatalf("makeBlows(seed %d): a blow at %v, when the bridge is away until %v", seed, b.at, back[b.bridge])
			}
			back[b.bridge] = b.back
		}
	}
}

// measured reports whether b is a kill at which the other bridge is there, and
// can take over undisturbed.
func (b blow) measured(all []blow) bool {
	return b.kill && !slices.ContainsFunc(all, func(o blow) bool {
		return o != b && o.at < b.at+calm && (o.at > b.at || o.bridge != b.bridge && o.back > b.at-time.Second)
	})
}

// untouched reports whether b's bridge had been left alone before, and there.
func (b blow) untouched(all []blow) bool {
	return b.at > lasting && !slices.ContainsFunc(all, func(o blow) bool {
		return o.bridge == b.bridge && o.at < b.at && o.back > b.at-lasting
	})
}

// bridgePair is two bridges, over all their processes.
type bridgePair struct {
	t           testing.TB
	url, origin string

	procs   [2]*process
	names   [2]string         // of those
	starts  int               // of both
	holders map[Tenure]string // names by what they wrote
	deposed int               // writers that found a successor
	filled  int               // events that came from PubNub's history
}

// start starts a bridge, and does not wait for it.
func (b *bridgePair) start(i int) {
	b.starts++
	b.names[i] = fmt.Sprint("start ", b.starts)
	b.procs[i] = launch(b.t, "bridge", "--node", fmt.Sprint("bridge-", i), "--nats-url", b.url, "--stream-shards", strconv.Itoa(bridgeShards),
		"--admin-listen", "127.0.0.1:0", "--log-format", "json", "--pubnub-origin", b.origin, "--pubnub-tls=false",
		"--pubnub-subscribe-key", "demo", "--pubnub-history-rate", "200/s")
}

// ended notes what a process has said that has ended.
func (b *bridgePair) ended(i int) {
	said := b.procs[i].said()
	b.deposed += strings.Count(said, "another bridge took the shard over")
	for line := range strings.Lines(said) {
		var x struct {
			Msg            string
			Shard, Missing int
			Epoch          uint64
		}
		_ = json.Unmarshal([]byte(line), &x) // what is no such line says nothing
		switch x.Msg {
		case "shard taken":
			b.holders[Tenure{x.Shard, x.Epoch}] = b.names[i]
		case "history compared with the log":
			b.filled += x.Missing
		}
	}
}

// suffer deals the blows, and returns the deaths that are to be measured.
func (b *bridgePair) suffer(blows []blow) (deaths []Death) {
	type act struct {
		at time.Duration
		do func()
	}
	var acts []act
	kills := 0
	for _, x := range blows {
		p := &b.procs[x.bridge]
		if !x.kill {
			acts = append(acts, act{x.at, func() { (*p).signal(syscall.SIGSTOP) }}, act{x.back, func() { (*p).signal(syscall.SIGCONT) }})
			continue
		}
		kills++
		acts = append(acts, act{x.at, func() {
			if x.measured(blows) {
				deaths = append(deaths, Death{b.names[x.bridge], time.Now().UnixNano()})
			}
			(*p).kill()
			if !(*p).killed() {
				b.t.Fatalf("a bridge ended by itself: %v\n%s", (*p).cmd.ProcessState, (*p).said())
			}
			b.ended(x.bridge)
		}}, act{x.back, func() { b.start(x.bridge) }})
	}
	slices.SortStableFunc(acts, func(x, y act) int { return cmp.Compare(x.at, y.at) })
	began := time.Now()
	for _, a := range acts {
		<-time.After(time.Until(began.Add(a.at)))
		a.do()
	}
	b.t.Logf("%d kills, %d of them measured, and %d pauses", kills, len(deaths), len(blows)-kills)
	return deaths
}

// stop ends both in good order.
func (b *bridgePair) stop() {
	for i, p := range b.procs {
		p.signal(syscall.SIGTERM)
		if code := p.exit(b.t); code != 0 {
			b.t.Errorf("exit code of a bridge after SIGTERM = %d, want 0", code)
		}
		b.ended(i)
	}
}

// streams are the log's, as any NATS client sees them.
type streams struct {
	t  testing.TB
	js jetstream.JetStream
}

func openStreams(t testing.TB, url string) *streams {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatalf("nats.Connect() = %v, want nil", err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatalf("jetstream.New() = %v, want nil", err)
	}
	return &streams{t, js}
}

// awaitEvents waits until the log has n events, and reports whether it has.
func (s *streams) awaitEvents(n int) bool {
	s.t.Helper()
	ctx := within(s.t)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for last := uint64(0); ; {
		have := uint64(0)
		for shard := range bridgeShards {
			stream, err := s.js.Stream(ctx, fmt.Sprint("REPRISE_EVENTS_", shard))
			if err != nil {
				continue // not made yet
			}
			info, err := stream.Info(ctx, jetstream.WithSubjectFilter("reprise.ev.>"))
			if err != nil {
				s.t.Errorf("Info(shard %d) = %v, want nil", shard, err)
				return false
			}
			for subject, messages := range info.State.Subjects {
				if !strings.HasSuffix(subject, "._") {
					have += messages
				}
			}
		}
		if have >= uint64(n) {
			return true
		}
		select {
		case <-tick.C:
			last = have
		case <-ctx.Done():
			s.t.Errorf("the log has %d events after %v, want %d", last, patience, n)
			return false
		}
	}
}

// read reads all shards.
func (s *streams) read() (records []Record) {
	s.t.Helper()
	ctx := within(s.t)
	for shard := range bridgeShards {
		stream, err := s.js.Stream(ctx, fmt.Sprint("REPRISE_EVENTS_", shard))
		if err != nil {
			s.t.Fatalf("Stream(shard %d) = %v, want nil", shard, err)
		}
		consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
		if err != nil {
			s.t.Fatalf("OrderedConsumer(shard %d) = %v, want nil", shard, err)
		}
		it, err := consumer.Messages()
		if err != nil {
			s.t.Fatalf("Messages(shard %d) = %v, want nil", shard, err)
		}
		for range stream.CachedInfo().State.Msgs {
			m, err := it.Next(jetstream.NextContext(ctx))
			if err != nil {
				s.t.Fatalf("Next(shard %d) = %v, want nil", shard, err)
			}
			records = append(records, s.record(shard, m))
		}
		it.Stop()
	}
	return records
}

func (s *streams) record(shard int, m jetstream.Msg) Record {
	meta, err := m.Metadata()
	if err != nil {
		s.t.Fatalf("Metadata() = %v, want nil", err)
	}
	header := func(name string) string {
		if values := m.Headers()[name]; len(values) == 1 {
			return values[0]
		}
		return ""
	}
	r := Record{
		Shard: shard, User: strings.TrimPrefix(m.Subject(), fmt.Sprint("reprise.ev.", shard, ".")),
		ID: header("Nats-Msg-Id"), Hlc: header("Reprise-Hlc"), Gap: header("Reprise-Gap-From") != "",
		Frame: string(m.Data()), Stored: meta.Timestamp.UnixNano(),
	}
	if r.User == "_" {
		r.User = ""
	}
	if r.Writer, err = strconv.ParseUint(header("Reprise-Writer"), 10, 64); err != nil {
		s.t.Errorf("record %d of shard %d: Reprise-Writer = %v, want a number", meta.Sequence.Stream, shard, err)
	}
	return r
}
