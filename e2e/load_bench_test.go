package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"reprise/edge/fleet"
	"reprise/stream"
)

// A filled is a log in a NATS server with a process of its own, that this process
// appends to.
type filled struct {
	t      testing.TB
	nats   *exec.Cmd
	url    string
	writer *stream.Writer
	next   int
	number map[string]int // by user: of the last event
}

// natsProcess starts the pinned NATS server, which syncs as the embedded one does.
func natsProcess(t testing.TB) (*exec.Cmd, string) {
	t.Helper()
	path := filepath.Join(buildDir, "nats-server")
	if out, err := exec.Command("go", "build", "-o", path, "github.com/nats-io/nats-server/v2").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().(*net.TCPAddr)
	l.Close()
	dir := t.TempDir()
	config := fmt.Sprintf("listen: %q\njetstream { store_dir: %q, sync_interval: 1s }\n", addr, dir)
	if err := os.WriteFile(filepath.Join(dir, "nats.conf"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-c", filepath.Join(dir, "nats.conf"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for range 500 {
		nc, err := net.Dial("tcp", addr.String())
		if err == nil {
			nc.Close()
			return cmd, "nats://" + addr.String()
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the NATS server does not listen")
	return nil, ""
}

// fill makes a log and holds its only shard.
func fill(t testing.TB) *filled {
	t.Helper()
	f := &filled{t: t, number: make(map[string]int)}
	f.nats, f.url = natsProcess(t)
	log, err := stream.Open(within(t), stream.Config{URL: f.url, Node: "load"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	if f.writer, err = log.Acquire(within(t), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.writer.Close(context.Background()) })
	return f
}

// author is the device that all events come from, and that gets none.
var author = deviceNo(1 << 40)

// append appends the next event of a user.
func (f *filled) append(user string) {
	f.next++
	f.number[user]++
	m := progress(user, author, f.number[user])
	ev := stream.Event{ID: "load:" + strconv.Itoa(f.next), User: user, Device: author, Timetoken: "17954373395308042",
		Frame: []byte(m.frame), StampAt: strings.Index(m.frame, noStamp)}
	if err := f.writer.Append(context.Background(), ev); err != nil {
		f.t.Fatalf("Append() = %v, want nil", err)
	}
}

func (f *filled) flush() {
	if err := f.writer.Flush(context.Background()); err != nil {
		f.t.Fatalf("Flush() = %v, want nil", err)
	}
}

// resident is a process's resident memory in bytes, now and at its highest.
func resident(t testing.TB, pid int) (now, highest float64) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		kib := func(name string, into *float64) {
			if rest, ok := strings.CutPrefix(line, name); ok {
				*into, _ = strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
				*into *= 1 << 10
			}
		}
		kib("VmRSS:", &now)
		kib("VmHWM:", &highest)
	}
	return now, highest
}

// BenchmarkDeepReads has one device, and then 500 at once, read 1,000 events each,
// scattered over a log of 5 million, while 20 devices are sent 200 events a second
// and, beside the 500, 200 devices come back that missed 20 events within a tail's
// life. The edge and the NATS server have a process each; memory is the most that
// they ever had resident.
//
//	go test ./e2e -run '^$' -bench '^BenchmarkDeepReads$' -benchtime 1x -timeout 30m
func BenchmarkDeepReads(b *testing.B) {
	const users, each, readers, witnesses, fresh, missed = 5_000, 1_000, 500, 20, 200, 20
	load := fill(b)
	began := time.Now()
	for range each {
		for u := range users {
			load.append(userNo(u))
		}
	}
	load.flush()
	b.Logf("%d events after %v", users*each, time.Since(began).Round(time.Second))
	const linger = 20 * time.Second
	time.Sleep(linger + time.Second) // what follows is fresh, all before is deep
	edge := edgeOn(b, load.url, "--tail-linger", linger.String())
	pid := edge.proc.cmd.Process.Pid

	sent := make(map[string][]time.Time) // by user: when each was appended
	var mu sync.Mutex
	var took []time.Duration
	f, err := fleet.New(fleet.Config{URL: "ws://" + edge.devices + "/ws", Dialing: 2 * readers, OnEvent: func(d *fleet.Device, n int, live bool) {
		mu.Lock()
		defer mu.Unlock()
		if at := sent[d.User]; live && n <= len(at) && !at[n-1].IsZero() {
			took = append(took, time.Since(at[n-1]))
		}
	}})
	if err != nil {
		b.Fatal(err)
	}
	group := func(from, n int, cursor string) (all []*fleet.Device) {
		for i := range n {
			all = append(all, fleet.NewDevice(userNo(from+i), deviceNo(from+i), cursor))
		}
		return all
	}
	connect := func(devices []*fleet.Device) []time.Duration {
		took, err := f.Connect(b.Context(), devices)
		if err != nil {
			b.Error(err)
		}
		slices.Sort(took)
		return took
	}
	deep, back, others := group(0, readers, "earliest"), group(users, fresh, ""), group(2*users, witnesses, "")
	defer f.Wait()
	defer f.Cut(slices.Concat(deep, back, others))
	connect(others)
	connect(back)
	f.Cut(back)
	for range missed {
		for _, d := range back {
			load.append(d.User)
		}
	}
	load.flush()

	flowing, stop := context.WithCancel(context.Background())
	var flow sync.WaitGroup
	flow.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for i := 0; flowing.Err() == nil; i++ {
			user := others[i%len(others)].User
			mu.Lock()
			sent[user] = append(sent[user], time.Now())
			mu.Unlock()
			load.append(user)
			<-tick.C
		}
	})
	latency := func() float64 {
		mu.Lock()
		defer mu.Unlock()
		slices.Sort(took)
		p99 := took[len(took)*99/100]
		took = nil
		return milliseconds(p99)
	}
	for b.Loop() {
		time.Sleep(2 * time.Second)
		before := latency()
		b.ReportMetric(connect(deep[:1])[0].Seconds(), "s-one")
		b.ReportMetric(latency(), "live-ms-p99-beside-one")
		f.Cut(deep[:1])
		time.Sleep(2 * time.Second)
		latency()
		idle, _ := resident(b, pid)
		began := time.Now()
		deepDone := make(chan []time.Duration)
		go func() { deepDone <- connect(deep[1:]) }()
		time.Sleep(time.Second)
		freshTook := connect(back)
		deepTook := <-deepDone
		length := time.Since(began)
		meanwhile := latency()
		_, most := resident(b, pid)
		_, nats := resident(b, load.nats.Process.Pid)
		b.ReportMetric(float64((readers-1)*each)/length.Seconds(), "deep-events/s")
		b.ReportMetric(length.Seconds(), "s-until-all-deep")
		b.ReportMetric(milliseconds(deepTook[len(deepTook)/2])/1e3, "s-deep-p50")
		b.ReportMetric(milliseconds(freshTook[len(freshTook)/2]), "ms-fresh-p50")
		b.ReportMetric(milliseconds(freshTook[len(freshTook)-1]), "ms-fresh-most")
		b.ReportMetric(before, "live-ms-p99-before")
		b.ReportMetric(meanwhile, "live-ms-p99")
		b.ReportMetric(idle/(1<<20), "MiB-before")
		b.ReportMetric(most/(1<<20), "MiB-most")
		b.ReportMetric(nats/(1<<20), "MiB-NATS-most")
	}
	stop()
	flow.Wait()
	load.flush()
	all := slices.Concat(deep, back, others)
	edge.await("everything", func() bool {
		return !slices.ContainsFunc(all, func(d *fleet.Device) bool { return d.Received() < load.number[d.User] })
	})
	verdict, incomplete := fleet.Judge(all, func(user string) int { return load.number[user] })
	if verdict.Bad() || incomplete > 0 {
		b.Errorf("devices were sent %+v, %d of them incompletely, want each event once", verdict, incomplete)
	}
	b.ReportMetric(0, "ns/op")
}

