package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"time"

	"github.com/google/uuid"

	"reprise/hlc"
)

// Config is what a [Client] is made from.
type Config struct {
	// URL is the edge: ws, wss, http or https. A URL without a path gets /ws.
	// "" is ws://127.0.0.1:8080/ws.
	URL string

	// User is sent as user_id, for edges without authentication; "" sends none.
	User string

	// Token returns a fresh JWT. It is called before every connection, where an error
	// counts as a failed attempt, and, from another goroutine, when the edge says that
	// the one it has ends soon. One that the edge does not take is asked for again after
	// about MaxBackoff. Nil sends none.
	Token func(ctx context.Context) (string, error)

	// Device is the UUID of this device; "" only where the token names one.
	Device string

	// Since is where the first connection begins: a cursor, "earliest",
	// "latest", or "" for what the server remembers of this device.
	Since string

	// Echo asks for events that come from this device itself, too.
	Echo bool

	// Snapshot asks for the user's state where a replay cannot be complete. The state is
	// some seconds behind the log, and takes the place of all that the app knew: so it
	// implies Echo, or what the device did itself in these seconds would be missing.
	Snapshot bool

	// Coalesce asks for only the newest of the positions of a content that were missed.
	Coalesce bool

	// Store keeps the cursor and the updates that wait, from one process to the next;
	// what it has of a cursor takes the place of Since. Nil keeps them in memory.
	Store Store

	// QueueLimit is how many updates may wait; 0 is 1,000.
	QueueLimit int

	// AckEvery is how often the edge is told the cursor, so that it can help a device
	// that has lost its own; 0 is 30 s, negative is never.
	AckEvery time.Duration

	// MinBackoff and MaxBackoff bound the wait before a new connection, and before an
	// update that was refused for the moment is sent again; 0 is 500 ms and 20 s.
	MinBackoff, MaxBackoff time.Duration

	// PingInterval is how long the link may be silent before a sign of life is
	// asked for; 0 is 25 s. PingTimeout is how long that may take; 0 is 10 s.
	PingInterval, PingTimeout time.Duration

	// DialTimeout bounds one attempt, up to the end of the handshake; 0 is 15 s.
	DialTimeout time.Duration

	// MaxFrame is the largest frame in bytes that is taken; 0 is 8 MiB.
	MaxFrame int64

	// Dial opens a TCP connection, say from a certain source address. Nil is a
	// net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// TLS is for wss and https; nil is the default.
	TLS *tls.Config

	// OnFrame is called for every frame, in order, from Run's goroutine, except
	// for events that are not newer than the cursor. Nil drops them all.
	OnFrame func(Frame)

	// OnRaw is called for every frame as it came, in order, from Run's goroutine and
	// before anything else is done with it: what OnFrame is spared is seen here. For
	// recordings and tests. Nil hears nothing.
	OnRaw func(raw []byte)

	// OnResumed is called from Run's goroutine at the end of each replay, after OnFrame
	// was called for its caught_up. Nil hears nothing.
	OnResumed func(Resumed)

	// OnError is told, from any goroutine, when the Store fails. Nil logs it.
	OnError func(error)

	// OnDisconnect is called from Run's goroutine after a connection ended or
	// could not be made, with the reason and the time until the next attempt.
	// Nil hears nothing.
	OnDisconnect func(err error, wait time.Duration)

	// Logger is told of connections and their ends at debug level; nil discards.
	Logger *slog.Logger
}

// Resumed is the end of a replay: everything that was missed has been delivered.
type Resumed struct {
	// Since is where it began.
	Since hlc.Timestamp
	// Complete says that nothing is missing; otherwise Reason says why, and the app
	// should fetch its state anew.
	Complete bool
	Reason   string
	// Replayed is how many events came, over all the connections that it took.
	Replayed int
}

// withDefaults returns c with every zero replaced, and the parsed URL without
// the query of this device.
func (c Config) withDefaults() (Config, *url.URL, error) {
	var errs []error
	u, err := parseURL(cmp.Or(c.URL, "ws://127.0.0.1:8080/ws"))
	if err != nil {
		errs = append(errs, err)
	}
	if !isUUID(c.Device) && (c.Device != "" || c.Token == nil) {
		errs = append(errs, fmt.Errorf("device %q is no lower-case UUID", c.Device))
	}
	if c.User != "" && !isUUID(c.User) {
		errs = append(errs, fmt.Errorf("user %q is no lower-case UUID", c.User))
	}
	if c.User == "" && c.Token == nil {
		errs = append(errs, errors.New("neither a user nor a token"))
	}
	switch c.Since {
	case "", "earliest", "latest":
	default:
		if _, err := hlc.Parse(c.Since); err != nil {
			errs = append(errs, fmt.Errorf("since %q is neither a cursor of 16 lower-case hex digits nor earliest nor latest", c.Since))
		}
	}
	c.Echo = c.Echo || c.Snapshot
	c.MinBackoff = cmp.Or(c.MinBackoff, 500*time.Millisecond)
	c.MaxBackoff = cmp.Or(c.MaxBackoff, max(20*time.Second, c.MinBackoff))
	c.PingInterval = cmp.Or(c.PingInterval, 25*time.Second)
	c.PingTimeout = cmp.Or(c.PingTimeout, 10*time.Second)
	c.DialTimeout = cmp.Or(c.DialTimeout, 15*time.Second)
	c.MaxFrame = cmp.Or(c.MaxFrame, 8<<20)
	if c.MinBackoff < 0 || c.MaxBackoff < c.MinBackoff {
		errs = append(errs, fmt.Errorf("backoff from %v to %v is no range", c.MinBackoff, c.MaxBackoff))
	}
	if c.PingInterval < 0 || c.PingTimeout < 0 || c.DialTimeout < 0 || c.MaxFrame < 0 {
		errs = append(errs, errors.New("a negative duration or size"))
	}
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	c.QueueLimit = cmp.Or(c.QueueLimit, 1000)
	c.AckEvery = cmp.Or(c.AckEvery, 30*time.Second)
	if c.QueueLimit < 0 {
		errs = append(errs, fmt.Errorf("a queue of %d updates", c.QueueLimit))
	}
	if c.OnResumed == nil {
		c.OnResumed = func(Resumed) {}
	}
	if c.OnRaw == nil {
		c.OnRaw = func([]byte) {}
	}
	if c.OnFrame == nil {
		c.OnFrame = func(Frame) {}
	}
	if c.OnDisconnect == nil {
		c.OnDisconnect = func(error, time.Duration) {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.OnError == nil {
		logger := c.Logger
		c.OnError = func(err error) { logger.Warn("not kept", "err", err) }
	}
	if len(errs) > 0 {
		return c, nil, fmt.Errorf("client: config: %w", errors.Join(errs...))
	}
	return c, u, nil
}

// parseURL reads an edge's URL and completes its path.
func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("url: not a URL") // the text may hold credentials
	}
	switch u.Scheme {
	case "ws", "wss", "http", "https":
	default:
		return nil, fmt.Errorf("url: scheme %q is none of ws, wss, http, https", u.Scheme)
	}
	if u.Host == "" {
		return nil, errors.New("url: no host")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/ws"
	}
	return u, nil
}

// isUUID tells whether s is a UUID in the only form that the protocol knows.
func isUUID(s string) bool {
	id, err := uuid.Parse(s)
	return err == nil && id.String() == s
}
