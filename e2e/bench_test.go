package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"reprise/bridge/pubnubtest"
)

// A loaded relay is what reprise bench runs against.
type loaded struct {
	pubnub *pubnubtest.Server
	relay  *relay
	scheme string // of its devices' URL
}

// load has a PubNub that overflows never, so that only the relay is measured.
func load(t testing.TB, roundTrip time.Duration, args ...string) *loaded {
	t.Helper()
	pubnub := emulatorWith(t, pubnubtest.Config{QueueSize: 1 << 20, RoundTrip: roundTrip})
	return &loaded{pubnub, serve(t, pubnub.Addr(), args...), "ws"}
}

// bench runs reprise bench and returns its figures.
func (l *loaded) bench(t testing.TB, args ...string) map[string]float64 {
	t.Helper()
	return l.benching(t, append(args, "--pid", strconv.Itoa(l.relay.proc.cmd.Process.Pid))...)()
}

// benching starts reprise bench; the returned function waits for its figures.
func (l *loaded) benching(t testing.TB, args ...string) func() map[string]float64 {
	t.Helper()
	args = append([]string{"bench"}, args...)
	p := launch(t, append(args, "--json", "--url", l.scheme+"://"+l.relay.devices+"/ws", "--admin-url", "http://"+l.relay.admin,
		"--pubnub-origin", l.pubnub.Addr())...)
	return func() map[string]float64 {
		t.Helper()
		<-p.exited
		figures := make(map[string]float64)
		if code, out := p.cmd.ProcessState.ExitCode(), strings.Join(p.stdout, "\n"); code != 0 || json.Unmarshal([]byte(out), &figures) != nil {
			t.Fatalf("reprise %s: exit code %d\n%s\n%s", strings.Join(args, " "), code, out, p.said())
		}
		return figures
	}
}

// TestBench runs each bench against a relay: all that it publishes arrives.
func TestBench(t *testing.T) {
	t.Parallel()
	l := load(t, 0)
	for _, b := range []struct {
		args     []string
		received float64 // events, at least
		figures  []string
	}{
		{[]string{"idle", "--connections", "20", "--settle", "100ms"}, 60, []string{"rss_per_connection_bytes", "cpu_us_per_handshake", "tail_bytes"}},
		{[]string{"relay", "--connections", "20", "--duration", "1s", "--rate", "50/s"}, 2 * 40, []string{"latency_ms_p99", "cpu_us_per_delivery"}},
		{[]string{"storm", "--connections", "20", "--missed", "5", "--live", "3", "--rate", "50/s"}, 101, []string{"storm_ms", "caught_up_ms_p50", "live_before_ms_p50", "cpu_us_per_resume"}},
	} {
		got := l.bench(t, b.args...)
		if got["received"] < b.received || got["lost"]+got["doubled"]+got["misordered"]+got["incomplete"] != 0 {
			t.Errorf("bench %v = %v, want %v events at least, and each once", b.args, got, b.received)
		}
		for _, name := range b.figures {
			if _, ok := got[name]; !ok {
				t.Errorf("bench %v = %v, want %s", b.args, got, name)
			}
		}
	}
}

