package e2e

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"reprise/edge/fleet"
)

// A balancer hands connections to those of its edges that are ready, in turn, as
// what stands before them in production does.
type balancer struct {
	listener net.Listener
	edges    []served
	turn     atomic.Int64
	conns    sync.WaitGroup
}

// served is where an edge listens, whether it runs or not.
type served struct{ devices, admin string }

// balance starts a balancer.
func balance(t testing.TB, edges ...*relay) *balancer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{listener: l}
	for _, edge := range edges {
		b.edges = append(b.edges, served{edge.devices, edge.admin})
	}
	b.conns.Go(func() {
		for {
			device, err := l.Accept()
			if err != nil {
				return
			}
			b.conns.Go(func() { b.carry(device) })
		}
	})
	t.Cleanup(func() { l.Close(); b.conns.Wait() })
	return b
}

// carry copies bytes until one side has ended.
func (b *balancer) carry(device net.Conn) {
	defer device.Close()
	for range b.edges {
		edge := b.edges[int(b.turn.Add(1))%len(b.edges)]
		if resp, err := http.Get("http://" + edge.admin + "/readyz"); err != nil || resp.Body.Close() != nil || resp.StatusCode != http.StatusOK {
			continue
		}
		up, err := net.Dial("tcp", edge.devices)
		if err != nil {
			continue
		}
		defer up.Close()
		go func() {
			io.Copy(up, device) // its end is the connection's
			up.Close()
		}()
		io.Copy(device, up) // the same
		return
	}
}

// edgeOn starts an edge on a NATS server, and returns when it is ready. It listens
// where it listened before, when it is started again.
func edgeOn(t testing.TB, nats string, args ...string) *relay {
	t.Helper()
	r := &relay{t: t, args: append([]string{"edge", "--auth", "none", "--nats-url", nats, "--listen", "127.0.0.1:0",
		"--admin-listen", "127.0.0.1:0", "--log-format", "json"}, args...)}
	r.start()
	for i, arg := range r.args {
		switch arg {
		case "--listen":
			r.args[i+1] = r.devices
		case "--admin-listen":
			r.args[i+1] = r.admin
		}
	}
	r.awaitReady()
	return r
}

func (r *relay) awaitReady() {
	r.t.Helper()
	r.await("the edge to be ready", func() bool { code, _, _ := r.get("/readyz"); return code == http.StatusOK })
}

// TestRollingRestart restarts two edges, one after the other, while events flow to
// devices of both: nothing is lost, doubled or out of order, and no replay is
// incomplete.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	rollingRestart(t, 200, 100)
}

// BenchmarkRollingRestart is the same with 2,000 devices. It prints how long a
// device was away at most, and how long after SIGTERM the last one was back.
//
//	go test ./e2e -run '^$' -bench '^BenchmarkRollingRestart$' -benchtime 1x
func BenchmarkRollingRestart(b *testing.B) {
	for b.Loop() {
		away, back := rollingRestart(b, 2000, 500)
		slices.Sort(away)
		b.ReportMetric(away[len(away)/2].Seconds(), "s-away-median")
		b.ReportMetric(away[len(away)-1].Seconds(), "s-away-most")
		b.ReportMetric(back.Seconds()-rollingDrain.Seconds(), "s-after-drain-most")
	}
	b.ReportMetric(0, "ns/op")
}

const rollingDrain = 3 * time.Second

// rollingRestart returns how long each device that had to move was away, and how
// long after an edge's SIGTERM the last of its devices was back.
func rollingRestart(t testing.TB, n, perSecond int) (away []time.Duration, back time.Duration) {
	pubnub, nats := emulator(t), natsServer(t)
	launch(t, "bridge", "--nats-url", nats, "--admin-listen", "127.0.0.1:0", "--log-format", "json", "--pubnub-origin", pubnub.Addr(),
		"--pubnub-tls=false", "--pubnub-subscribe-key", "demo")
	if err := pubnub.WaitPolls(within(t), 1); err != nil {
		t.Fatal(err)
	}
	drain := []string{"--drain", rollingDrain.String()}[:2:2]
	edges := []*relay{edgeOn(t, nats, append(drain, "--node", "edge-1")...), edgeOn(t, nats, append(drain, "--node", "edge-2")...)}
	b := balance(t, edges...)

	var mu sync.Mutex
	var began time.Time
	f, err := fleet.New(fleet.Config{URL: "ws://" + b.listener.Addr().String() + "/ws", OnBack: func(_ *fleet.Device, d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		away, back = append(away, d), max(back, time.Since(began))
	}})
	if err != nil {
		t.Fatal(err)
	}
	var devices []*fleet.Device
	for i := range n {
		devices = append(devices, fleet.NewDevice(userNo(i/2), deviceNo(i), ""))
	}
	defer f.Wait()
	defer f.Cut(devices)
	if _, err := f.Connect(within(t), devices); err != nil {
		t.Fatal(err)
	}

	flowing, stop := context.WithCancel(context.Background())
	published := make(map[string]int)
	var flow sync.WaitGroup
	flow.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for i := 0; flowing.Err() == nil; i = (i + 1) % (n / 2) {
			published[userNo(i)]++
			m := progress(userNo(i), deviceNo(n), published[userNo(i)])
			pubnub.Publish(m.channel, []byte(m.payload))
			<-tick.C
		}
	})
	defer flow.Wait()
	defer stop()
	moved := 0
	for _, edge := range edges {
		moved += int(edge.metric("reprise_active_connections"))
		mu.Lock()
		began = time.Now()
		mu.Unlock()
		edge.proc.signal(syscall.SIGTERM)
		if code := edge.proc.exit(t); code != 0 {
			t.Errorf("exit code after SIGTERM = %d, want 0", code)
		}
		edge.start()
		edge.awaitReady()
		edges[0].await("all devices to be back", func() bool { mu.Lock(); defer mu.Unlock(); return len(away) >= moved })
	}
	stop()
	flow.Wait()
	edges[0].await("everything that was published", func() bool {
		return !slices.ContainsFunc(devices, func(d *fleet.Device) bool { return d.Received() < published[d.User] })
	})
	verdict, incomplete := fleet.Judge(devices, func(user string) int { return published[user] })
	if verdict.Bad() || incomplete > 0 {
		t.Errorf("devices were sent %+v, %d of them incompletely, want each event once", verdict, incomplete)
	}
	return away, back
}
