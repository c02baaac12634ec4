package stream

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"

	"reprise/hlc"
)

// parseRecord reads a stored message of a shard: everything but its sequence
// and its time, which every way of reading tells differently.
func parseRecord(r *Record, subject string, h nats.Header, data []byte) error {
	stamp, err := hlc.Parse(header(h, headerHlc))
	if err != nil {
		return fmt.Errorf("%s: %w", headerHlc, err)
	}
	*r = Record{
		Kind:        KindEvent,
		Position:    Position{Seq: r.Seq, Hlc: stamp},
		Stored:      r.Stored,
		User:        userOf(subject),
		ID:          header(h, headerMsgID),
		Device:      header(h, headerDevice),
		Timetoken:   header(h, headerTimetoken),
		Traceparent: header(h, headerTraceparent),
		Tracestate:  header(h, headerTracestate),
		Frame:       data,
	}
	if x := header(h, headerExpires); x != "" {
		r.Expires, _ = strconv.ParseInt(x, 10, 64)
	}
	if r.User == markerToken {
		r.Kind, r.ID, r.User, r.Frame = KindMarker, "", "", nil
		if header(h, headerGapTo) != "" {
			r.Kind, r.GapUser = KindGap, header(h, headerGapUser)
		}
	}
	return nil
}

// parseDirect reads a message of a Direct Get. With an error, which says that
// no bridge wrote the record, r still has its sequence.
func parseDirect(m *nats.Msg) (r Record, err error) {
	r.Seq = number(m.Header, headerSequence)
	err = parseRecord(&r, header(m.Header, headerSubject), m.Header, m.Data)
	return r, err
}

// parseLeader reads a message from the leader's answer, as parseDirect.
func parseLeader(m leaderMsg) (Record, nats.Header, error) {
	r := Record{Position: Position{Seq: m.Seq}, Stored: m.Time}
	h, err := decodeHeader(m.Header)
	if err == nil {
		err = parseRecord(&r, m.Subject, h, m.Data)
	}
	return r, h, err
}

// decodeHeader reads "NATS/1.0\r\nKey: value\r\n…\r\n\r\n", keeping the case of
// keys.
func decodeHeader(raw []byte) (nats.Header, error) {
	_, rest, ok := bytes.Cut(raw, []byte("\r\n"))
	if !ok {
		return nil, fmt.Errorf("a record without headers")
	}
	h := make(nats.Header)
	for {
		line, after, ok := bytes.Cut(rest, []byte("\r\n"))
		if !ok || len(line) == 0 {
			return h, nil
		}
		key, value, _ := bytes.Cut(line, []byte(":"))
		h[string(key)] = append(h[string(key)], string(bytes.TrimSpace(value)))
		rest = after
	}
}
