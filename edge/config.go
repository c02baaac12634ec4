package edge

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"reprise/stream"
)

// Identity is who a token speaks for.
type Identity struct {
	User string
	// Device is the UUID to which the token is bound; "" is any of the user's.
	Device string
	// Issued is when the token was made; zero is not known, and counts as long ago.
	Issued time.Time
	// Expires is when it ends; zero is never.
	Expires time.Time
}

// Authenticator tells whose token it is. It may be called by any number of
// goroutines.
type Authenticator func(token string) (Identity, error)

// Config says how a Server serves.
type Config struct {
	// Log is the event log. It must not be nil.
	Log *stream.Log
	// Node names this edge in the welcome; "" is "edge".
	Node string
	// Authenticate checks tokens. nil is no authentication: the user is then
	// whoever the query says.
	Authenticate Authenticator
	// AllowedOrigins are the origins of web pages that may connect beside the
	// page's own, as scheme://host[:port] or host[:port]; nil is none.
	AllowedOrigins []string
	// RemoteAddr tells a request's client; nil is the host of its RemoteAddr.
	RemoteAddr func(*http.Request) string

	// MaxConnections bounds the connections of this edge; 0 is no bound.
	MaxConnections int
	// MaxConnectionsPerUser bounds the connections of a user; 0 is 20.
	MaxConnectionsPerUser int
	// MaxMessageBytes bounds what a device sends at once; 0 is 32768.
	MaxMessageBytes int
	// MessageRate is how many messages a second a device may send; 0 is 20.
	MessageRate float64

	// PingInterval is the time between pings; 0 is 30 seconds.
	PingInterval time.Duration
	// IdleTimeout is after how long without a byte from it a device counts as
	// gone; 0 is 60 seconds.
	IdleTimeout time.Duration
	// SlowTimeout is how long a device may take no byte of what waits for it; 0
	// is 30 seconds.
	SlowTimeout time.Duration
	// PositionInterval is how often a quiet device is told its position; 0 is
	// ten minutes.
	PositionInterval time.Duration

	// TailPerUser is how many events a tail holds; 0 is 256.
	TailPerUser int
	// TailBytes is the memory of all tails; 0 is 256 MiB.
	TailBytes int64
	// TailLinger is how long a tail is kept after its user's last connection
	// has ended; 0 is 5 minutes, less than 0 is not at all.
	TailLinger time.Duration
	// Warm is how far back the log is read when Run begins, once and in order, so
	// that devices which come back after a restart are served from tails. No
	// device is let in before, for 10 seconds at most; 0 is not at all.
	Warm time.Duration

	// OpaqueIDs lets content and target device ids be any 1 to 128 printable
	// characters; false asks for UUIDs.
	OpaqueIDs bool
	// ReadOnly refuses what devices send up, with read_only: nobody publishes it.
	// false takes it.
	ReadOnly bool

	// Logger is where connections and troubles are reported; nil discards.
	Logger *slog.Logger
	// Meter makes the instruments; nil makes none.
	Meter metric.Meter
	// Tracer makes a span for each live event whose trace is sampled; nil makes
	// none.
	Tracer trace.Tracer
}

// sendBuffer is the kernel's share of a connection's unsent bytes. Left to
// itself the kernel takes megabytes for a device that has stopped reading, and
// SlowTimeout would notice none of it.
const sendBuffer = 32 << 10

// filled returns cfg with its zeros replaced by what they mean.
func (cfg Config) filled() (Config, error) {
	var errs []error
	orDefault(&cfg.Node, "edge")
	orDefault(&cfg.MaxConnectionsPerUser, 20)
	orDefault(&cfg.MaxMessageBytes, 32<<10)
	orDefault(&cfg.MessageRate, 20)
	orDefault(&cfg.PingInterval, 30*time.Second)
	orDefault(&cfg.IdleTimeout, 60*time.Second)
	orDefault(&cfg.SlowTimeout, 30*time.Second)
	orDefault(&cfg.PositionInterval, 10*time.Minute)
	orDefault(&cfg.TailPerUser, 256)
	orDefault(&cfg.TailBytes, 256<<20)
	orDefault(&cfg.TailLinger, 5*time.Minute)
	for _, bound := range []struct {
		name string
		bad  bool
	}{
		{"MaxConnections", cfg.MaxConnections < 0},
		{"MaxConnectionsPerUser", cfg.MaxConnectionsPerUser < 0},
		{"MaxMessageBytes", cfg.MaxMessageBytes < 0},
		{"MessageRate", cfg.MessageRate < 0},
		{"PingInterval", cfg.PingInterval < 0},
		{"IdleTimeout", cfg.IdleTimeout < 0},
		{"SlowTimeout", cfg.SlowTimeout < 0},
		{"PositionInterval", cfg.PositionInterval < 0},
		{"TailPerUser", cfg.TailPerUser < 0},
		{"TailBytes", cfg.TailBytes < 0},
		{"Warm", cfg.Warm < 0},
	} {
		if bound.bad {
			errs = append(errs, fmt.Errorf("edge: %s is negative", bound.name))
		}
	}
	if cfg.IdleTimeout <= cfg.PingInterval {
		errs = append(errs, fmt.Errorf("edge: IdleTimeout %v is not above PingInterval %v: a device would be closed before it was asked", cfg.IdleTimeout, cfg.PingInterval))
	}
	if cfg.RemoteAddr == nil {
		cfg.RemoteAddr = remoteHost
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Meter == nil {
		cfg.Meter = metricnoop.Meter{}
	}
	if cfg.Tracer == nil {
		cfg.Tracer = tracenoop.Tracer{}
	}
	return cfg, errors.Join(errs...)
}

func orDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

func remoteHost(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
