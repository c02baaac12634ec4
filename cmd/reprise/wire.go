package main

import (
	"context"
	"net/http"
	"os"
	"slices"
	"time"

	"go.opentelemetry.io/otel/metric"

	"reprise/bridge"
	"reprise/edge"
	"reprise/otel"
	"reprise/stream"
)

// scope is the name of this program's instruments.
const scope = "reprise"

// nodeName is the setting node, or the host's name.
func nodeName(cfg *config) string {
	name := cfg.node
	if name == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "node"
		}
		name = host
	}
	return stream.SafeName(name)
}

func (n *node) streamConfig(meter metric.Meter) stream.Config {
	cfg := n.call.cfg
	sc := stream.Config{
		DataDir:  cfg.dataDir,
		Reserve:  cfg.dataReserve,
		URL:      cfg.natsURL,
		Creds:    cfg.natsCreds,
		Nkey:     cfg.natsNkeyFile,
		CA:       cfg.natsCAFile,
		Cert:     cfg.natsCertFile,
		Key:      cfg.natsKeyFile,
		Listen:   cfg.natsListen,
		Node:     n.name,
		Shards:   cfg.streamShards,
		Replicas: cfg.streamReplicas,
		MaxAge:   cfg.streamMaxAge,
		MaxBytes: cfg.streamMaxBytes,
		MaxDrift: cfg.maxDrift,
		Logger:   n.call.log,
		Meter:    meter,
	}
	if cfg.streamSync == "always" {
		sc.SyncAlways = true
	} else if every, err := time.ParseDuration(cfg.streamSync); err == nil {
		sc.SyncInterval = every
	}
	return sc
}

func (n *node) bridgeConfig(telemetry *otel.Telemetry) bridge.Config {
	cfg := n.call.cfg
	bc := bridge.Config{
		Log:          n.log,
		Origin:       cfg.pubnubOrigin,
		TLS:          cfg.pubnubTLS,
		SubscribeKey: cfg.pubnubSubscribeKey.reveal(),
		PublishKey:   cfg.pubnubPublishKey.reveal(),
		Channels:     cfg.pubnubChannels,
		Lanes:        cfg.pubnubLanes,
		OpaqueIDs:    cfg.idFormat == "opaque",

		ReconcileEvery: cfg.pubnubReconcile,
		HistoryRate:    float64(cfg.pubnubHistoryRate),

		Logger: n.call.log,
		Meter:  telemetry.MeterProvider().Meter(scope),
		Tracer: telemetry.TracerProvider().Tracer(scope),
		Sample: telemetry.Sample,

		TrustRemoteTrace: cfg.pubnubTrustTraces,
	}
	if cfg.pubnubToken.isSet() {
		bc.Token = currentSecret(cfg, "pubnub-token", cfg.pubnubToken, n.call.log)
	}
	if n.roles.emulator {
		bc.Origin, bc.TLS = n.emulator, false
		bc.SubscribeKey, bc.PublishKey = emulatorKey, emulatorKey
	}
	return bc
}

func (n *node) edgeConfig(telemetry *otel.Telemetry, address func(*http.Request) string) edge.Config {
	cfg := n.call.cfg
	ec := edge.Config{
		Log:                   n.log,
		Node:                  n.name,
		AllowedOrigins:        cfg.allowedOrigins,
		RemoteAddr:            address,
		MaxConnections:        cfg.maxConnections,
		MaxConnectionsPerUser: cfg.maxPerUser,
		MaxMessageBytes:       int(cfg.maxMessageBytes),
		MessageRate:           float64(cfg.messageRate),
		PingInterval:          cfg.pingInterval,
		IdleTimeout:           cfg.idleTimeout,
		SlowTimeout:           cfg.slowTime,
		TailPerUser:           cfg.tailPerUser,
		TailBytes:             cfg.tailBytes,
		TailLinger:            cfg.tailLinger,
		Warm:                  max(0, cfg.tailLinger),
		OpaqueIDs:             cfg.idFormat == "opaque",
		ReadOnly:              !cfg.pubnubPublishKey.isSet() && !n.roles.emulator,
		Logger:                n.call.log,
		Meter:                 telemetry.MeterProvider().Meter(scope),
		Tracer:                telemetry.TracerProvider().Tracer(scope),
	}
	if n.verifier != nil {
		ec.Authenticate = n.verifier.authenticate
	}
	return ec
}

