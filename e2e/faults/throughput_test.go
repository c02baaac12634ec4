package faults

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"reprise/bridge/pubnubtest"
	"reprise/edge/fleet"
	"reprise/stream"
)

// rounds is how many rounds of each are made, in turn.
const rounds = 9

// BenchmarkCluster compares what a three-node cluster with three replicas takes in
// and hands on with and without the relay, in alternating rounds: appends (stamped,
// fenced, in order) with as many bare asynchronous publishes in flight, and events from
// the first append to the last device at an edge with the same events from the first
// publish to a bare durable consumer's last.
//
//	go test . -run '^$' -bench '^BenchmarkCluster$' -benchtime 1x -timeout 30m
func BenchmarkCluster(b *testing.B) {
	b.Run("ingest", func(b *testing.B) {
		for b.Loop() {
			compareIngest(b)
		}
		b.ReportMetric(0, "ns/op")
	})
	b.Run("relay", func(b *testing.B) {
		for b.Loop() {
			compareRelay(b)
		}
		b.ReportMetric(0, "ns/op")
	})
}

// pair is a relay's log on a cluster, and a bare stream beside it.
type pair struct {
	b      *testing.B
	c      *Cluster
	writer *stream.Writer
	async  jetstream.JetStream
	next   int
}

const pairUsers = 100

func newPair(b *testing.B, edges int) *pair {
	b.Helper()
	c, log := straight(b, 1, edges)
	writer, err := log.Acquire(b.Context(), 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { writer.Close(context.Background()) })
	config := jetstream.StreamConfig{Name: "BARE", Subjects: []string{"bare.*"}, Replicas: 3, AllowDirect: true, AllowAtomicPublish: true,
		MaxAge: 168 * time.Hour, Duplicates: 5 * time.Minute, MaxConsumers: 100}
	if _, err := c.js.CreateStream(b.Context(), config); err != nil {
		b.Fatal(err)
	}
	async, err := jetstream.New(c.nc, jetstream.WithPublishAsyncMaxPending(256))
	if err != nil {
		b.Fatal(err)
	}
	return &pair{b: b, c: c, writer: writer, async: async}
}

// event is the next event.
func (p *pair) event() stream.Event { p.next++; return eventNo(p.next, pairUsers) }

// eventNo is the n-th event, from 1, of so many users in turn.
func eventNo(n, users int) stream.Event {
	frame := fmt.Sprintf(`{"type":"progress_update","hlc":"%s","content_id":"%s","position":%d,"duration":7200,"device_id":"%s","timestamp":"1795437339530"}`,
		noStamp, content, (n-1)/users+1, deviceNo(1<<40))
	return stream.Event{ID: "bench:" + strconv.Itoa(n), User: userNo((n - 1) % users), Device: deviceNo(1 << 40), Timetoken: "17954373395308042",
		Frame: []byte(frame), StampAt: strings.Index(frame, noStamp)}
}

// append appends events to the log.
func (p *pair) append(events int) {
	for range events {
		if err := p.writer.Append(p.b.Context(), p.event()); err != nil {
			p.b.Fatal(err)
		}
	}
	if err := p.writer.Flush(p.b.Context()); err != nil {
		p.b.Fatal(err)
	}
}

// publish publishes as many, with as many headers, to the bare stream.
func (p *pair) publish(events int) {
	for range events {
		ev := p.event()
		m := &nats.Msg{Subject: "bare." + ev.User, Data: ev.Frame, Header: nats.Header{"Nats-Msg-Id": {ev.ID}, "Reprise-Hlc": {noStamp},
			"Reprise-Format": {"1"}, "Reprise-Writer": {"1"}, "Reprise-Device": {ev.Device}, "Reprise-Timetoken": {ev.Timetoken}}}
		if _, err := p.async.PublishMsgAsync(m, jetstream.WithStallWait(10*time.Second)); err != nil {
			p.b.Fatal(err)
		}
	}
	<-p.async.PublishAsyncComplete()
}

// compare measures both in turn and reports the medians, of the rounds' ratios too.
// Both return events a second.
func compare(b *testing.B, what string, here, bare func() float64) {
	b.Helper()
	var a, z, ratios []float64
	for n := range rounds {
		a, z = append(a, here()), append(z, bare())
		ratios = append(ratios, a[n]/z[n])
	}
	for _, x := range []struct {
		unit string
		of   []float64
	}{{"events/s", a}, {"bare/s", z}, {"ratio", ratios}} {
		slices.Sort(x.of)
		b.ReportMetric(x.of[rounds/2], what+"-"+x.unit)
	}
}

func compareIngest(b *testing.B) {
	const events = 50_000
	p := newPair(b, 0)
	timed := func(do func(int)) func() float64 {
		return func() float64 {
			began := time.Now()
			do(events)
			return events / time.Since(began).Seconds()
		}
	}
	compare(b, "ingest", timed(p.append), timed(p.publish))
}

