package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"reprise/edge/fleet"
)

// warmUpUsers is for how many users an idle bench publishes at most.
const warmUpUsers = 2000

// benchIdle measures what connections cost of which nothing comes.
func benchIdle(ctx context.Context, b *bench) error {
	n, pid := b.cfg.connections, proc(b.cfg.pid)
	devices := b.devices(0, n, 1, warmUpEvents)
	b.collect(ctx)
	empty, cpu0, err := pid.both()
	if err != nil {
		return err
	}
	kernel := kernelTCP()
	stop := b.progress(func() string { return fmt.Sprintf("idle: %d of %d connected", b.fleet.Ready(), n) })
	began := time.Now()
	_, err = b.fleet.Connect(ctx, devices)
	stop()
	defer b.fleet.Cut(devices)
	if err != nil {
		return err
	}
	connecting := time.Since(began)
	_, cpu1, err := pid.both()
	if err != nil {
		return err
	}
	if err := b.warmUp(ctx, devices); err != nil {
		return err
	}
	began = time.Now()
	stop = b.progress(func() string {
		return fmt.Sprintf("idle: %d connections, settling for %v", n, (b.cfg.settle - time.Since(began)).Round(time.Second))
	})
	for end := time.Now().Add(b.cfg.settle); time.Now().Before(end) && ctx.Err() == nil; {
		b.collect(ctx)
		if err := wait(ctx, min(5*time.Second, time.Until(end))); err != nil {
			stop()
			return err
		}
	}
	stop()
	_, cpu2, err := pid.both()
	if err != nil {
		return err
	}
	if err := wait(ctx, b.cfg.settle); err != nil {
		return err
	}
	full, cpu3, err := pid.both()
	if err != nil {
		return err
	}
	b.environment()
	b.note("connections", n, "")
	b.note("handshakes_per_second", round(float64(n)/connecting.Seconds()), "")
	if pid != 0 {
		b.note("rss_before_bytes", empty, "of the process, without connections")
		b.note("rss_bytes", full, "of the process")
		b.note("rss_per_connection_bytes", (full-empty)/int64(n), "")
		b.note("cpu_us_per_handshake", round(perEach(cpu1-cpu0, n)), "µs")
		b.note("idle_cpu_us_per_connection_second", round(perEach(cpu3-cpu2, n)/b.cfg.settle.Seconds()), "µs")
	}
	b.note("kernel_bytes_per_connection", max(0, kernelTCP()-kernel)/int64(n), "both ends, where both are on this machine")
	b.noteStats(ctx)
	b.judge(ctx, devices)
	return nil
}

const warmUpEvents = 3

// warmUp has something happen on each connection: what devices send, and events.
func (b *bench) warmUp(ctx context.Context, devices []*fleet.Device) error {
	var done atomic.Int64
	users := min(len(devices), warmUpUsers)
	defer b.progress(func() string {
		return fmt.Sprintf("idle: %d of %d events published", done.Load(), users*warmUpEvents)
	})()
	for _, d := range devices {
		for range 2 {
			if err := d.Send(`{"type":"ping"}`); err != nil {
				return fmt.Errorf("a device was disconnected: %w", err)
			}
		}
	}
	return b.publishAll(ctx, 0, users, warmUpEvents, &done)
}

// benchRelay measures the way of events to devices that are connected.
func benchRelay(ctx context.Context, b *bench) error {
	each, pid := b.cfg.devicesPerUser, proc(b.cfg.pid)
	users := max(1, b.cfg.connections/each)
	devices := b.devices(0, users, each, int(float64(b.cfg.rate)*b.cfg.length.Seconds())/users+2)
	if err := b.connect(ctx, "relay", devices); err != nil {
		return err
	}
	defer b.fleet.Cut(devices)
	_, cpu0, err := pid.both()
	if err != nil {
		return err
	}
	var sent atomic.Int64
	flowing, end := context.WithTimeout(ctx, b.cfg.length)
	defer end()
	began := time.Now()
	stop := b.progress(func() string {
		return fmt.Sprintf("relay: %d events in %v", sent.Load(), time.Since(began).Round(time.Second))
	})
	err = b.flow(flowing, 0, users, &sent)
	stop()
	if err != nil || ctx.Err() != nil {
		return err
	}
	took := time.Since(began)
	b.environment()
	b.note("connections", len(devices), "")
	b.note("events_per_second", round(float64(sent.Load())/took.Seconds()), "")
	b.judge(ctx, devices)
	_, cpu1, err := pid.both()
	if err != nil {
		return err
	}
	if pid != 0 {
		b.note("cpu_us_per_delivery", round(perEach(cpu1-cpu0, int(sent.Load())*each)), "µs")
	}
	b.noteTimes("latency", b.took.take())
	return nil
}

