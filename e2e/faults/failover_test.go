package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"reprise/bridge/pubnubtest"
	"reprise/e2e"
)

// BenchmarkFailover kills what one device depends on, while its user has ten events a
// second: the edge that it is connected to, the NATS server that leads its shard, the
// bridge that writes the shard. It prints for how long it was from the kill until the
// device had the first event that was published after it, as the median of ten.
//
//	go test . -run '^$' -bench '^BenchmarkFailover$' -benchtime 1x -timeout 30m
func BenchmarkFailover(b *testing.B) {
	for _, what := range []string{"edge", "nats-leader", "bridge"} {
		b.Run(what, func(b *testing.B) {
			for b.Loop() {
				took := failover(b, what, 10)
				b.ReportMetric(took[len(took)/2].Seconds(), "s-median")
				b.ReportMetric(took[len(took)-1].Seconds(), "s-most")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// failover returns how long each of n kills was felt, sorted.
func failover(b *testing.B, what string, n int) (took []time.Duration) {
	ctx, cancel := context.WithCancel(b.Context())
	starting, started := context.WithTimeout(ctx, patience)
	c, err := Start(starting, programs(b), keptDir(b), Whole, pubnubtest.Config{QueueSize: 100_000})
	started()
	defer c.Close()
	if err != nil {
		b.Fatal(err)
	}
	r := &Run{Schedule: Schedule{}, load: Load{}, cluster: c, log: b.Logf}
	user := userNo(1)
	d := newDevice(r, user, deviceNo(1))
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	r.publish(user, "hello")
	all.Go(func() { d.live(ctx) })
	all.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			<-tick.C
			r.publish(user, time.Now().Format(time.RFC3339Nano))
		}
	})
	shard := e2e.ShardOf(user, shards)
	for range n {
		d.after(b, time.Now())
		sleep(ctx, 8*time.Second) // a bridge that has come gets its shards within that
		p := d.dependsOn(b, what, shard)
		at := time.Now()
		if err := p.stop(syscall.SIGKILL); err != nil {
			b.Fatal(err)
		}
		took = append(took, d.after(b, at).Sub(at))
		b.Logf("%s %s: %v", at.Format("15:04:05"), p.Name, took[len(took)-1])
		if err := p.start(); err != nil {
			b.Fatal(err)
		}
		ready, cancel := context.WithTimeout(ctx, patience)
		err := p.awaitReady(ready)
		cancel()
		if err != nil {
			b.Fatal(err)
		}
	}
	slices.Sort(took)
	return took
}

// keptDir is a directory that goes with the benchmark, or the one that is to be kept.
func keptDir(b *testing.B) string {
	if *keep == "" {
		return b.TempDir()
	}
	return *keep
}

// after waits for an event that was published after t, and returns when it came.
func (d *device) after(b *testing.B, t time.Time) time.Time {
	b.Helper()
	for until := time.Now().Add(patience); time.Now().Before(until); {
		for _, c := range d.connections() {
			for _, f := range c.Frames {
				var x struct {
					Data struct{ Text string }
				}
				if json.Unmarshal([]byte(f.Text), &x) != nil {
					continue
				}
				if at, err := time.Parse(time.RFC3339Nano, x.Data.Text); err == nil && at.After(t) {
					return time.Unix(0, f.At)
				}
			}
		}
		sleep(b.Context(), 5*time.Millisecond)
	}
	b.Fatalf("no event that was published after %v came", t)
	return time.Time{}
}

// dependsOn is the process that is to be killed.
func (d *device) dependsOn(b *testing.B, what string, shard int) *Process {
	b.Helper()
	c := d.run.cluster
	name, err := "", error(nil)
	switch what {
	case "edge":
		conns := d.connections()
		var x struct{ Node string }
		err = json.Unmarshal([]byte(conns[len(conns)-1].Frames[0].Text), &x)
		name = x.Node
	case "bridge":
		var lease struct{ Holder string }
		var m *nats.RawStreamMsg
		var js nats.JetStreamContext
		if js, err = c.nc.JetStream(); err == nil {
			if m, err = js.GetLastMsg("KV_REPRISE_LEASES", fmt.Sprint("$KV.REPRISE_LEASES.shard.", shard)); err == nil {
				err = json.Unmarshal(m.Data, &lease)
			}
		}
		name = lease.Holder
	default:
		name, err = c.streamLeader(b.Context(), shard)
	}
	if err != nil {
		b.Fatal(err)
	}
	for _, p := range c.all() {
		if strings.EqualFold(p.Name, name) {
			return p
		}
	}
	b.Fatalf("no process %q", name)
	return nil
}