func (n *node) adminHandler(telemetry *otel.Telemetry) http.Handler {
	v1 := http.NewServeMux()
	if n.edge != nil {
		v1.Handle("/v1/", n.edge.Admin())
	} else {
		v1.HandleFunc("/v1/", n.bridgeStats)
	}
	(&userRoutes{log: n.log, logger: n.call.log}).add(v1)
	dead := (&deadRoutes{log: n.log, logger: n.call.log}).handler()
	v1.Handle("/v1/dead", dead)
	v1.Handle("/v1/dead/", dead)
	v1.Handle("/v1/log-level", levelRoutes(n.call.log, n.call.level))
	a := &admin{token: n.call.cfg.adminToken, ready: n.ready, metrics: telemetry.MetricsHandler(), v1: v1}
	return a.handler()
}

// bridgeStats is /v1/stats of a node without an edge: there are no devices to
// count here.
func (n *node) bridgeStats(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/v1/stats" {
		refuse(w, http.StatusNotFound, "not_found", "this node is no edge: ask one for its users")
		return
	}
	stats := n.bridge.Stats()
	writeJSON(w, http.StatusOK, struct {
		Connections int            `json:"active_connections"`
		Users       int            `json:"active_users"`
		Relayed     int            `json:"messages_relayed"`
		Node        string         `json:"node"`
		Active      bool           `json:"active"`
		Bridge      map[string]any `json:"bridge"`
	}{Node: n.name, Active: n.bridge.Health().Active, Bridge: map[string]any{
		"stored": stats.Stored, "duplicates": stats.Duplicates, "dead": stats.Dead,
		"announcements": stats.Announcements, "polls": stats.Polls, "failed_polls": stats.FailedPolls,
		"filled": stats.Filled, "gaps": stats.Gaps, "published": stats.Published, "expired": stats.Expired,
	}})
}

// drainGrace is how much longer than the setting says a drain may take.
const drainGrace = 5 * time.Second

// drainEdge lets the devices go over the time that the setting drain says.
func (n *node) drainEdge(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, n.call.cfg.drain+drainGrace)
	defer cancel()
	if err := n.edge.Drain(ctx, n.call.cfg.drain); err != nil {
		n.call.log.Warn("some connections are left after the drain", "err", err)
	}
}

// runEdge runs the edge until ctx ends. That the edge is done earlier, after a
// drain, is in order.
func (n *node) runEdge(ctx context.Context) error {
	err := n.edge.Run(ctx)
	if err == nil && n.draining.Load() {
		<-ctx.Done()
	}
	return err
}

// With a new log, what is published before the bridge's first poll has ended is
// nobody's. So a node that is not settled is not ready. It settles in any case,
// because neither PubNub's troubles nor another bridge's lease may take an edge
// out of service: when the bridge has been polling for a moment (it goes on
// from a checkpoint, and nothing comes), or settling after the start.
const (
	settling = 3 * time.Second
	moment   = 500 * time.Millisecond
)

// settled tells whether what is published from now on will be in the log, as
// far as can be known.
func (n *node) settled() bool {
	if n.bridge == nil || time.Since(n.started) > settling || n.bridge.Stats().Polls > 0 {
		return true
	}
	health := n.bridge.Health()
	return health.Active && health.PollAge > moment
}

// settle waits until n is no longer starting, for a time, or until ctx ends.
func (n *node) settle(ctx context.Context) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for time.Since(n.started) < settling && ctx.Err() == nil {
		if reasons, _ := n.ready(); !slices.Contains(reasons, "starting") {
			return
		}
		<-tick.C
	}
}

// bridgeWarnings is what an operator should know of a bridge.
func bridgeWarnings(h bridge.Health) (warnings []string) {
	for _, w := range []struct {
		on   bool
		name string
	}{{h.Silent, "pubnub_silent"}, {h.Filling, "history_compared"}, {h.Gap, "upstream_gap"}} {
		if w.on {
			warnings = append(warnings, w.name)
		}
	}
	return warnings
}

// ready tells why devices should not be sent here, and what else is wrong.
func (n *node) ready() (reasons, warnings []string) {
	if n.edge != nil {
		_, reasons, warnings = n.edge.Ready()
	} else {
		if n.draining.Load() {
			reasons = append(reasons, "draining")
		}
		if n.log.Unreachable() > 15*time.Second {
			reasons = append(reasons, "log_unreachable")
		}
	}
	if !n.settled() && len(reasons) == 0 {
		reasons = append(reasons, "starting")
	}
	if n.verifier != nil && !n.verifier.ready() {
		reasons = append(reasons, "no_keys")
	}
	if n.bridge != nil {
		warnings = append(warnings, bridgeWarnings(n.bridge.Health())...)
	}
	if n.log.Full() {
		warnings = append(warnings, "disk_full")
	}
	if n.log.Held() > 15*time.Second {
		warnings = append(warnings, "appends_held")
	}
	return reasons, warnings
}