// BenchmarkIdle is what a connection costs of which nothing comes, in an edge's
// process, by their number. Memory is resident, above that without connections,
// after some activity and a collection; the kernel's is apart, and of both ends.
//
//	go test ./e2e -run '^$' -bench '^BenchmarkIdle$' -benchtime 1x -timeout 30m
func BenchmarkIdle(b *testing.B) {
	for _, bb := range []struct {
		n      int
		scheme string
	}{{1_000, "ws"}, {5_000, "ws"}, {19_000, "ws"}, {5_000, "wss"}} {
		b.Run(fmt.Sprint(bb.scheme, "/", bb.n), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				pubnub := emulatorWith(b, pubnubtest.Config{QueueSize: 1 << 20})
				url := natsServer(b)
				launch(b, "bridge", "--nats-url", url, "--admin-listen", "127.0.0.1:0", "--log-format", "json", "--pubnub-origin", pubnub.Addr(),
					"--pubnub-tls=false", "--pubnub-subscribe-key", "demo")
				if err := pubnub.WaitPolls(within(b), 1); err != nil {
					b.Fatal(err)
				}
				r := &relay{t: b, args: []string{"edge", "--auth", "none", "--nats-url", url, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
					"--log-format", "json", "--tail-linger", "1ms"}}
				if bb.scheme == "wss" {
					cert, key := certificate(b)
					r.args = append(r.args, "--tls-cert-file", cert, "--tls-key-file", key)
					b.Setenv("SSL_CERT_FILE", cert) // whom the bench trusts
				}
				r.start()
				r.awaitReady()
				l := &loaded{pubnub, r, bb.scheme}
				b.StartTimer()
				got := l.bench(b, "idle", "--connections", strconv.Itoa(bb.n), "--settle", "30s")
				b.ReportMetric(got["rss_per_connection_bytes"], "B/conn")
				b.ReportMetric(got["kernel_bytes_per_connection"], "kernel-B/conn")
				b.ReportMetric(got["cpu_us_per_handshake"], "µs/handshake")
				b.ReportMetric(got["idle_cpu_us_per_connection_second"], "µs/conn/s")
				b.ReportMetric(got["tail_bytes"], "tail-B")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// certificate makes a certificate for 127.0.0.1 and returns its files.
func certificate(t testing.TB) (certFile, keyFile string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", cert), write("key.pem", "PRIVATE KEY", key)
}

// BenchmarkDelivery is 2,000 events a second to two devices of each of 1,000
// users, PubNub 10 ms away: the CPU time of the whole relay, the log included, for
// each delivery.
//
//	go test ./e2e -run '^$' -bench '^BenchmarkDelivery$' -benchtime 1x
func BenchmarkDelivery(b *testing.B) {
	l := load(b, 10*time.Millisecond)
	for b.Loop() {
		got := l.bench(b, "relay", "--connections", "2000", "--rate", "2000/s", "--duration", "20s")
		b.ReportMetric(got["cpu_us_per_delivery"], "µs/delivery")
		b.ReportMetric(got["latency_ms_p50"], "p50-ms")
		b.ReportMetric(got["latency_ms_p99"], "p99-ms")
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkStorm has devices come back at once that missed 20 events each; so many
// handshakes are under way at a time. restart: the relay was killed and started
// again before, so that its tails are warmed from the log. Others are sent 500
// events a second meanwhile. The load shares the machine with the relay, and
// PubNub, which overflows never, is in the benchmark's process.
//
//	go test ./e2e -run '^$' -bench '^BenchmarkStorm$' -benchtime 1x -timeout 30m
func BenchmarkStorm(b *testing.B) {
	for _, bb := range []struct {
		devices, dialing int
		restart          bool
	}{{4_000, 256, false}, {10_000, 256, false}, {10_000, 32, false}, {10_000, 32, true}} {
		b.Run(fmt.Sprintf("devices=%d/dialing=%d/restart=%t", bb.devices, bb.dialing, bb.restart), func(b *testing.B) {
			l := load(b, 0)
			args := []string{"storm", "--connections", strconv.Itoa(bb.devices), "--publish-rate", "5000/s", "--dialing", strconv.Itoa(bb.dialing)}
			for b.Loop() {
				if bb.restart {
					args = append(args, "--pause", "10s")
				} else {
					args = append(args, "--pid", strconv.Itoa(l.relay.proc.cmd.Process.Pid))
				}
				before := l.pubnub.Stats().Messages
				figures := l.benching(b, args...)
				if bb.restart {
					l.relay.await("everything to be published", func() bool { return l.pubnub.Stats().Messages > before+20*bb.devices })
					l.relay.args[slices.Index(l.relay.args, "--listen")+1] = l.relay.devices
					l.relay.restart()
				}
				got := figures()
				b.ReportMetric(got["storm_ms"], "ms-until-all")
				b.ReportMetric(got["caught_up_ms_p50"], "ms-p50")
				b.ReportMetric(got["live_before_ms_p99"], "live-ms-p99-before")
				b.ReportMetric(got["live_meanwhile_ms_p99"], "live-ms-p99")
				var stats struct {
					BroadcastLatency struct {
						P95 float64 `json:"p95"`
						P99 float64 `json:"p99"`
					} `json:"broadcast_latency_ms"`
				}
				if _, _, body := l.relay.get("/v1/stats"); json.Unmarshal([]byte(body), &stats) == nil {
					b.ReportMetric(stats.BroadcastLatency.P99, "edge-ms-p99")
				}
				if !bb.restart {
					b.ReportMetric(got["cpu_us_per_resume"], "µs/resume")
				}
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}
