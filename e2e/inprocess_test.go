package e2e

import (
	"context"
	"net"
	"net/http"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"

	"reprise/bridge"
	"reprise/edge"
	"reprise/stream"
)

// parts are a relay's parts, wired up within the test's process: for what
// cannot be asked of a process from outside, such as another wall clock.
type parts struct {
	log  *stream.Log
	edge *edge.Server

	devices, admin string
	stop           func() // ends everything; harmless to call twice
}

// wire opens a log and serves it, with a bridge to PubNub at origin if there is
// one.
func wire(t testing.TB, log stream.Config, origin string) *parts {
	t.Helper()
	p := &parts{}
	var err error
	if p.log, err = stream.Open(t.Context(), log); err != nil {
		t.Fatalf("stream.Open() = %v, want nil", err)
	}
	if p.edge, err = edge.New(edge.Config{Log: p.log, Node: log.Node}); err != nil {
		t.Fatalf("edge.New() = %v, want nil", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running errgroup.Group
	running.Go(func() error { return p.edge.Run(ctx) })
	if origin != "" {
		b, err := bridge.New(bridge.Config{Log: p.log, Origin: origin, SubscribeKey: "demo",
			Channels: []string{"user.*", "global.announcements"}})
		if err != nil {
			t.Fatalf("bridge.New() = %v, want nil", err)
		}
		running.Go(func() error { return b.Run(ctx) })
	}
	var servers []*http.Server
	listen := func(h http.Handler) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatalf("Listen() = %v, want nil", err)
		}
		s := &http.Server{Handler: h}
		servers = append(servers, s)
		go s.Serve(l) // ends with its listener
		return l.Addr().String()
	}
	p.devices, p.admin = listen(p.edge), listen(p.edge.Admin())
	stopped := false
	p.stop = func() {
		if stopped {
			return
		}
		stopped = true
		for _, s := range servers {
			s.Close()
		}
		cancel()
		if err := running.Wait(); err != nil {
			t.Errorf("Run() = %v, want nil", err)
		}
		if err := p.log.Close(); err != nil {
			t.Errorf("Log.Close() = %v, want nil", err)
		}
		awaitForks()
	}
	t.Cleanup(p.stop)
	return p
}

// awaitForks returns when the processes that were being started have become
// what they are to be: until then each has a copy of every file of this one, and
// of the lock on a log's directory that has been closed here.
func awaitForks() {
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
}
