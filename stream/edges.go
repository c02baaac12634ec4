package stream

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// edgesTimeout is how long edges may take to answer.
const edgesTimeout = time.Second

// AskEdges sends a request to every edge and returns the answers of those that
// are there within a second, and the names of those that should be and are not:
// a consumer of theirs is left, as for ten minutes after an edge has gone.
func (l *Log) AskEdges(ctx context.Context, request []byte) (answers map[string][]byte, silent []string, err error) {
	expected, err := l.edges(ctx)
	if err != nil {
		return nil, nil, wrap("edges", err)
	}
	inbox := nats.NewInbox()
	replies := make(chan *nats.Msg, maxConsumers)
	sub, err := l.nc.ChanSubscribe(inbox, replies)
	if err != nil {
		return nil, nil, wrap("ask edges", err)
	}
	defer sub.Unsubscribe()
	if err := l.nc.PublishRequest(edgesSubject, inbox, request); err != nil {
		return nil, nil, wrap("ask edges", err)
	}
	ctx, cancel := context.WithTimeout(ctx, edgesTimeout)
	defer cancel()
	answers = map[string][]byte{}
	missing := func() (names []string) {
		for _, name := range expected {
			if _, ok := answers[name]; !ok {
				names = append(names, name)
			}
		}
		return names
	}
	for len(expected) > 0 && len(missing()) > 0 {
		select {
		case m := <-replies:
			if name := header(m.Header, headerNode); name != "" { // or the server's, that nobody listens
				answers[name] = m.Data
			}
		case <-ctx.Done():
			return answers, missing(), nil
		}
	}
	return answers, nil, nil
}

// AnswerEdges calls fn, from one goroutine, for each request of AskEdges, until
// ctx ends; then it returns nil.
func (l *Log) AnswerEdges(ctx context.Context, fn func(request []byte) []byte) error {
	requests := make(chan *nats.Msg, answersWaiting)
	sub, err := l.nc.ChanSubscribe(edgesSubject, requests)
	if err != nil {
		return wrap("answer for this edge", err)
	}
	defer sub.Unsubscribe()
	for {
		select {
		case m := <-requests:
			reply := &nats.Msg{Subject: m.Reply, Header: nats.Header{headerNode: {l.cfg.Node}}, Data: fn(m.Data)}
			if err := l.nc.PublishMsg(reply); err != nil {
				l.logger.Warn("a request to this edge is not answered", "err", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// edges are the names of the nodes that have a consumer of the first shard.
func (l *Log) edges(ctx context.Context) (names []string, err error) {
	for offset := 0; ; {
		var page struct {
			Total     int       `json:"total"`
			Consumers []string  `json:"consumers"`
			Error     *apiError `json:"error"`
		}
		if err := l.api(ctx, "CONSUMER.NAMES."+eventsStream(0), map[string]int{"offset": offset}, &page); err != nil {
			return nil, err
		}
		if page.Error != nil {
			return nil, fmt.Errorf("%s: %w", eventsStream(0), page.Error)
		}
		for _, consumer := range page.Consumers {
			if name, ok := strings.CutPrefix(consumer, edgePrefix); ok {
				names = append(names, name)
			}
		}
		offset += len(page.Consumers)
		if len(page.Consumers) == 0 || offset >= page.Total {
			return names, nil
		}
	}
}
