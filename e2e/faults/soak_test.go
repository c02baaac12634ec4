package faults

import (
	"context"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"reprise/bridge/pubnubtest"
	"reprise/edge/fleet"
)

var (
	soakFor  = flag.Duration("soak", 30*time.Minute, "how long BenchmarkSoak takes")
	soakRate = flag.Int("soak-rate", 250, "events a second of BenchmarkSoak")
	soakSVG  = flag.String("svg", "", "the file that BenchmarkSoak draws into")
)

// A sample is how the relay was at one moment.
type sample struct {
	at                              time.Duration
	memory, goroutines, descriptors float64 // of all bridges and edges
	p50, p99                        float64 // ms from PubNub's acceptance to the device, since the last sample
}

// BenchmarkSoak has a whole cluster carry events to a thousand devices for half an
// hour, some of which come and go, and looks at the bridges and edges now and then:
// memory, goroutines, file descriptors and latency of the last third must be those of
// the second, within what chance explains. It fails as well where something was lost,
// doubled or out of order.
//
//	go test . -run '^$' -bench '^BenchmarkSoak$' -benchtime 1x -timeout 1h -args -svg "$PWD/soak.svg"
func BenchmarkSoak(b *testing.B) {
	for b.Loop() {
		samples := soak(b)
		if len(samples) < 3 {
			b.Fatalf("%d samples, want three or more to compare: give -soak more time", len(samples))
		}
		if *soakSVG != "" {
			if err := os.WriteFile(*soakSVG, []byte(drawSoak(samples)), 0o644); err != nil {
				b.Fatal(err)
			}
		}
		third := len(samples) / 3
		for _, x := range series {
			before, after := medianOf(samples[third:2*third], x.value), medianOf(samples[2*third:], x.value)
			b.ReportMetric(after/before, x.name+"-growth")
			if after > x.most*before {
				b.Errorf("%s: %.4g in the second third, %.4g in the last", x.title, before, after)
			}
		}
	}
	b.ReportMetric(0, "ns/op")
}

// series are what is looked at.
var series = []struct {
	name, title, unit string
	most              float64 // of growth
	value             func(sample) float64
}{
	{"memory", "Memory", "MB, bridges and edges together", 1.2, func(s sample) float64 { return s.memory / 1e6 }},
	{"goroutines", "Goroutines", "all together", 1.1, func(s sample) float64 { return s.goroutines }},
	{"descriptors", "File descriptors", "all together", 1.1, func(s sample) float64 { return s.descriptors }},
	{"p50", "Latency, median", "ms from PubNub to the device", 1.5, func(s sample) float64 { return s.p50 }},
	{"p99", "Latency, 99th percentile", "ms from PubNub to the device", 3, func(s sample) float64 { return s.p99 }},
}

func medianOf(of []sample, value func(sample) float64) float64 {
	var all []float64
	for _, s := range of {
		all = append(all, value(s))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func soak(b *testing.B) (samples []sample) {
	const users, each, every = 500, 2, 10 * time.Second
	starting, cancel := context.WithTimeout(b.Context(), patience)
	c, err := Start(starting, programs(b), b.TempDir(), Shape{Shards: shards, Bridges: bridges, Edges: edges, Straight: true},
		pubnubtest.Config{QueueSize: 100_000, RoundTrip: 10 * time.Millisecond})
	cancel()
	defer c.Close()
	if err != nil {
		b.Fatal(err)
	}
	var mu sync.Mutex
	sent := make(map[string][]time.Time) // by user, the n-th is the event numbered n+1
	var took []time.Duration             // since the last sample
	var fleets []*fleet.Fleet
	var devices [][]*fleet.Device
	for i := range edges {
		f, err := fleet.New(fleet.Config{URL: fmt.Sprintf("ws://%s%d:8080/ws", c.prefix, 31+i), OnEvent: func(d *fleet.Device, number int, live bool) {
			now := time.Now()
			mu.Lock()
			defer mu.Unlock()
			if live {
				took = append(took, now.Sub(sent[d.User][number-1]))
			}
		}})
		if err != nil {
			b.Fatal(err)
		}
		defer f.Wait()
		fleets, devices = append(fleets, f), append(devices, nil)
	}
	for n := range users * each {
		i := n % edges
		devices[i] = append(devices[i], fleet.NewDevice(userNo(n/each), deviceNo(n), "earliest"))
	}
	for i, f := range fleets {
		defer f.Cut(devices[i])
		if _, err := f.Connect(b.Context(), devices[i]); err != nil {
			b.Fatal(err)
		}
	}
	flowing, stop := context.WithCancel(b.Context())
	defer stop()
	var all sync.WaitGroup
	all.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(*soakRate))
		defer tick.Stop()
		for n := 0; ; n = (n + 1) % users {
			select {
			case <-flowing.Done():
				return
			case <-tick.C:
			}
			user := userNo(n)
			mu.Lock()
			sent[user] = append(sent[user], time.Now())
			number := len(sent[user])
			mu.Unlock()
			c.PubNub.Publish("user."+user+".sync", fmt.Appendf(nil, `{"type":"progress_update","content_id":"%s","position_seconds":%d,"device_id":"%s","timestamp":%d}`,
				content, number, deviceNo(1<<40), number))
		}
	})
	all.Go(func() { // some come and go
		for turn := 0; sleep(flowing, 2*time.Second); turn++ {
			i := turn % edges
			at := turn * 10 % (len(devices[i]) - 10)
			few := devices[i][at : at+10]
			fleets[i].Cut(few)
			sleep(b.Context(), 500*time.Millisecond)
			if _, err := fleets[i].Connect(b.Context(), few); err != nil {
				b.Error(err)
				return
			}
		}
	})
	began := time.Now()
	relays := append(append([]*Process(nil), c.Bridges...), c.Edges...)
	for time.Since(began) < *soakFor {
		sleep(b.Context(), every)
		s := sample{at: time.Since(began)}
		mu.Lock()
		slices.Sort(took)
		if n := len(took); n > 0 {
			s.p50, s.p99 = float64(took[n/2].Microseconds())/1000, float64(took[n*99/100].Microseconds())/1000
		}
		took = took[:0]
		mu.Unlock()
		for _, p := range relays {
			s.memory += residentOf(b, p)
			s.descriptors += descriptorsOf(b, p)
			n, err := metric(b.Context(), p, "go_goroutines")
			if err != nil {
				b.Fatal(err)
			}
			s.goroutines += n
		}
		samples = append(samples, s)
		if len(samples)%6 == 0 {
			b.Logf("%4.0f s: %.0f MB, %.0f goroutines, %.0f descriptors, latency %.1f and %.1f ms", s.at.Seconds(), s.memory/1e6, s.goroutines, s.descriptors, s.p50, s.p99)
			fmt.Fprintf(os.Stderr, "%4.0f s: %.0f MB, %.0f goroutines, %.0f descriptors, latency %.1f and %.1f ms\n", s.at.Seconds(), s.memory/1e6, s.goroutines, s.descriptors, s.p50, s.p99)
		}
	}
	stop()
	all.Wait()
	var everybody []*fleet.Device
	for _, some := range devices {
		everybody = append(everybody, some...)
	}
	for until := time.Now().Add(caughtUpWithin); time.Now().Before(until); sleep(b.Context(), 100*time.Millisecond) {
		if !slices.ContainsFunc(everybody, func(d *fleet.Device) bool { return d.Received() < len(sent[d.User]) }) {
			break
		}
	}
	verdict, incomplete := fleet.Judge(everybody, func(user string) int { return len(sent[user]) })
	if verdict.Bad() || incomplete > 0 {
		b.Errorf("devices were sent %+v, %d of them incompletely, want each event once", verdict, incomplete)
	}
	b.ReportMetric(float64(verdict.Events), "deliveries")
	return samples
}

