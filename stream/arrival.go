package stream

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"

	"reprise/hlc"
)

// Word is what an edge tells the others of a connection of a device.
type Word string

const (
	// Arrived: it was made just now.
	Arrived Word = "arrived"
	// Stays: it was made some time ago, and the edge has not heard of its end.
	Stays Word = "stays"
	// Asked: whether it lives. The edge that has it finds out.
	Asked Word = "asked"
	// Lives: its device has answered since the edge was asked.
	Lives Word = "lives"
)

// Arrival is a connection of a device to an edge.
type Arrival struct {
	User, Device string // UUIDs
	// Connection is the connection's id, a UUID.
	Connection string
	// At orders the connections of a device, at whatever edge.
	At hlc.Timestamp
}

// After reports whether a came after o: of connections with equal stamps, by
// their ids.
func (a *Arrival) After(o *Arrival) bool {
	return a.At > o.At || a.At == o.At && a.Connection > o.Connection
}

const (
	arrivalSize = 16 + 3*36
	// arrivalsPerMessage bounds a message to some 120 KB.
	arrivalsPerMessage = 1000
	// arrivalsWaiting bounds the messages that a follower is behind; beyond it
	// further ones are dropped.
	arrivalsWaiting = 4096
)

// Arrive tells every other edge that follows arrivals a word of some. It waits for
// nobody: what an edge that is out of reach misses it does not hear again.
func (l *Log) Arrive(word Word, all []Arrival) error {
	for len(all) > 0 {
		n := min(len(all), arrivalsPerMessage)
		text := make([]byte, 0, n*arrivalSize)
		for i := range all[:n] {
			a := &all[i]
			if len(a.User) != 36 || len(a.Device) != 36 || len(a.Connection) != 36 {
				return fmt.Errorf("stream: arrival of device %q: not UUIDs", a.Device)
			}
			text = a.At.AppendTo(text)
			text = append(append(append(text, a.User...), a.Device...), a.Connection...)
		}
		if err := l.nc.PublishMsg(&nats.Msg{Subject: arrivalsSubject, Header: nats.Header{headerNode: {l.boot}, headerWord: {string(word)}}, Data: text}); err != nil {
			return wrap("tell of arrivals", err)
		}
		all = all[n:]
	}
	return nil
}

// FollowArrivals calls fn, from one goroutine, for each connection that other edges
// tell of, until ctx ends; then it returns nil.
func (l *Log) FollowArrivals(ctx context.Context, fn func(Word, Arrival)) error {
	messages := make(chan *nats.Msg, arrivalsWaiting)
	sub, err := l.nc.ChanSubscribe(arrivalsSubject, messages)
	if err != nil {
		return wrap("follow arrivals", err)
	}
	defer sub.Unsubscribe() // the connection may have ended, and it with it
	for {
		select {
		case m := <-messages:
			if header(m.Header, headerNode) == l.boot {
				continue
			}
			for text := string(m.Data); len(text) >= arrivalSize; text = text[arrivalSize:] {
				at, err := hlc.Parse(text[:16])
				if err != nil {
					l.logger.Error("an arrival that is none is passed over", "err", err)
					break
				}
				fn(Word(header(m.Header, headerWord)), Arrival{At: at, User: text[16:52], Device: text[52:88], Connection: text[88:124]})
			}
		case <-ctx.Done():
			return nil
		}
	}
}
