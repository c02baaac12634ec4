package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"sync/atomic"
	"time"

	"reprise/bridge"
	"reprise/edge"
	"reprise/otel"
	"reprise/stream"
)

// roles are what a node does.
type roles struct{ bridge, edge, emulator bool }

// node is one running process of the relay.
type node struct {
	// static after start
	call     *call
	roles    roles
	name     string
	started  time.Time
	devices  *web   // nil without the role edge
	admin    *web   // the operator's listener
	emulator string // where PubNub is, with the role emulator
	verifier *verifier
	log      *stream.Log
	bridge   *bridge.Bridge
	edge     *edge.Server

	draining atomic.Bool
}

// runNode runs a node until ctx ends, and then lets it go in good order.
func runNode(ctx context.Context, c *call, r roles) error {
	n := &node{call: c, roles: r, name: nodeName(c.cfg), started: time.Now()}
	ports, err := n.bindAll(ctx)
	if err != nil {
		return err
	}
	defer ports.close()

	oc := otel.Config{ServiceVersion: readBuild().version, InstanceID: n.name, Logger: c.log}
	if r.emulator {
		oc.Recent = consoleSpans
	}
	telemetry, err := otel.New(ctx, oc)
	if err != nil {
		return &usageError{problems: []string{err.Error()}} // a variable that it does not understand
	}
	defer n.flush(ctx, telemetry)
	c.log = also(c.log, c.level, telemetry.LogHandler())

	n.log, err = stream.Open(ctx, n.streamConfig(telemetry.MeterProvider().Meter(scope)))
	if err != nil {
		if ctx.Err() != nil {
			return nil // told to stop before it had begun
		}
		return err
	}
	if url := n.log.ClientURL(); url != "" {
		c.log.Info("listening", "what", "nats", "addr", url)
	}
	parts := newStack()
	err = n.start(ctx, parts, ports, telemetry)
	if err == nil {
		n.settle(ctx)
		c.log.Info("running", "node", n.name, "role", c.command.name, "shards", n.log.Shards())
		if r.emulator {
			n.devWelcome()
		}
		select {
		case <-ctx.Done():
			n.drain(ctx)
		case <-parts.failed: // stop returns what failed
		}
	}
	n.draining.Store(true)
	err = errors.Join(err, parts.stop(), n.log.Close())
	if err == nil {
		c.log.Info("stopped")
	}
	return err
}

// start builds the parts and starts them, from the bottom up.
func (n *node) start(ctx context.Context, parts *stack, ports *ports, telemetry *otel.Telemetry) error {
	c := n.call
	if n.roles.emulator {
		address, err := startEmulator(ctx, c, parts)
		if err != nil {
			return err
		}
		n.emulator = address
	}
	if n.roles.bridge {
		var err error
		if n.bridge, err = bridge.New(n.bridgeConfig(telemetry)); err != nil {
			return &usageError{problems: []string{err.Error()}}
		}
	}
	if n.roles.edge {
		if err := n.buildEdge(ctx, ports, telemetry); err != nil {
			return err
		}
	}
	secure, err := adminTLS(c.cfg, c.log)
	if err != nil {
		return &usageError{problems: []string{err.Error()}}
	}
	n.admin = newWeb(ports.admin, n.adminHandler(telemetry), secure, c.log)
	parts.push(ctx, "admin", n.admin.run)
	c.log.Info("listening", "what", "admin", "addr", n.admin.address())
	if n.roles.edge {
		parts.push(ctx, "edge", n.runEdge)
		parts.push(ctx, "devices", n.devices.run)
		c.log.Info("listening", "what", "devices", "addr", n.devices.address())
	}
	if n.roles.bridge {
		parts.push(ctx, "bridge", n.bridge.Run)
	}
	return nil
}

// buildEdge makes the edge and its listener's server.
func (n *node) buildEdge(ctx context.Context, ports *ports, telemetry *otel.Telemetry) error {
	c := n.call
	if c.cfg.auth == "jwt" {
		var err error
		if n.verifier, err = newVerifier(ctx, c.cfg, c.log); err != nil {
			return &usageError{problems: []string{"auth: " + err.Error()}}
		}
	}
	secure, err := devicesTLS(c.cfg, c.log)
	if err != nil {
		return &usageError{problems: []string{err.Error()}}
	}
	address := clientAddress(c.cfg.trustedProxies)
	if n.edge, err = edge.New(n.edgeConfig(telemetry, address)); err != nil {
		return &usageError{problems: []string{err.Error()}}
	}
	if c.abort != nil {
		abort := n.edge.Abort
		c.abort.Store(&abort)
	}
	explicit := c.cfg.origins["max-handshakes-per-address"] != fromDefault
	routes := http.NewServeMux()
	routes.Handle("/ws", limitHandshakes(c.cfg.maxHandshakes, explicit, address, n.edge))
	if n.roles.emulator {
		n.addConsole(routes, telemetry)
	}
	gate := newGate(ports.devices, runtime.GOMAXPROCS(0))
	n.devices = newWeb(gate, routes, secure, c.log)
	n.devices.server.ConnState = gate.state
	// Nobody holds a socket by sending a body nobody wants, or nothing.
	n.devices.server.ReadTimeout, n.devices.server.IdleTimeout = handshakeTime, handshakeTime
	return nil
}

// consoleSpans is how many spans are kept for the console: three or four an event.
const consoleSpans = 4000

// addConsole puts the developer's page, and what it reads of the admin listener,
// where the devices are: a page may talk to its own origin without more.
func (n *node) addConsole(routes *http.ServeMux, telemetry *otel.Telemetry) {
	emulator := publisher{origin: n.emulator, publishKey: emulatorKey, subKey: emulatorKey}
	c := &console{
		user: exampleUser, node: n.name, trace: telemetry.Trace,
		send: func(r *http.Request, channel, payload string) error {
			_, err := emulator.publish(r.Context(), oneRequest(), channel, payload)
			return err
		},
	}
	c.routes(routes)
	guarded := http.NewServeMux()
	c.actions(guarded)
	guarded.Handle("GET /v1/stats", n.edge.Admin())
	for _, pattern := range []string{"GET /console/trace", "POST /console/publish", "GET /v1/stats"} {
		routes.Handle(pattern, localOnly(sameOrigin(guarded)))
	}
}

// drain lets devices go. It returns when they have gone, or the time is over.
func (n *node) drain(ctx context.Context) {
	n.draining.Store(true)
	if n.edge == nil {
		return
	}
	n.drainEdge(context.WithoutCancel(ctx))
}

// flush sends what telemetry still holds, within some seconds.
func (n *node) flush(ctx context.Context, telemetry *otel.Telemetry) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := telemetry.Shutdown(ctx); err != nil {
		n.call.log.LogAttrs(ctx, slog.LevelWarn, "telemetry was not flushed", slog.Any("err", err))
	}
}

// ports are the listeners of a node, bound before anything starts, so that a
// taken port leaves no trace.
type ports struct{ devices, admin net.Listener }

func (n *node) bindAll(ctx context.Context) (*ports, error) {
	p := &ports{}
	var err error
	if p.admin, err = bind(ctx, "admin-listen", n.call.cfg.adminListen); err != nil {
		return nil, err
	}
	if n.roles.edge {
		if p.devices, err = bind(ctx, "listen", n.call.cfg.listen); err != nil {
			p.close()
			return nil, err
		}
	}
	return p, nil
}

// close closes what is still open; servers have closed theirs.
func (p *ports) close() {
	for _, l := range []net.Listener{p.devices, p.admin} {
		if l != nil {
			_ = l.Close()
		}
	}
}
