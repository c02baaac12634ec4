package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrOutboxFull says that the outbox, or this user's part of it, takes no more
// for now.
var ErrOutboxFull = errors.New("stream: the outbox is full")

// Update is what a device sent up, on its way to PubNub.
type Update struct {
	// ID is the device's own, a UUID; its scope is User and Device.
	ID           string
	User, Device string
	// Channel is the PubNub channel to publish to.
	Channel string
	// Expires is the Unix time in milliseconds at which it is worth nothing any
	// more; 0 is never.
	Expires int64
	// Body is what is published: a JSON object.
	Body []byte
}

// submitTimeout bounds one attempt of Submit: a request that was under way to a
// leader that is lost must not use up all the time there is.
const submitTimeout = 2 * time.Second

// nameMost bounds, in bytes, what an update's headers name.
const nameMost = 512

// headerSafe says whether s comes back from a header as it was put in.
func headerSafe(s string) bool {
	return s != "" && len(s) <= nameMost && s == strings.TrimSpace(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// message is u as the outbox of shard keeps it.
func (u Update) message(shard int) (*nats.Msg, error) {
	if err := validUser(u.User); err != nil {
		return nil, err
	}
	if !headerSafe(u.ID) || strings.Contains(u.ID, ":") || !headerSafe(u.Device) || !headerSafe(u.Channel) || len(u.Body) == 0 || len(u.Body) > maxFrame {
		return nil, fmt.Errorf("stream: submit user %s: id %q, device %q, channel %q, %d bytes: not an update", u.User, u.ID, u.Device, u.Channel, len(u.Body))
	}
	h := nats.Header{
		headerFormat:  {formatVersion},
		headerMsgID:   {outboxID(u.User, u.Device, u.ID)},
		headerID:      {u.ID},
		headerDevice:  {u.Device},
		headerChannel: {u.Channel},
	}
	if u.Expires != 0 {
		h[headerExpires] = []string{strconv.FormatInt(u.Expires, 10)}
	}
	return &nats.Msg{Subject: outboxSubject(shard, u.User), Data: u.Body, Header: h}, nil
}

// Submit stores u in the outbox and returns when it is stored, or was stored
// under the same id within the last minutes. It returns [ErrOutboxFull] where
// there is no room. A server that does not answer is asked again until ctx
// ends; whether u is stored is then not known, and the id makes it harmless to
// submit it again.
func (l *Log) Submit(ctx context.Context, u Update) error {
	m, err := u.message(l.Shard(u.User))
	if err != nil {
		return err
	}
	if l.disk.full() {
		l.inst.outboxFull.Add(ctx, 1)
		return fmt.Errorf("stream: submit user %s: %w", u.User, ErrOutboxFull)
	}
	for n := 0; ; n++ {
		ask, cancel := context.WithTimeout(ctx, submitTimeout)
		_, err := l.js.PublishMsg(ask, m)
		cancel()
		switch {
		case err == nil:
			return nil
		case isFull(err):
			l.inst.outboxFull.Add(ctx, 1)
			return fmt.Errorf("stream: submit user %s: %w", u.User, ErrOutboxFull)
		case isFinal(err) || !retry(ctx, n):
			return fmt.Errorf("stream: submit user %s: %w", u.User, errors.Join(ctx.Err(), err))
		}
	}
}

// Error codes of the server for a message that there is no room for: of the
// account, the server, its disk; and of a stream that refuses what is new,
// which is told from other troubles of the store by its text alone.
const (
	codeAccountFull = 10002
	codeServerFull  = 10023
	codeDiskFull    = 10047
	codeNotStored   = 10077
	limitReached    = "maximum " // … bytes, messages, messages per subject exceeded
)

// codeInFlight is the server's error code for an id that it is storing just now.
const codeInFlight = 10158

// isFull says whether err is a server's that has no room.
func isFull(err error) bool {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return false
	}
	switch api.ErrorCode {
	case codeAccountFull, codeServerFull, codeDiskFull:
		return true
	case codeNotStored:
		return strings.HasPrefix(api.Description, limitReached)
	}
	return false
}

// isFinal says whether asking again is no use: the server has judged, or the
// log was closed.
func isFinal(err error) bool {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return api.Code < 500 && api.ErrorCode != codeInFlight
	}
	return errors.Is(err, nats.ErrConnectionClosed)
}

// Settle takes an entry out of the outbox: it was published, dropped or buried.
// It is harmless to repeat, and goes on until ctx ends. The entry is deleted by
// its number: an acknowledgement would be lost with the consumer that it is for.
func (l *Log) Settle(ctx context.Context, p Pending) error {
	for n := 0; ; n++ {
		err := l.settle(ctx, p)
		if err == nil {
			return nil
		}
		if n == 0 {
			l.logger.Warn("outbox entry is not settled yet", "seq", p.Seq, "err", err)
		}
		if isFinal(err) || !retry(ctx, n) {
			return fmt.Errorf("stream: settle %d of user %s: %w", p.Seq, p.User, errors.Join(ctx.Err(), err))
		}
	}
}

// settle looks before it deletes: a server that lost its newest entries in a
// power cut gives their numbers to others.
func (l *Log) settle(ctx context.Context, p Pending) error {
	m, err := l.leaderGet(ctx, outboxStream, msgGet{Seq: p.Seq})
	if errors.Is(err, errNoMessage) {
		return nil
	}
	if err != nil {
		return err
	}
	h, err := decodeHeader(m.Header)
	if err != nil || header(h, headerMsgID) != outboxID(p.User, p.Device, p.ID) {
		l.logger.Warn("another outbox entry has the number of one that is settled", "seq", p.Seq)
		return nil
	}
	return l.deleteMsg(ctx, outboxStream, p.Seq)
}

// OutboxDepth is how many entries wait in the outbox of all shards.
func (l *Log) OutboxDepth(ctx context.Context) (uint64, error) {
	state, err := l.state(ctx, outboxStream)
	return state.Messages, err
}

// Pending is an Update in the outbox.
type Pending struct {
	Update
	Seq    uint64    // its place in the outbox
	Stored time.Time // when it was stored
}
