package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// msgGet is a request of the JetStream API for stored messages: to the leader
// (STREAM.MSG.GET, one message) or to any replica (Direct Get, ADR-31).
type msgGet struct {
	Seq       uint64     `json:"seq,omitempty"`
	LastFor   string     `json:"last_by_subj,omitempty"`
	NextFor   string     `json:"next_by_subj,omitempty"`
	Batch     int        `json:"batch,omitempty"`
	MaxBytes  int        `json:"max_bytes,omitempty"`
	StartTime *time.Time `json:"start_time,omitempty"`
	MultiLast []string   `json:"multi_last,omitempty"`
}

// errHole says that a batch came without some of its messages: the connection
// was cut inside it and was back before its end.
var errHole = errors.New("a batch came with a hole")

// errNoMessage says that no stored message is what was asked for.
var errNoMessage = errors.New("no such message")

// leaderMsg is a stored message as the stream's leader knows it.
type leaderMsg struct {
	Subject string    `json:"subject"`
	Seq     uint64    `json:"seq"`
	Header  []byte    `json:"hdrs"`
	Data    []byte    `json:"data"`
	Time    time.Time `json:"time"`
}

// leaderGet asks stream's leader for one message: errNoMessage if there is none.
func (l *Log) leaderGet(ctx context.Context, stream string, req msgGet) (leaderMsg, error) {
	var answer struct {
		Message leaderMsg `json:"message"`
		Error   *apiError `json:"error"`
	}
	if err := l.api(ctx, "STREAM.MSG.GET."+stream, req, &answer); err != nil {
		return leaderMsg{}, err
	}
	if e := answer.Error; e != nil {
		if e.ErrCode == codeNoMessage {
			return leaderMsg{}, errNoMessage
		}
		return leaderMsg{}, fmt.Errorf("stream: %s: %w", stream, e)
	}
	return answer.Message, nil
}

// The server's error codes for "no message found" and "stream not found".
const (
	codeNoMessage = 10037
	codeNoStream  = 10059
)

// apiError is an error of the JetStream API.
type apiError struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

func (e *apiError) Error() string { return e.Description + " (" + strconv.Itoa(e.ErrCode) + ")" }

// streamState is the part of a stream's state that is looked at.
type streamState struct {
	First     uint64    `json:"first_seq"`
	FirstTime time.Time `json:"first_ts"`
	Last      uint64    `json:"last_seq"`
	LastTime  time.Time `json:"last_ts"`
	Messages  uint64    `json:"messages"`
}

// info asks the leader of shard for its state.
func (l *Log) info(ctx context.Context, shard int) (streamState, error) {
	return l.state(ctx, eventsStream(shard))
}

// state asks stream's leader for its state.
func (l *Log) state(ctx context.Context, stream string) (streamState, error) {
	var answer struct {
		State streamState `json:"state"`
		Error *apiError   `json:"error"`
	}
	if err := l.api(ctx, "STREAM.INFO."+stream, struct{}{}, &answer); err != nil {
		return streamState{}, err
	}
	if answer.Error != nil {
		return streamState{}, fmt.Errorf("stream: %s: %w", stream, answer.Error)
	}
	return answer.State, nil
}

// deleteMsg takes the message numbered seq out of stream. One that is gone is
// no error.
func (l *Log) deleteMsg(ctx context.Context, stream string, seq uint64) error {
	return l.remove(ctx, stream, seq, false)
}

// remove deletes the message numbered seq and, if erase says so, has the server
// overwrite its bytes. One that is gone is no error: the server has several ways
// to say so, its leader one.
func (l *Log) remove(ctx context.Context, stream string, seq uint64, erase bool) error {
	req := struct {
		Seq     uint64 `json:"seq"`
		NoErase bool   `json:"no_erase"`
	}{seq, !erase}
	var answer struct {
		Error *apiError `json:"error"`
	}
	if err := l.api(ctx, "STREAM.MSG.DELETE."+stream, req, &answer); err != nil {
		return err
	}
	if answer.Error == nil {
		return nil
	}
	if _, err := l.leaderGet(ctx, stream, msgGet{Seq: seq}); errors.Is(err, errNoMessage) {
		return nil
	}
	return fmt.Errorf("stream: %s: delete %d: %w", stream, seq, answer.Error)
}

