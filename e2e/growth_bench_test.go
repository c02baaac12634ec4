package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"reprise/bridge/pubnubtest"
	"reprise/edge/fleet"
	"reprise/stream"
)

// growthSVG is where BenchmarkGrowth draws its picture.
var growthSVG = flag.String("svg", "", "the file that BenchmarkGrowth draws into")

// A growth is what one size costs.
type growth struct {
	connections, known int
	cpu                float64 // µs for an event, of all processes
	memory             float64 // bytes of the edge for a connection
}

// BenchmarkGrowth is what an event and a connection cost by the number of
// connections, and by the number of users that the log knows: 1,000 events a second
// to one device each, PubNub 10 ms away. CPU is that of the bridge, the NATS server
// and the edge together, memory the edge's.
//
//	go test ./e2e -run '^$' -bench '^BenchmarkGrowth$' -benchtime 1x -timeout 30m -args -svg "$PWD/e2e/growth.svg"
func BenchmarkGrowth(b *testing.B) {
	var all []growth
	for _, g := range []growth{{connections: 1_000}, {connections: 5_000}, {connections: 19_000},
		{connections: 1_000, known: 10_000}, {connections: 1_000, known: 100_000}, {connections: 1_000, known: 1_000_000}} {
		b.Run(fmt.Sprintf("connections=%d/known=%d", g.connections, max(g.connections, g.known)), func(b *testing.B) {
			for b.Loop() {
				grow(b, &g)
				b.ReportMetric(g.cpu, "µs/event")
				b.ReportMetric(g.memory, "B/conn")
			}
			b.ReportMetric(0, "ns/op")
			all = append(all, g)
		})
	}
	if *growthSVG != "" && len(all) == 6 {
		if err := os.WriteFile(*growthSVG, []byte(drawGrowth(all)), 0o644); err != nil {
			b.Fatal(err)
		}
	}
}

// grow measures g.
func grow(b *testing.B, g *growth) {
	const perSecond, length = 1000, 15 * time.Second
	nats, url := natsProcess(b)
	func() { // a log that knows the users
		log, err := stream.Open(within(b), stream.Config{URL: url, Node: "load"})
		if err != nil {
			b.Fatal(err)
		}
		defer log.Close()
		writer, err := log.Acquire(within(b), 0)
		if err != nil {
			b.Fatal(err)
		}
		defer writer.Close(context.Background())
		f := &filled{t: b, writer: writer, number: make(map[string]int)}
		for i := range g.known {
			f.append(userNo(1<<20 + i))
		}
		f.flush()
	}()
	pubnub := emulatorWith(b, pubnubtest.Config{QueueSize: 1 << 20, RoundTrip: 10 * time.Millisecond})
	bridge := launch(b, "bridge", "--nats-url", url, "--admin-listen", "127.0.0.1:0", "--log-format", "json", "--pubnub-origin", pubnub.Addr(),
		"--pubnub-tls=false", "--pubnub-subscribe-key", "demo")
	if err := pubnub.WaitPolls(within(b), 1); err != nil {
		b.Fatal(err)
	}
	edge := edgeOn(b, url, "--tail-linger", "1s")
	var arrived atomic.Int64
	f, err := fleet.New(fleet.Config{URL: "ws://" + edge.devices + "/ws", OnEvent: func(*fleet.Device, int, bool) { arrived.Add(1) }})
	if err != nil {
		b.Fatal(err)
	}
	var devices []*fleet.Device
	for i := range g.connections {
		devices = append(devices, fleet.NewDevice(userNo(i), deviceNo(i), ""))
	}
	pids := []int{nats.Process.Pid, bridge.cmd.Process.Pid, edge.proc.cmd.Process.Pid}
	settled := func() float64 {
		for range 3 {
			edge.get("/debug/pprof/heap?gc=1")
			time.Sleep(time.Second)
		}
		now, _ := resident(b, pids[2])
		return now
	}
	empty := settled()
	defer f.Wait()
	defer f.Cut(devices)
	if _, err := f.Connect(b.Context(), devices); err != nil {
		b.Fatal(err)
	}
	time.Sleep(5 * time.Second)
	sent := 0
	number := make([]int, g.connections)
	flow := func(length time.Duration) (cpu time.Duration) {
		before := cpuOf(b, pids)
		pace(perSecond, length, func() {
			i := sent % g.connections
			number[i]++
			m := progress(userNo(i), author, number[i])
			pubnub.Publish(m.channel, []byte(m.payload))
			sent++
		})
		edge.await("what was published", func() bool { return arrived.Load() >= int64(sent) })
		return cpuOf(b, pids) - before
	}
	flow(2 * time.Second)
	first := sent
	cpu := flow(length)
	g.cpu = float64(cpu.Microseconds()) / float64(sent-first)
	g.memory = (settled() - empty) / float64(g.connections)
}

// cpuOf is the CPU time of processes.
func cpuOf(b *testing.B, pids []int) (sum time.Duration) {
	b.Helper()
	for _, pid := range pids {
		stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
		if err != nil {
			b.Fatal(err)
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+2:]))
		for _, f := range fields[11:13] {
			ticks, err := strconv.Atoi(f)
			if err != nil {
				b.Fatal(err)
			}
			sum += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return sum
}

// drawGrowth draws three rows of bars.
func drawGrowth(all []growth) string {
	var s strings.Builder
	s.WriteString(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 290" role="img" aria-label="Cost of an event and of a connection by size">
<style>
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 }
.quiet { fill: #57606a }
rect { fill: #2f6f9f }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .quiet { fill: #9da7b1 } rect { fill: #6cb0e0 } }
</style>
`)
	panel := func(x int, title, unit string, of []growth, name func(growth) int, value func(growth) float64) {
		most := 0.0
		for _, g := range of {
			most = max(most, value(g))
		}
		fmt.Fprintf(&s, `<text class="title" x="%d" y="24">%s</text><text class="quiet" x="%d" y="42">%s</text>`+"\n", x, title, x, unit)
		for i, g := range of {
			h := 160 * value(g) / most
			left := x + i*70
			fmt.Fprintf(&s, `<rect x="%d" y="%.0f" width="48" height="%.0f" rx="3"/><text x="%d" y="%.0f" text-anchor="middle">%.1f</text><text class="quiet" x="%d" y="250" text-anchor="middle">%s</text>`+"\n",
				left, 230-h, h, left+24, 224-h, value(g), left+24, short(name(g)))
		}
	}
	cpu := func(g growth) float64 { return g.cpu }
	panel(10, "CPU of an event, µs", "by connections", all[:3], func(g growth) int { return g.connections }, cpu)
	panel(270, "CPU of an event, µs", "by users in the log", all[3:], func(g growth) int { return g.known }, cpu)
	panel(530, "Memory of a connection, KB", "by connections", all[:3], func(g growth) int { return g.connections },
		func(g growth) float64 { return g.memory / 1e3 })
	fmt.Fprintf(&s, `<text class="quiet" x="10" y="280">%d cores; one event a user, to one device; bridge, NATS server and edge together</text>`+"\n</svg>\n", runtime.NumCPU())
	return s.String()
}

func short(n int) string {
	if n >= 1_000_000 {
		return strconv.Itoa(n/1_000_000) + "M"
	}
	return strconv.Itoa(n/1000) + "k"
}