func compareRelay(b *testing.B) {
	const events = 20_000
	p := newPair(b, 1)
	var arrived atomic.Int64
	done := make(chan struct{}, 1)
	came := func() {
		if arrived.Add(1) == events {
			done <- struct{}{}
		}
	}
	f, err := fleet.New(fleet.Config{URL: "ws://" + p.c.prefix + "31:8080/ws", OnEvent: func(*fleet.Device, int, bool) { came() }})
	if err != nil {
		b.Fatal(err)
	}
	var devices []*fleet.Device
	for n := range pairUsers {
		devices = append(devices, fleet.NewDevice(userNo(n), deviceNo(n), ""))
	}
	if _, err := f.Connect(b.Context(), devices); err != nil {
		b.Fatal(err)
	}
	defer f.Wait()
	defer f.Cut(devices)
	consumer, err := p.c.js.CreateConsumer(b.Context(), "BARE", jetstream.ConsumerConfig{Durable: "bare", AckPolicy: jetstream.AckAllPolicy,
		DeliverPolicy: jetstream.DeliverNewPolicy, MemoryStorage: true, MaxAckPending: 20_000})
	if err != nil {
		b.Fatal(err)
	}
	seen := 0
	consuming, err := consumer.Consume(func(m jetstream.Msg) {
		if seen++; seen%500 == 0 {
			m.Ack()
		}
		came()
	}, jetstream.PullMaxMessages(2000), jetstream.PullThresholdMessages(1000))
	if err != nil {
		b.Fatal(err)
	}
	defer consuming.Stop()
	timed := func(put func(int)) func() float64 {
		return func() float64 {
			arrived.Store(0)
			began := time.Now()
			put(events)
			<-done
			return events / time.Since(began).Seconds()
		}
	}
	compare(b, "relay", timed(p.append), timed(p.publish))
}

// straight starts a cluster without bridges to measure, and opens its log.
func straight(b *testing.B, shards, edges int) (*Cluster, *stream.Log) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	c, err := Start(ctx, programs(b), b.TempDir(), Shape{Shards: shards, Edges: edges, Straight: true}, pubnubtest.Config{})
	b.Cleanup(c.Close)
	if err != nil {
		b.Fatal(err)
	}
	urls, err := c.natsFor("bench")
	if err != nil {
		b.Fatal(err)
	}
	log, err := stream.Open(ctx, stream.Config{URL: urls, Node: "bench", Shards: shards, Replicas: 3})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { log.Close() })
	return c, log
}

// BenchmarkShards is what shards cost and give: the same events over 1, 4 and 16 of
// them, with three replicas and one edge that follows all. It prints the CPU of the
// three NATS servers and of the edge for an event, at 2,000 a second and at the most that
// goes in; that most; what the cluster costs while nothing happens, and the memory of a
// NATS server at the end.
//
//	go test . -run '^$' -bench '^BenchmarkShards$' -benchtime 1x -timeout 30m
func BenchmarkShards(b *testing.B) {
	for _, shards := range []int{1, 4, 16} {
		b.Run(strconv.Itoa(shards), func(b *testing.B) {
			for b.Loop() {
				measureShards(b, shards)
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

func measureShards(b *testing.B, shards int) {
	const users, perSecond, length = 1000, 2000, 10 * time.Second
	c, log := straight(b, shards, 1)
	writers := make([]*stream.Writer, shards)
	for n := range shards {
		w, err := log.Acquire(b.Context(), n)
		if err != nil {
			b.Fatal(err)
		}
		defer w.Close(context.WithoutCancel(b.Context()))
		writers[n] = w
	}
	next := 0
	put := func() {
		next++
		ev := eventNo(next, users)
		if err := writers[log.Shard(ev.User)].Append(b.Context(), ev); err != nil {
			b.Fatal(err)
		}
	}
	flush := func() {
		for _, w := range writers {
			if err := w.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	}
	sleep(b.Context(), 3*time.Second)
	servers := c.Nodes
	idle := cpuOf(b, servers...)
	sleep(b.Context(), length)
	idle = cpuOf(b, servers...) - idle
	b.ReportMetric(100*idle.Seconds()/length.Seconds(), "%-nats-idle")

	nats, edge := cpuOf(b, servers...), cpuOf(b, c.Edges...)
	began, first := time.Now(), next
	for until := began.Add(length); time.Now().Before(until); {
		for float64(next-first) < perSecond*time.Since(began).Seconds() {
			put()
		}
		sleep(b.Context(), 2*time.Millisecond)
	}
	flush()
	sleep(b.Context(), 200*time.Millisecond) // the edge has them by then
	n := float64(next - first)
	b.ReportMetric(float64((cpuOf(b, servers...)-nats-idle).Microseconds())/n, "µs-nats/event")
	b.ReportMetric(float64((cpuOf(b, c.Edges...)-edge).Microseconds())/n, "µs-edge/event")

	var most []float64
	nats, edge, first = cpuOf(b, servers...), cpuOf(b, c.Edges...), next
	for range rounds {
		began, first := time.Now(), next
		for range 20_000 {
			put()
		}
		flush()
		most = append(most, float64(next-first)/time.Since(began).Seconds())
	}
	n = float64(next - first)
	b.ReportMetric(float64((cpuOf(b, servers...)-nats).Microseconds())/n, "µs-nats/event-most")
	b.ReportMetric(float64((cpuOf(b, c.Edges...)-edge).Microseconds())/n, "µs-edge/event-most")
	slices.Sort(most)
	b.ReportMetric(most[rounds/2], "events/s-most")
	b.ReportMetric(residentOf(b, c.Nodes[0])/1e6, "MB-nats")
}

// cpuOf is the CPU time of processes.
func cpuOf(t testing.TB, of ...*Process) (sum time.Duration) {
	t.Helper()
	for _, p := range of {
		stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "stat"))
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+2:]))
		for _, f := range fields[11:13] {
			ticks, err := strconv.Atoi(f)
			if err != nil {
				t.Fatal(err)
			}
			sum += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return sum
}

// residentOf is the memory of a process in bytes.
func residentOf(t testing.TB, p *Process) float64 {
	t.Helper()
	statm, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "statm"))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseFloat(strings.Fields(string(statm))[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * float64(os.Getpagesize())
}
