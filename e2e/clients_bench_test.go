package e2e

import (
	"context"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"reprise/edge/client"
	"reprise/edge/fleet"
)

// BenchmarkClients is what a device costs the process that it is in, as one of a
// fleet, which [fleet] is for, and as a Client, which an app has: memory of the heap
// and the stacks for a connected one, and CPU for a handshake and for an event of
// its replay, which comes from the edge's memory. The edge has a process of its own.
//
//	go test ./e2e -run '^$' -bench '^BenchmarkClients$' -benchtime 1x
func BenchmarkClients(b *testing.B) {
	const devices, events = 1_000, 100
	load := fill(b)
	edge := edgeOn(b, load.url, "--max-handshakes-per-address", "0", "--tail-linger", "10m")
	url := "ws://" + edge.devices + "/ws"
	kinds := []struct {
		name    string
		connect func(since string) (cut func())
	}{
		{"fleet", func(since string) func() { return asFleet(b, url, since, devices) }},
		{"Client", func(since string) func() { return asClients(b, url, since, devices) }},
	}
	// Who was here before is in the edge's memory.
	asFleet(b, url, "latest", devices)()
	load.append(author)
	load.flush()
	cursor := load.writer.Stats().Last.Hlc.String()
	for range events {
		for i := range devices {
			load.append(userNo(i))
		}
	}
	load.flush()
	var bytes, handshake, event [2][]float64
	for b.Loop() {
		for range 3 {
			for i, kind := range kinds {
				before, began := held(), ownCPU(b)
				cut := kind.connect("latest")
				shaken := ownCPU(b) - began
				bytes[i] = append(bytes[i], float64(held()-before)/devices)
				cut()
				began = ownCPU(b)
				kind.connect(cursor)()
				replayed := ownCPU(b) - began
				handshake[i] = append(handshake[i], shaken.Seconds()*1e6/devices)
				event[i] = append(event[i], (replayed-shaken).Seconds()*1e6/(devices*events))
			}
		}
	}
	for i, kind := range kinds {
		b.ReportMetric(median(bytes[i])/(1<<10), "KiB/"+kind.name)
		b.ReportMetric(median(handshake[i]), "µs-handshake/"+kind.name)
		b.ReportMetric(median(event[i]), "µs-event/"+kind.name)
	}
	b.ReportMetric(0, "ns/op")
}

func asFleet(b *testing.B, url, since string, n int) (cut func()) {
	f, err := fleet.New(fleet.Config{URL: url, Dialing: 64})
	if err != nil {
		b.Fatal(err)
	}
	var all []*fleet.Device
	for i := range n {
		all = append(all, fleet.NewDevice(userNo(i), deviceNo(i), since))
	}
	if _, err := f.Connect(b.Context(), all); err != nil {
		b.Fatal(err)
	}
	return func() { f.Cut(all); f.Wait() }
}

func asClients(b *testing.B, url, since string, n int) (cut func()) {
	ctx, cancel := context.WithCancel(context.Background())
	dialing := make(chan struct{}, 64)
	var running, ready sync.WaitGroup
	ready.Add(n)
	for i := range n {
		caughtUp := sync.OnceFunc(func() { <-dialing; ready.Done() })
		c, err := client.New(client.Config{URL: url, User: userNo(i), Device: deviceNo(i), Since: since, AckEvery: -1,
			OnResumed:    func(client.Resumed) { caughtUp() },
			OnDisconnect: func(err error, _ time.Duration) { b.Errorf("a client lost its connection: %v", err) }})
		if err != nil {
			b.Fatal(err)
		}
		dialing <- struct{}{}
		running.Go(func() {
			if err := c.Run(ctx); err != nil {
				b.Errorf("Run() = %v, want nil", err)
				caughtUp()
			}
		})
	}
	ready.Wait()
	return func() { cancel(); running.Wait() }
}

// held is the memory of the heap and of the stacks that is in use.
func held() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// ownCPU is the CPU time of this process.
func ownCPU(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