// TestDeadDevice sends a user with a live device and one that has stopped reading
// more than any queue holds: the live one gets everything, the dead one is closed
// with 4002, and gets what it missed when it comes back.
func TestDeadDevice(t *testing.T) {
	t.Parallel()
	deadDevice(t, 20_000, "2s")
}

// BenchmarkDeadDevice is the same with a million events. It prints how much more
// memory the edge had at most, and the live device's events a second, with and
// without the dead one.
//
//	go test ./e2e -run '^$' -bench '^BenchmarkDeadDevice$' -benchtime 1x -timeout 30m
func BenchmarkDeadDevice(b *testing.B) {
	for b.Loop() {
		grown, with, without := deadDevice(b, 1_000_000, "30s")
		b.ReportMetric(grown/(1<<20), "MiB-more")
		b.ReportMetric(with, "events/s")
		b.ReportMetric(without, "events/s-without-the-dead")
	}
	b.ReportMetric(0, "ns/op")
}

// deadDevice returns by how much the edge's memory grew at most, and how fast the
// live device was served beside a dead one and alone.
func deadDevice(t testing.TB, events int, slow string) (grown, with, without float64) {
	load := fill(t)
	edge := edgeOn(t, load.url, "--slow-timeout", slow)
	f, err := fleet.New(fleet.Config{URL: "ws://" + edge.devices + "/ws"})
	if err != nil {
		t.Fatal(err)
	}
	live := []*fleet.Device{fleet.NewDevice(userNo(1), deviceNo(1), ""), fleet.NewDevice(userNo(2), deviceNo(2), "")}
	defer f.Wait()
	defer func() { f.Cut(live) }()
	if _, err := f.Connect(within(t), live); err != nil {
		t.Fatal(err)
	}
	send := func(d *fleet.Device) float64 {
		began := time.Now()
		for range events {
			load.append(d.User)
		}
		load.flush()
		edge.await("the live device to have everything", func() bool { return d.Received() >= load.number[d.User] })
		return float64(events) / time.Since(began).Seconds()
	}
	without = send(live[1])
	before, _ := resident(t, edge.proc.cmd.Process.Pid)

	nc, err := net.Dial("tcp", edge.devices)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.(*net.TCPConn).SetReadBuffer(4 << 10)
	fmt.Fprintf(nc, "GET /ws?user_id=%s&device_id=%s&since=latest HTTP/1.1\r\nHost: edge\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", userNo(1), deviceNo(3))
	edge.await("the dead device", func() bool { return edge.metric("reprise_active_connections") == 3 })
	with = send(live[0])
	_, most := resident(t, edge.proc.cmd.Process.Pid)
	edge.await("the dead device to be closed", func() bool {
		return edge.metric(`reprise_connections_closed_total{code="4002"}`) == 1
	})
	back := fleet.NewDevice(userNo(1), deviceNo(3), "earliest")
	live = append(live, back)
	if _, err := f.Connect(within(t), live[2:]); err != nil {
		t.Fatal(err)
	}
	verdict, incomplete := fleet.Judge(live, func(user string) int { return load.number[user] })
	if verdict.Bad() || incomplete > 0 {
		t.Errorf("devices were sent %+v, %d of them incompletely, want each event once", verdict, incomplete)
	}
	return most - before, with, without
}
