package stream

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"reprise/hlc"
)

// The traps that need a cluster, each a test. What a whole relay makes of them is
// tested in e2e/faults.

// runCluster starts three servers with JetStream that are a cluster.
func runCluster(t testing.TB) []*server.Server {
	t.Helper()
	var all []*server.Server
	var routes []*url.URL // of all: a server of a cluster wants to know some
	var reserved []net.Listener
	for range 3 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		reserved = append(reserved, ln)
		routes = append(routes, &url.URL{Scheme: "nats", Host: ln.Addr().String()})
	}
	for n, ln := range reserved {
		ns, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprint("nats-", n+1), Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(),
			NoSigs: true, NoLog: true, Routes: routes,
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: ln.Addr().(*net.TCPAddr).Port},
		})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, ns)
	}
	for n, ns := range all {
		reserved[n].Close()
		go ns.Start() // it waits for the others
	}
	t.Cleanup(func() {
		for _, ns := range all {
			ns.Shutdown()
			ns.WaitForShutdown()
		}
	})
	for _, ns := range all {
		if !ns.ReadyForConnections(30 * time.Second) {
			t.Fatal("a server does not start")
		}
	}
	await(t, "a meta leader", func() bool {
		for _, ns := range all {
			if ns.JetStreamIsLeader() {
				return true
			}
		}
		return false
	})
	return all
}

// await asks until done says so.
func await(t testing.TB, what string, done func() bool) {
	t.Helper()
	timeout := time.After(time.Minute)
	for !done() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-timeout:
			t.Fatalf("no %s within a minute", what)
		}
	}
}

// clustered opens a log of one shard on servers.
func clustered(t testing.TB, node string, servers ...*server.Server) *Log {
	t.Helper()
	var urls []string
	for _, ns := range servers {
		urls = append(urls, ns.ClientURL())
	}
	return openLog(t, func(c *Config) { c.URL, c.Node, c.Shards = strings.Join(urls, ","), node, 1 })
}

// TestTrapLaggingFollower reads at each server what was stored a moment before.
// Whichever replica answers a Direct Get, the newest event is there.
func TestTrapLaggingFollower(t *testing.T) {
	t.Parallel()
	const burst = 200
	servers := runCluster(t)
	w := acquire(t, clustered(t, "writer", servers...), 0)
	var readers []*Log
	for n, ns := range servers {
		readers = append(readers, clustered(t, fmt.Sprint("reader-", n), ns))
	}
	user := func(n int) string { return fmt.Sprintf("%08x-0000-4000-8000-000000000000", n) }
	for n := range 300 {
		for i := range burst { // the followers have something to do
			if err := w.Append(t.Context(), event(bob, n*burst+i)); err != nil {
				t.Fatal(err)
			}
		}
		appendAll(t, w, user(n), n, n+1)
		upTo := w.Stats().Last
		var all sync.WaitGroup
		for _, l := range readers {
			all.Go(func() {
				chunk, err := l.Read(t.Context(), user(n), Position{}, upTo)
				if err != nil || len(chunk.Records) != 1 || chunk.Next != upTo {
					t.Errorf("Read(user %d up to %d) = %d records up to %d, %v, want the one that is stored", n, upTo.Seq, len(chunk.Records), chunk.Next.Seq, err)
				}
			})
		}
		all.Wait()
	}
}

// TestTrapConsumerOnADeadServer takes the server away that leads an edge's consumer:
// the edge goes on without it.
func TestTrapConsumerOnADeadServer(t *testing.T) {
	t.Parallel()
	servers := runCluster(t)
	w := acquire(t, clustered(t, "writer", servers...), 0)
	l := clustered(t, "edge", servers[0])
	f := follow(t, l, 0, FollowOptions{})
	f.next(t, KindStart)
	appendAll(t, w, alice, 0, 10)
	for range 10 {
		f.next(t, KindEvent)
	}
	// The connection stays: only the consumer is to be lost.
	var leader string
	await(t, "consumer led by another server", func() bool {
		c, err := l.js.Consumer(t.Context(), eventsStream(0), edgePrefix+"edge")
		if err != nil || c.CachedInfo().Cluster == nil || c.CachedInfo().Cluster.Leader == "" {
			return false
		}
		if leader = c.CachedInfo().Cluster.Leader; leader == servers[0].Name() {
			if err := l.js.DeleteConsumer(t.Context(), eventsStream(0), edgePrefix+"edge"); err != nil {
				t.Fatal(err)
			}
			return false
		}
		return true
	})
	for _, ns := range servers {
		if ns.Name() == leader {
			ns.Shutdown()
			ns.WaitForShutdown()
		}
	}
	appendAll(t, w, alice, 10, 20)
	for n := 10; n < 20; n++ {
		if r := f.next(t, KindEvent); seen(&r) != n {
			t.Fatalf("event %d came, want %d", seen(&r), n)
		}
	}
}