func descriptorsOf(b *testing.B, p *Process) float64 {
	b.Helper()
	all, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "fd"))
	if err != nil {
		b.Fatal(err)
	}
	return float64(len(all))
}

// drawSoak draws each series over the time.
func drawSoak(samples []sample) string {
	const width, height, gap = 700, 110, 64
	var s strings.Builder
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="Memory, goroutines, file descriptors and latency over half an hour">
<style>
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 }
.quiet { fill: #57606a }
polyline { fill: none; stroke: #2f6f9f; stroke-width: 1.5 }
line { stroke: #d0d7de }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .quiet { fill: #9da7b1 } polyline { stroke: #6cb0e0 } line { stroke: #3d444d } }
</style>
`, width+60, len(series)*(height+gap)+30)
	last := samples[len(samples)-1].at.Seconds()
	for i, x := range series {
		top := float64(i*(height+gap) + 44)
		most := 0.0
		for _, one := range samples {
			most = max(most, x.value(one))
		}
		most = max(most*1.1, 1e-9)
		fmt.Fprintf(&s, `<text class="title" x="10" y="%.0f">%s</text><text class="quiet" x="10" y="%.0f">%s</text>`+"\n", top-26, x.title, top-9, x.unit)
		fmt.Fprintf(&s, `<line x1="10" y1="%.0f" x2="%d" y2="%.0f"/>`, top+height, width+10, top+height)
		var points []string
		for _, one := range samples {
			points = append(points, fmt.Sprintf("%.1f,%.1f", 10+width*one.at.Seconds()/last, top+height-height*x.value(one)/most))
		}
		end := samples[len(samples)-1]
		fmt.Fprintf(&s, `<polyline points="%s"/><text x="%d" y="%.1f">%.4g</text>`+"\n", strings.Join(points, " "), width+14, top+height-height*x.value(end)/most+4, x.value(end))
	}
	fmt.Fprintf(&s, `<text class="quiet" x="10" y="%d">%.0f minutes; %d events a second to %d devices of %d users; %d cores for all of it</text>`+"\n</svg>\n",
		len(series)*(height+gap)+22, last/60, *soakRate, 1000, 500, runtime.NumCPU())
	return s.String()
}

// TestDrawSoak holds that the picture is XML, and has all its lines.
func TestDrawSoak(t *testing.T) {
	t.Parallel()
	var samples []sample
	for n := range 10 {
		samples = append(samples, sample{at: time.Duration(n+1) * time.Minute, memory: 1e8, goroutines: 100, descriptors: 50, p50: 1, p99: float64(n)})
	}
	picture := drawSoak(samples)
	if n := strings.Count(picture, "<polyline"); n != len(series) {
		t.Errorf("%d lines are drawn, want %d", n, len(series))
	}
	for d := xml.NewDecoder(strings.NewReader(picture)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("drawSoak() is no XML: %v\n%s", err, picture)
		}
	}
}
