package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"reprise/hlc"
)

// Config says where the log is and how it is kept. The zero Config is an
// embedded log without a directory, which Open refuses.
type Config struct {
	// DataDir holds the embedded server's files. Used when URL is empty.
	DataDir string
	// URL is an external NATS server or cluster, comma separated; "" embeds one.
	URL string
	// Creds is a NATS credentials file for URL, and Nkey a file with the seed of
	// an nkey; "" is none. At most one is set. Both are read at each connect.
	Creds, Nkey string
	// CA is a PEM file of the authorities that issue the servers' certificates,
	// with which the connection is TLS whatever URL says; "" are the system's.
	// Cert and Key are PEM files of a certificate to show; "" is none. All are
	// read at each connect.
	CA, Cert, Key string
	// Listen is the embedded server's client address, host:port, port 0 takes
	// a free one; "" does not listen.
	Listen string
	// Node names this process in leases and consumers, made safe by SafeName.
	Node string
	// Shards is the number of shards of a new log; 0 is 1, or 8 on a cluster.
	// For a log that exists it must be 0 or what the log says.
	Shards int
	// Replicas is the number of copies; 0 is 1, or 3 on a cluster.
	Replicas int
	// MaxAge is how long events are kept; 0 is 168 hours.
	MaxAge time.Duration
	// MaxBytes bounds each shard's stream; 0 is no bound.
	MaxBytes int64
	// Duplicates is the window of the server's own deduplication; 0 is 5
	// minutes, or MaxAge if that is less.
	Duplicates time.Duration
	// Reserve is the room on the embedded server's disk, in bytes, below which
	// nothing more is appended; 0 is 64 MiB, less than 0 is none.
	Reserve int64
	// SyncInterval is how often the embedded server calls fsync; 0 is a second.
	SyncInterval time.Duration
	// SyncAlways makes the embedded server call fsync before each acknowledgement.
	SyncAlways bool
	// Wall is the clock for stamps; nil is time.Now.
	Wall func() time.Time
	// MaxDrift is how far the log's own last stamp may be ahead of the wall
	// clock before that is worth a warning. It is merged in any case. 0 is a minute.
	MaxDrift time.Duration
	// Logger is told of the log's life, never of single events; nil discards.
	Logger *slog.Logger
	// Meter makes the instruments; nil makes none.
	Meter metric.Meter
}

// Errors that a caller branches on.
var (
	// ErrDeposed says that another writer has taken the shard.
	ErrDeposed = errors.New("stream: deposed by another writer")
	// ErrTrimmed says that retention removed what was still to be read.
	ErrTrimmed = errors.New("stream: retention overtook the reader")
	// ErrClosed says that the log or the writer was closed.
	ErrClosed = errors.New("stream: closed")
)

const (
	// openPatience is for how long Open waits for an external server.
	openPatience = time.Minute
	// pingEvery is how often a server is asked for a sign of life. A dead link is
	// noticed after three times that.
	pingEvery         = 1500 * time.Millisecond
	defaultMaxAge     = 168 * time.Hour
	defaultDuplicates = 5 * time.Minute
)

// Log is an open event log. Safe for concurrent use.
type Log struct {
	// static after construction
	cfg        Config
	boot       string // names this opening of the log
	server     *embedded
	nc         *nats.Conn // everything but appends
	appends    *nats.Conn // appends: never buffers while it reconnects
	js         jetstream.JetStream
	direct     *direct
	shards     []*shard
	logger     *slog.Logger
	inst       instruments
	sightings  sightings
	sights     sights
	disk       disk
	registered *recent[string] // users, see Register
	stop       context.CancelFunc
	work       context.Context // ended by Close
	working    sync.WaitGroup  // watch and writeSightings

	// halfOpen counts connections that were given up and that the server may still
	// think are there, with all that was asked for over them.
	halfOpen atomic.Int64
	reached  atomic.Int64 // Unix ns of the server's last answer to watch
	held     sync.Map     // *Writer whose appends are not stored: since when, a time.Time
}