// TestTrapLeaderKilledDuringAppends takes the stream's leader away, again and again,
// under a full pipeline: what is stored is in order, once.
func TestTrapLeaderKilledDuringAppends(t *testing.T) {
	t.Parallel()
	servers := runCluster(t)
	l := clustered(t, "writer", servers...)
	w := acquire(t, l, 0)
	admin, err := nats.Connect(servers[0].ClientURL() + "," + servers[1].ClientURL() + "," + servers[2].ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	ctx, stop := context.WithCancel(t.Context())
	var moving sync.WaitGroup
	moving.Go(func() {
		for ctx.Err() == nil {
			admin.Request("$JS.API.STREAM.LEADER.STEPDOWN."+eventsStream(0), nil, time.Second) // whether it does is its affair
			select {
			case <-time.After(200 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	})
	n := 0
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); {
		for range 2 * window { // the pipeline is full for a moment, and the machine is not
			if err := w.Append(t.Context(), event(alice, n)); err != nil {
				t.Fatal(err)
			}
			n++
		}
		<-time.After(20 * time.Millisecond)
	}
	stop()
	moving.Wait()
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantNumbers(t, stored(t, l, 0), n)
	t.Logf("%d events, %d times the leader was asked", n, w.Stats().Resyncs)
	if w.Stats().Resyncs == 0 {
		t.Error("no leader was lost")
	}
}

// creations counts the consumers that are made on events streams.
func creations(t *testing.T, l *Log) func() int {
	t.Helper()
	sub, err := l.nc.SubscribeSync("$JS.EVENT.ADVISORY.CONSUMER.CREATED.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return func() int {
		n := 0
		for {
			m, err := sub.NextMsg(200 * time.Millisecond)
			if err != nil {
				return n
			}
			if strings.Contains(m.Subject, "REPRISE_EVENTS_") {
				n++
			}
		}
	}
}

// TestTrapConsumerStorm has a thousand devices come back at once: nobody makes a
// consumer for them.
func TestTrapConsumerStorm(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	w := acquire(t, l, 0)
	const users = 1000
	user := func(n int) string { return fmt.Sprintf("%08x-0000-4000-8000-000000000000", n%users) }
	for n := range 5 * users {
		if err := w.Append(t.Context(), event(user(n), n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	made := creations(t, l)
	readEach(t, l, users, user, w.Stats().Last, 5)
	if n := made(); n > 0 {
		t.Errorf("%d consumers were made for %d devices, want none", n, users)
	}
}

// TestTrapManyDeepReads has many devices come back from far behind: the long stretch
// is gone through by few, and not by each of them.
func TestTrapManyDeepReads(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	w := acquire(t, l, 0)
	const users, most = 200, 4
	user := func(n int) string { return fmt.Sprintf("%08x-0000-4000-8000-000000000000", n%users) }
	for n := range 2*farSpan - (2*farSpan)%users {
		if err := w.Append(t.Context(), event(user(n), n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	made := creations(t, l)
	readEach(t, l, users, user, w.Stats().Last, (2*farSpan)/users)
	if n := made(); n == 0 || n > most {
		t.Errorf("%d consumers were made for %d devices, want 1 to %d", n, users, most)
	}
}

// readEach reads the logs of users at once, and wants each events of all.
func readEach(t *testing.T, l *Log, users int, user func(int) string, upTo Position, each int) {
	t.Helper()
	var all sync.WaitGroup
	for n := range users {
		all.Go(func() {
			got := 0
			for at := (Position{Hlc: hlc.Zero}); at != upTo; {
				chunk, err := l.Read(t.Context(), user(n), at, upTo)
				if err != nil {
					t.Errorf("Read(user %d) = %v", n, err)
					return
				}
				got += len(chunk.Records)
				at = chunk.Next
			}
			if got != each {
				t.Errorf("user %d has %d events, want %d", n, got, each)
			}
		})
	}
	all.Wait()
}

// TestTrapFilteredConsumer looks at what an edge's consumer is: one with filters
// catches up many times slower.
func TestTrapFilteredConsumer(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	f := follow(t, l, 0, FollowOptions{})
	f.next(t, KindStart)
	w := acquire(t, l, 0)
	appendAll(t, w, alice, 0, 1)
	appendAll(t, w, bob, 1, 2)
	f.next(t, KindEvent)
	f.next(t, KindEvent)
	c, err := l.js.Consumer(t.Context(), eventsStream(0), edgePrefix+"test")
	if err != nil {
		t.Fatal(err)
	}
	if cfg := c.CachedInfo().Config; cfg.FilterSubject != "" || len(cfg.FilterSubjects) > 0 || cfg.AckPolicy != jetstream.AckAllPolicy {
		t.Errorf("the consumer has the filters %q %q and the policy %v, want none and all", cfg.FilterSubject, cfg.FilterSubjects, cfg.AckPolicy)
	}
}
