package stream

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// pullExpiry is how long a consumer is asked to wait for records.
	pullExpiry = 30 * time.Second
	// pullHeartbeat is how often it says meanwhile that it is there. One from which
	// nothing came for twice that is taken for dead.
	pullHeartbeat = 2 * time.Second
)

// ephemeral is a consumer for one reader: in memory, on one server, without
// acknowledgements. When it is gone, or a delivery is missing, next says so, and
// whoever reads makes another one. nats.go's ordered consumer does that by itself,
// but heeds no context meanwhile, which lasts for as long as the server makes none.
// Its stop must be called. It is for one goroutine.
type ephemeral struct {
	it     jetstream.MessagesContext
	number uint64 // of the newest delivery
}

func (l *Log) ephemeral(ctx context.Context, stream string, cfg jetstream.ConsumerConfig) (*ephemeral, error) {
	cfg.AckPolicy, cfg.MemoryStorage, cfg.Replicas, cfg.InactiveThreshold = jetstream.AckNonePolicy, true, 1, pullExpiry
	c, err := l.js.CreateConsumer(ctx, stream, cfg)
	if err != nil {
		return nil, err
	}
	it, err := c.Messages(jetstream.PullMaxMessages(500), jetstream.PullExpiry(pullExpiry), jetstream.PullHeartbeat(pullHeartbeat))
	if err != nil {
		return nil, err
	}
	return &ephemeral{it: it}, nil
}

// next waits for the next delivery. It returns errHole when that is not the one.
func (e *ephemeral) next(ctx context.Context) (jetstream.Msg, delivery, error) {
	m, err := e.it.Next(jetstream.NextContext(ctx))
	if err != nil {
		return nil, delivery{}, err
	}
	d, err := deliveryOf(m.Reply())
	if err != nil {
		return nil, delivery{}, err
	}
	if e.number++; d.number != e.number {
		return nil, delivery{}, fmt.Errorf("delivery %d came where %d was due: %w", d.number, e.number, errHole)
	}
	return m, d, nil
}

func (e *ephemeral) stop() { e.it.Stop() }
