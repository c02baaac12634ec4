package stream

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Probe connects to the external server of cfg as Open does, and says what is
// there. It makes and changes nothing. It returns an error when the server
// cannot be reached, refuses, or has no JetStream for this account, or when ctx
// ends.
func Probe(ctx context.Context, cfg Config) (string, error) {
	opts, err := cfg.identity()
	if err != nil {
		return "", err
	}
	opts = append(opts, nats.Name("reprise check"), nats.MaxReconnects(0))
	type result struct {
		nc  *nats.Conn
		err error
	}
	connected := make(chan result, 1) // sent to once
	go func() {
		nc, err := nats.Connect(cfg.URL, opts...)
		connected <- result{nc, err}
	}()
	var nc *nats.Conn
	select {
	case r := <-connected:
		if r.err != nil {
			return "", fmt.Errorf("%s: %w", redacted(cfg.URL), r.err)
		}
		nc = r.nc
	case <-ctx.Done():
		go func() {
			if r := <-connected; r.nc != nil {
				r.nc.Close()
			}
		}()
		return "", fmt.Errorf("%s: %w", redacted(cfg.URL), ctx.Err())
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return "", fmt.Errorf("%s: %w", redacted(cfg.URL), err)
	}
	if _, err := js.AccountInfo(ctx); err != nil {
		return "", fmt.Errorf("%s: jetstream: %w", redacted(cfg.URL), err)
	}
	shards, err := shardsThere(ctx, js)
	if err != nil {
		return "", fmt.Errorf("%s: %w", redacted(cfg.URL), err)
	}
	there := fmt.Sprintf("a log of %d shards", shards)
	if shards == 0 {
		there = "no log yet"
	}
	return fmt.Sprintf("%s: nats-server %s, %s", nc.ConnectedUrlRedacted(), nc.ConnectedServerVersion(), there), nil
}