// Open opens the log, starting an embedded server when cfg.URL is empty, and
// creates or checks its streams and buckets. It returns an error that names
// every stream and setting that is not as it must be; age, bytes and replicas
// are changed in place. For an external server that does not answer, or whose
// cluster has no leader, it waits a minute.
func Open(ctx context.Context, cfg Config) (*Log, error) {
	cfg.Node = SafeName(cfg.Node)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Wall == nil {
		cfg.Wall = time.Now
	}
	if cfg.MaxAge == 0 {
		cfg.MaxAge = defaultMaxAge
	}
	if cfg.MaxDrift == 0 {
		cfg.MaxDrift = hlc.DefaultMaxDrift
	}
	if cfg.Reserve == 0 {
		cfg.Reserve = defaultReserve
	}
	if cfg.SyncInterval == 0 {
		cfg.SyncInterval = time.Second
	}
	if cfg.Meter == nil {
		cfg.Meter = noop.Meter{}
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	for n, began := 0, time.Now(); ; n++ {
		l := &Log{
			cfg: cfg, boot: uuid.NewString(), logger: cfg.Logger,
			sightings: newSightings(), registered: newRecent[string](registeredFor, registeredMost),
		}
		err := l.open(ctx)
		if err == nil {
			return l, nil
		}
		l.Close()
		if cfg.URL == "" || !isPassing(err) || time.Since(began) > openPatience {
			return nil, err
		}
		cfg.Logger.Warn("the log cannot be opened yet", "err", err)
		if !retry(ctx, n) {
			return nil, err
		}
	}
}

// isPassing reports whether err may be of a server or a cluster that is about to
// start, or has lost its leader.
func isPassing(err error) bool {
	for _, is := range []error{
		nats.ErrNoServers, nats.ErrTimeout, nats.ErrNoResponders, nats.ErrConnectionClosed, nats.ErrDisconnected,
		jetstream.ErrJetStreamNotEnabled, context.DeadlineExceeded,
	} {
		if errors.Is(err, is) {
			return true
		}
	}
	var malformed *url.Error
	if errors.As(err, &malformed) {
		return false
	}
	var network net.Error
	var api *jetstream.APIError
	return errors.As(err, &network) || errors.As(err, &api) && (api.Code == 503 || api.ErrorCode == codeNoPeers)
}

// codeNoPeers is the server's error code for "no suitable peers for placement".
const codeNoPeers = 10005

func (cfg Config) validate() error {
	var errs []error
	for _, c := range []struct {
		wrong bool
		text  string
	}{
		{cfg.Shards < 0 || cfg.Shards > 1024, fmt.Sprintf("stream: %d shards, want 1 to 1024", cfg.Shards)},
		{cfg.Replicas < 0 || cfg.Replicas > 5, fmt.Sprintf("stream: %d replicas, want 1 to 5", cfg.Replicas)},
		{cfg.URL == "" && cfg.Replicas > 1, fmt.Sprintf("stream: %d replicas, an embedded server keeps 1", cfg.Replicas)},
		{cfg.MaxAge < time.Second, fmt.Sprintf("stream: a maximum age of %v, want at least 1s", cfg.MaxAge)},
		{cfg.MaxBytes < 0, fmt.Sprintf("stream: at most %d bytes, want 0 or more", cfg.MaxBytes)},
		{cfg.SyncInterval < 0, fmt.Sprintf("stream: a sync interval of %v, want 0 or more", cfg.SyncInterval)},
	} {
		if c.wrong {
			errs = append(errs, errors.New(c.text))
		}
	}
	return errors.Join(errs...)
}

func (l *Log) open(ctx context.Context) error {
	var err error
	if l.inst, err = newInstruments(l.cfg.Meter); err != nil {
		return err
	}
	if l.cfg.URL == "" {
		if l.server, err = startEmbedded(l.cfg); err != nil {
			return err
		}
	}
	if l.nc, err = l.connect("reprise " + l.cfg.Node); err != nil {
		return err
	}
	if l.appends, err = l.connect("reprise "+l.cfg.Node+" appends", nats.ReconnectBufSize(-1)); err != nil {
		return err
	}
	if most := l.nc.MaxPayload(); most < maxFrame+headerRoom {
		return fmt.Errorf("stream: the server's max_payload is %d, want at least %d", most, maxFrame+headerRoom)
	}
	if l.js, err = jetstream.New(l.nc); err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	if l.direct, err = newDirect(l.nc); err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	if err := l.define(ctx); err != nil {
		return err
	}
	l.work, l.stop = context.WithCancel(context.Background())
	l.reached.Store(time.Now().UnixNano())
	l.sights.ends = make([]atomic.Pointer[sight], len(l.shards))
	l.sights.folded = make([]atomic.Pointer[foldRecord], len(l.shards))
	if err := l.gauges(l.cfg.Meter); err != nil {
		return fmt.Errorf("stream: instruments: %w", err)
	}
	if l.server != nil {
		l.look() // before the first append
		l.working.Go(func() { l.watchDisk(l.work) })
	}
	l.working.Go(func() { l.watch(l.work) })
	l.working.Go(func() { l.writeSightings(l.work) })
	return nil
}

func (l *Log) connect(name string, more ...nats.Option) (*nats.Conn, error) {
	opts := append([]nats.Option{
		nats.Name(name),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // credentials that are wrong now may be right later
		nats.ReconnectWait(100 * time.Millisecond),
		nats.ReconnectJitter(200*time.Millisecond, 500*time.Millisecond),
		nats.PingInterval(pingEvery),
		nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
				l.halfOpen.Add(1)
			}
			if err != nil {
				l.logger.Warn("nats disconnected", "err", err)
			}
		}),
		nats.ReconnectHandler(func(c *nats.Conn) { l.logger.Info("nats reconnected", "url", c.ConnectedUrlRedacted()) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			l.logger.Warn("nats reported an error", "err", err)
		}),
	}, more...)
	servers := l.cfg.URL
	if l.server != nil {
		opts = append(opts, nats.InProcessServer(l.server))
	} else {
		identity, err := l.cfg.identity()
		if err != nil {
			return nil, err
		}
		opts = append(opts, identity...)
	}
	nc, err := nats.Connect(servers, opts...)
	if err != nil {
		return nil, fmt.Errorf("stream: connect to nats %s: %w", redacted(servers), err)
	}
	return nc, nil
}

