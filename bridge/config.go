package bridge

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"
	"unicode"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"reprise/stream"
)

// Config is what a [Bridge] is made from.
type Config struct {
	// Log is where events go. Required; the bridge does not close it.
	Log *stream.Log

	// Origin is PubNub's host or host:port; "" is ps.pndsn.com.
	Origin string
	// TLS says whether Origin speaks it. False is plain HTTP.
	TLS bool
	// SubscribeKey is required. PublishKey may be empty: then the outbox stays as
	// it is.
	SubscribeKey, PublishKey string
	// Token returns the access token for the next request, escaped by nobody.
	// It is called before every poll and again after each 403, and must not
	// block for longer than a poll may wait. nil: no token.
	Token func() string
	// Channels are names and wildcards (user.*), of 30,000 bytes in all: they go
	// into every poll's URL. Required. None may be covered by another: what
	// matches twice comes twice.
	Channels []string
	// Lanes carries registered users by channel groups, many PubNub clients to a
	// shard, instead of a wildcard. Channels must then hold no channel of a user's
	// and no wildcard.
	Lanes bool
	// UserID is how the bridge is known to PubNub, which bills by it: keep it
	// the same over restarts. "" is reprise-bridge.
	UserID string

	// OpaqueIDs lets content_id and target_device_id be 1 to 128 printable
	// characters. False: UUIDs only.
	OpaqueIDs bool
	// SafeAge is how old a cursor may be and PubNub's queue is still sure to reach
	// back to it; from an older one on, history is read as well. 0 is 2 minutes.
	SafeAge time.Duration
	// ReconcileEvery is how often the history of twice that time is compared with
	// the log. 0 is never.
	ReconcileEvery time.Duration
	// HistoryRate bounds the requests to PubNub's history, and those that fill
	// channel groups, in a second. 0 is 20.
	HistoryRate float64

	// PollTimeout bounds one poll; it must exceed PubNub's own 280 s. 0 is 310 s.
	PollTimeout time.Duration
	// StopTimeout is how long a stop may take to store what has been received,
	// and then again to give the shards back. What is not stored by then comes
	// again after the next start. 0 is 10 s.
	StopTimeout time.Duration

	// Logger gets the bridge's own affairs, never an event. nil discards.
	Logger *slog.Logger
	// Meter makes the instruments. nil makes none.
	Meter metric.Meter
	// Tracer starts the spans of each event that is traced. nil, or the API's own
	// that does nothing: no spans, and no cost.
	Tracer trace.Tracer
	// Sample decides whether an event is traced, before anything is spent on it;
	// any goroutine may call it. nil traces every event.
	Sample func() bool
	// TrustRemoteTrace lets a publisher decide that with the sampled flag of its
	// trace context. False: Sample decides. Either way the event goes on in the
	// publisher's trace.
	TrustRemoteTrace bool
}

// withDefaults returns c with every zero replaced, or all that is wrong with it.
func (c Config) withDefaults() (Config, error) {
	var all []error
	wrong := func(format string, args ...any) {
		all = append(all, fmt.Errorf("bridge: config: "+format, args...))
	}
	if c.Log == nil {
		wrong("Log is missing")
	}
	if c.Origin == "" {
		c.Origin = "ps.pndsn.com"
	}
	if !validOrigin(c.Origin) {
		wrong("Origin %q is not host or host:port", c.Origin)
	}
	if c.SubscribeKey == "" {
		wrong("SubscribeKey is missing")
	} else if !validKey(c.SubscribeKey) {
		wrong("SubscribeKey is not letters, digits and hyphens")
	}
	if !validKey(c.PublishKey) {
		wrong("PublishKey is not letters, digits and hyphens")
	}
	if c.UserID == "" {
		c.UserID = "reprise-bridge"
	}
	if len(c.UserID) > 92 || strings.ContainsFunc(c.UserID, func(r rune) bool { return !unicode.IsPrint(r) || r == ' ' }) {
		wrong("UserID is not 1 to 92 printable characters without spaces")
	}
	if len(c.Channels) == 0 && !c.Lanes {
		wrong("Channels is empty")
	}
	if c.HistoryRate < 0 {
		wrong("HistoryRate is negative: %v", c.HistoryRate)
	}
	if c.HistoryRate == 0 {
		c.HistoryRate = 20
	}
	if len(strings.Join(c.Channels, ",")) > 30_000 {
		wrong("Channels are more than 30,000 bytes")
	}
	for i, channel := range c.Channels {
		if !validChannel(channel) {
			wrong("channel %q is no channel and no wildcard of PubNub's", channel)
			continue
		}
		if c.Lanes && (strings.HasSuffix(channel, "*") || strings.HasPrefix(channel, "user.")) {
			wrong("channel %q does not go with Lanes, which carry users by themselves", channel)
		}
		for j, other := range c.Channels {
			if i != j && covers(other, channel) && (other != channel || i > j) {
				wrong("channel %q is covered by %q", channel, other)
			}
		}
	}
	for _, d := range []struct {
		name  string
		value *time.Duration
		zero  time.Duration
	}{{"PollTimeout", &c.PollTimeout, 310 * time.Second}, {"StopTimeout", &c.StopTimeout, 10 * time.Second},
		{"SafeAge", &c.SafeAge, 2 * time.Minute}, {"ReconcileEvery", &c.ReconcileEvery, 0}} {
		if *d.value < 0 {
			wrong("%s is negative: %s", d.name, *d.value)
		}
		if *d.value == 0 {
			*d.value = d.zero
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Meter == nil {
		c.Meter = noop.Meter{}
	}
	if _, off := c.Tracer.(tracenoop.Tracer); off {
		c.Tracer = nil // its spans cost as much as real ones that are not sampled
	}
	if c.Sample == nil {
		c.Sample = func() bool { return true }
	}
	return c, errors.Join(all...)
}

// validOrigin accepts what the SDK can put between the scheme and the path.
func validOrigin(origin string) bool {
	if host, port, err := net.SplitHostPort(origin); err == nil {
		return host != "" && port != "" && !strings.ContainsAny(host, "/?#@ ") && !strings.ContainsFunc(port, func(r rune) bool { return r < '0' || r > '9' })
	}
	return !strings.ContainsAny(origin, ":/?#@ ")
}

// validKey accepts "" too.
func validKey(key string) bool {
	return !strings.ContainsFunc(key, func(r rune) bool {
		return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
}

// validChannel accepts PubNub's names (1 to 92 characters) and its wildcards:
// at most three segments of which the last is a star.
func validChannel(channel string) bool {
	if channel == "" || len(channel) > 92 || strings.ContainsFunc(channel, func(r rune) bool {
		return !unicode.IsPrint(r) || strings.ContainsRune(` ,:/\`, r)
	}) {
		return false
	}
	base, wild := strings.CutSuffix(channel, ".*")
	if strings.Contains(base, "*") {
		return false
	}
	return !wild || base != "" && strings.Count(base, ".") < 2
}

// covers reports whether a subscription to pattern delivers all that one to
// channel does.
func covers(pattern, channel string) bool {
	if prefix, wild := strings.CutSuffix(pattern, "*"); wild {
		return strings.HasPrefix(channel, prefix)
	}
	return pattern == channel
}