// apiTimeout bounds one question to the server.
const apiTimeout = 5 * time.Second

func (l *Log) api(ctx context.Context, what string, req, answer any) error {
	data, err := json.Marshal(req)
	if err != nil {
		return wrap(what, err)
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	m, err := l.nc.RequestWithContext(ctx, "$JS.API."+what, data)
	if err != nil {
		return wrap(what, err)
	}
	return wrap(what, json.Unmarshal(m.Data, answer))
}

// direct asks for batches by Direct Get. All answers come to one wildcard
// inbox; the last token of the reply subject says whose they are.
type direct struct {
	nc     *nats.Conn
	prefix string

	mu      sync.Mutex
	next    uint64
	waiting map[string]chan *nats.Msg // sent to by the subscription, never closed
}

func newDirect(nc *nats.Conn) (*direct, error) {
	d := &direct{nc: nc, prefix: nats.NewInbox() + ".", waiting: make(map[string]chan *nats.Msg)}
	sub, err := nc.Subscribe(d.prefix+"*", d.receive)
	if err != nil {
		return nil, err
	}
	return d, sub.SetPendingLimits(-1, -1) // bounded by the batches in flight
}

func (d *direct) receive(m *nats.Msg) {
	d.mu.Lock()
	ch := d.waiting[m.Subject[len(d.prefix):]]
	d.mu.Unlock()
	if ch == nil {
		return // whoever asked has given up
	}
	select {
	case ch <- m:
	default: // more than asked for: the reader will find its batch incomplete
	}
}

// batchEnd is what the end of a batch tells.
type batchEnd struct {
	pending uint64 // messages that match and lie after the batch
	upTo    uint64 // last sequence of the replica that answered; probes only
}

// get sends req, which must be a batch or a multi_last request for at most
// most messages, and calls fn for each message. A bare "not found" is
// errNoMessage.
func (d *direct) get(ctx context.Context, stream string, req msgGet, most int, fn func(*nats.Msg) error) (batchEnd, error) {
	data, err := json.Marshal(req)
	if err != nil {
		return batchEnd{}, err
	}
	ch := make(chan *nats.Msg, most+1)
	d.mu.Lock()
	d.next++
	token := strconv.FormatUint(d.next, 36)
	d.waiting[token] = ch
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		delete(d.waiting, token)
		d.mu.Unlock()
	}()
	if err := d.nc.PublishRequest("$JS.API.DIRECT.GET."+stream, d.prefix+token, data); err != nil {
		return batchEnd{}, err
	}
	return collect(ctx, stream, ch, fn)
}

// collect calls fn for each message of a batch that comes out of ch, up to its end.
func collect(ctx context.Context, stream string, ch <-chan *nats.Msg, fn func(*nats.Msg) error) (batchEnd, error) {
	var before uint64 // sequence of the message before: the server says it with each
	patience := time.NewTimer(apiTimeout)
	defer patience.Stop()
	for {
		select {
		case <-ctx.Done():
			return batchEnd{}, ctx.Err()
		case <-patience.C:
			return batchEnd{}, fmt.Errorf("direct get %s: %w", stream, nats.ErrTimeout)
		case m := <-ch:
			status := header(m.Header, headerStatus)
			if status == "" || status == "204" {
				if number(m.Header, headerLastSeq) != before {
					return batchEnd{}, fmt.Errorf("direct get %s: %w", stream, errHole)
				}
				before = number(m.Header, headerSequence)
			}
			switch status {
			case "":
				if err := fn(m); err != nil {
					return batchEnd{}, err
				}
			case "204":
				end := batchEnd{upTo: number(m.Header, headerUpTo)}
				end.pending = number(m.Header, headerNumPending)
				return end, nil
			case "404":
				return batchEnd{}, errNoMessage
			case "503":
				return batchEnd{}, fmt.Errorf("direct get %s: %w", stream, nats.ErrNoResponders)
			default:
				return batchEnd{}, fmt.Errorf("direct get %s: status %s", stream, status)
			}
		}
	}
}

// number is the value of a numeric header, 0 where there is none.
func number(h nats.Header, key string) uint64 {
	n, _ := strconv.ParseUint(header(h, key), 10, 64)
	return n
}

// header is the first value of key, spelled exactly so.
func header(h nats.Header, key string) string {
	if v := h[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}
