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
		Device:      header(h, headerDevice),
		Traceparent: header(h, headerTraceparent),
		Tracestate:  header(h, headerTracestate),
		Frame:       data,
	}
	if x := header(h, headerExpires); x != "" {
		r.Expires, _ = strconv.ParseInt(x, 10, 64)
	}
	if r.User == markerToken {
		r.Kind, r.User, r.Frame = KindMarker, "", nil
		if header(h, headerGapTo) != "" {
			r.Kind, r.GapUser = KindGap, header(h, headerGapUser)
		}
	}
	return nil
}

// parseLeader reads a message from the leader's answer.
func parseLeader(m leaderMsg) (Record, nats.Header, error) {
	h, err := decodeHeader(m.Header)
	if err != nil {
		return Record{}, nil, err
	}
	r := Record{Position: Position{Seq: m.Seq}, Stored: m.Time}
	err = parseRecord(&r, m.Subject, h, m.Data)
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
