package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"github.com/nats-io/nats-server/v2/server"
)

// embedded is a NATS server inside the process and the lock on its files.
type embedded struct {
	lock *os.File // static after construction

	// guarded by mu
	mu  sync.Mutex
	cfg Config
	ns  *server.Server
}

// startEmbedded starts a server on cfg.DataDir. A second process on the same
// directory is refused by a lock on the file "lock" in it.
func startEmbedded(cfg Config) (*embedded, error) {
	if cfg.DataDir == "" {
		return nil, errors.New("stream: data directory is not set")
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("stream: data directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(cfg.DataDir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("stream: data directory: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("stream: data directory %s is in use by another process", cfg.DataDir)
	}
	ns, err := startServer(cfg)
	if err != nil {
		lock.Close()
		return nil, err
	}
	return &embedded{cfg: cfg, ns: ns, lock: lock}, nil
}

func newServer(cfg Config) (*server.Server, error) {
	opts := &server.Options{
		ServerName:             "reprise-" + cfg.Node,
		DontListen:             cfg.Listen == "",
		JetStream:              true,
		JetStreamMaxStore:      1 << 60, // the disk's room is looked at here, see watchDisk
		StoreDir:               cfg.DataDir,
		SyncInterval:           cfg.SyncInterval,
		SyncAlways:             cfg.SyncAlways,
		DisableJetStreamBanner: true,
		NoSigs:                 true,
	}
	if cfg.Listen != "" {
		host, port, err := net.SplitHostPort(cfg.Listen)
		if err != nil {
			return nil, fmt.Errorf("stream: listen address %q: %w", cfg.Listen, err)
		}
		if opts.Port, err = strconv.Atoi(port); err != nil {
			return nil, fmt.Errorf("stream: listen address %q: %w", cfg.Listen, err)
		}
		if opts.Port == 0 {
			opts.Port = server.RANDOM_PORT
		}
		opts.Host = host
	}
	ns, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("stream: embedded server: %w", err)
	}
	ns.SetLoggerV2(serverLog{cfg.Logger.With("component", "nats")}, false, false, false)
	return ns, nil
}

// stop shuts the server down, which writes its state, and frees the lock.
func (e *embedded) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ns.Shutdown()
	e.ns.WaitForShutdown()
	e.lock.Close()
}

// serverLog hands the server's log lines on. Its notices are routine, so they
// are debug lines here.
type serverLog struct{ log *slog.Logger }

func (s serverLog) Noticef(format string, v ...any) { s.line(slog.LevelDebug, format, v) }
func (s serverLog) Warnf(format string, v ...any)   { s.line(slog.LevelWarn, format, v) }
func (s serverLog) Errorf(format string, v ...any)  { s.line(slog.LevelError, format, v) }
func (s serverLog) Fatalf(format string, v ...any)  { s.line(slog.LevelError, format, v) }
func (s serverLog) Debugf(format string, v ...any)  { s.line(slog.LevelDebug, format, v) }
func (s serverLog) Tracef(format string, v ...any)  { s.line(slog.LevelDebug, format, v) }

func (s serverLog) line(level slog.Level, format string, v []any) {
	s.log.Log(context.Background(), level, "nats server", "text", fmt.Sprintf(format, v...))
}