// benchStorm measures what it takes when all devices come back at once.
func benchStorm(ctx context.Context, b *bench) error {
	pid, n := proc(b.cfg.pid), b.cfg.connections
	devices := b.devices(0, n, 1, b.cfg.missed)
	if err := b.connect(ctx, "storm", devices); err != nil {
		return err
	}
	b.fleet.Cut(devices)
	witnesses := b.devices(n, max(1, b.cfg.live), 1, 1<<16)
	if err := b.connect(ctx, "storm: others", witnesses); err != nil {
		return err
	}
	defer b.fleet.Cut(witnesses)

	var sent atomic.Int64
	stop := b.progress(func() string { return fmt.Sprintf("storm: %d of %d events published", sent.Load(), n*b.cfg.missed) })
	err := b.publishAll(ctx, 0, n, b.cfg.missed, &sent)
	stop()
	if err != nil {
		return err
	}
	// What was published last has come: so has, or is about to have, all before it.
	if err := b.publishAll(ctx, n, 1, 1, &sent); err != nil {
		return err
	}
	for witnesses[0].Received() == 0 {
		if err := wait(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	if b.cfg.pause > 0 {
		stop := b.progress(func() string { return "storm: now restart the edge, if that is what you try" })
		err := wait(ctx, b.cfg.pause)
		stop()
		if err != nil {
			return err
		}
	}

	flowing, end := context.WithCancel(ctx)
	defer end()
	var g errgroup.Group
	var live atomic.Int64
	g.Go(func() error { return b.flow(flowing, n, len(witnesses), &live) })
	if err := wait(ctx, time.Second); err != nil {
		return err
	}
	calm := b.took.take()
	_, cpu0, err := pid.both()
	if err != nil {
		return err
	}
	began := time.Now()
	stop = b.progress(func() string {
		return fmt.Sprintf("storm: %d of %d are back after %v", b.fleet.Ready()-int64(len(witnesses)), n, time.Since(began).Round(100*time.Millisecond))
	})
	back, err := b.fleet.Connect(ctx, devices)
	stop()
	if err != nil {
		return err
	}
	storm := time.Since(began)
	_, cpu1, err := pid.both()
	if err != nil {
		return err
	}
	meanwhile := b.took.take()
	end()
	if err := g.Wait(); err != nil {
		return err
	}
	defer b.fleet.Cut(devices)
	slices.Sort(back)
	b.environment()
	b.note("devices", n, "")
	b.note("missed", b.cfg.missed, "events each")
	b.note("storm_ms", round(storm.Seconds()*1e3), "until the last had caught up")
	b.noteTimes("caught_up", back)
	if pid != 0 {
		b.note("cpu_us_per_resume", round(perEach(cpu1-cpu0, n)), "µs, live traffic included")
	}
	b.noteTimes("live_before", calm)
	b.noteTimes("live_meanwhile", meanwhile)
	b.judge(ctx, append(devices, witnesses...))
	return nil
}

// connect connects devices, and shows how far that is.
func (b *bench) connect(ctx context.Context, what string, devices []*fleet.Device) error {
	before := b.fleet.Ready()
	defer b.progress(func() string {
		return fmt.Sprintf("%s: %d of %d connected", what, b.fleet.Ready()-before, len(devices))
	})()
	_, err := b.fleet.Connect(ctx, devices)
	return err
}

// perEach is microseconds for each of n.
func perEach(d time.Duration, n int) float64 { return float64(d.Microseconds()) / float64(max(1, n)) }

// both is the process's resident memory and CPU time; zeros where there is none.
func (p proc) both() (resident int64, cpu time.Duration, err error) {
	if p == 0 {
		return 0, 0, nil
	}
	if resident, err = p.resident(); err == nil {
		cpu, err = p.cpu()
	}
	return resident, cpu, err
}

// collect has the relay collect its garbage, where its admin listener lets us.
func (b *bench) collect(ctx context.Context) {
	for range 2 {
		if response, err := b.askAdmin(ctx, http.MethodGet, "/debug/pprof/heap", url.Values{"gc": {"1"}}); err == nil {
			io.Copy(io.Discard, response.Body) // it is not the profile that is wanted
			response.Body.Close()
		}
	}
}

// noteStats notes what the admin listener says, where it lets us.
func (b *bench) noteStats(ctx context.Context) {
	response, err := b.askAdmin(ctx, http.MethodGet, "/v1/stats", nil)
	if err != nil {
		return
	}
	defer response.Body.Close()
	var stats struct {
		TailBytes int64 `json:"tail_bytes"`
	}
	if json.NewDecoder(response.Body).Decode(&stats) == nil {
		b.note("tail_bytes", stats.TailBytes, "of events in the edge's tails")
	}
}

// wait returns after d, or with ctx's error when that ends first.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