// identity is who cfg is for an external server, and whom it trusts.
func (cfg Config) identity() (opts []nats.Option, err error) {
	if cfg.Creds != "" {
		opts = append(opts, nats.UserCredentials(cfg.Creds))
	}
	if cfg.Nkey != "" {
		seed, err := nats.NkeyOptionFromSeed(cfg.Nkey)
		if err != nil {
			return nil, fmt.Errorf("stream: nkey: %w", err)
		}
		opts = append(opts, seed)
	}
	if cfg.CA != "" {
		opts = append(opts, nats.RootCAs(cfg.CA))
	}
	if cfg.Cert != "" {
		opts = append(opts, nats.ClientCert(cfg.Cert, cfg.Key))
	}
	return opts, nil
}

// redacted is a list of server addresses without what they say of users.
func redacted(urls string) string {
	list := strings.Split(urls, ",")
	for i, one := range list {
		if u, err := url.Parse(strings.TrimSpace(one)); err == nil {
			list[i] = u.Redacted()
		} else {
			list[i] = "(not a URL)"
		}
	}
	return strings.Join(list, ",")
}

// Unreachable says for how long the log has not answered, zero while it does.
func (l *Log) Unreachable() time.Duration {
	if d := time.Since(time.Unix(0, l.reached.Load())); d > 5*time.Second {
		return d
	}
	return 0
}

// Held says for how long a writer of this Log has not got an event stored that
// it wants stored, zero when there is none: the disk is full, the leader lost.
func (l *Log) Held() (d time.Duration) {
	l.held.Range(func(_, since any) bool {
		d = max(d, time.Since(since.(time.Time)))
		return true
	})
	return d
}

func (l *Log) hold(w *Writer)   { l.held.LoadOrStore(w, time.Now()) }
func (l *Log) unhold(w *Writer) { l.held.Delete(w) }

// Close ends the log's connections and, where it is embedded, its server.
// Writers and followers must have ended before. It is harmless to call twice.
func (l *Log) Close() error {
	if l.stop != nil {
		l.stop()
		l.working.Wait()
	}
	for _, nc := range []*nats.Conn{l.appends, l.nc} {
		if nc != nil {
			nc.Close()
		}
	}
	if l.server != nil {
		l.server.stop()
		l.server = nil
	}
	return nil
}

// Shards is the number of shards.
func (l *Log) Shards() int { return len(l.shards) }

// Shard is the shard, from 0, that holds user's events.
func (l *Log) Shard(user string) int { return shardOf(user, len(l.shards)) }

// ClientURL is where the embedded server listens, "" when it does not.
func (l *Log) ClientURL() string {
	if l.server == nil || l.cfg.Listen == "" {
		return ""
	}
	return l.server.current().ClientURL()
}

// retry waits before the n-th repetition (from 0) of something that failed,
// between 10 ms and a second, or until ctx ends, which it reports as false.
func retry(ctx context.Context, n int) bool {
	t := time.NewTimer(min(10*time.Millisecond<<min(n, 7), time.Second))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
