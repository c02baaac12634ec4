package pubnubtest

import (
	"bytes"
	"cmp"
	"slices"
	"time"
)

// A PublishOption says something about a message besides its channel and its
// payload. With two options for the same thing the last one counts, but see
// [Extra].
type PublishOption func(*draft)

// A draft is a message on its way into the log.
type draft struct {
	message
	late time.Duration
	fire bool
}

// From sets the publisher's user id: i in the envelope, uuid in history.
func From(userID string) PublishOption { return func(d *draft) { d.uuid = userID } }

// Meta sets the metadata, a JSON text: u in the envelope, meta in history.
func Meta(json []byte) PublishOption { return func(d *draft) { d.meta = bytes.Clone(json) } }

// Custom sets the custom message type: cmt in the envelope.
func Custom(kind string) PublishOption { return func(d *draft) { d.custom = kind } }

// Type sets the message type: e in the envelope. 0 message, 1 signal,
// 2 objects event, 3 message action, 4 file.
func Type(e int) PublishOption { return func(d *draft) { d.kind = e } }

// Sequence sets the publisher's sequence number: s in the envelope.
func Sequence(n int) PublishOption { return func(d *draft) { d.sequence = n } }

// NoStore keeps the message out of history.
func NoStore() PublishOption { return func(d *draft) { d.unstored = true } }

// TTL lets history forget the message after d; 0 is after Config.HistoryAge.
func TTL(d time.Duration) PublishOption { return func(x *draft) { x.expires = int64(d / 100) } }

// InRegion sets p.r, the region where the message was published; 0 is Config.Region.
func InRegion(r int) PublishOption { return func(d *draft) { d.region = r } }

// Late makes the message's timetoken older than its arrival by d, as with a
// message from another region: its p.t is below cursors that subscribers have
// passed already, and it is delivered all the same.
func Late(d time.Duration) PublishOption { return func(x *draft) { x.late = d } }

// Extra sets an envelope field to any text, whether it is JSON or not: a field
// of the message's own is replaced, another one is added. History is not
// affected.
func Extra(field, raw string) PublishOption {
	return func(d *draft) { d.extra = append(slices.Clip(d.extra), extraField{field, raw}) }
}

// Omit leaves envelope fields out. History is not affected.
func Omit(fields ...string) PublishOption {
	return func(d *draft) {
		for _, f := range fields {
			d.extra = append(slices.Clip(d.extra), extraField{name: f})
		}
	}
}

// Publish puts a message into the log without any of the checks of the publish
// endpoint, and without a request in the journal, and returns its timetoken.
// The payload is copied and goes out as it is; nil is null. It costs one to
// three microseconds, whoever subscribes.
func (s *Server) Publish(channel string, payload []byte, options ...PublishOption) int64 {
	d := draft{}
	for _, o := range options {
		o(&d)
	}
	if len(payload) == 0 {
		payload = []byte("null")
	}
	d.payload = bytes.Clone(payload)
	return s.publish(channel, &d)
}

// publish completes a draft, logs it and returns its timetoken.
func (s *Server) publish(channel string, d *draft) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := &d.message
	m.timetoken, m.cursor = s.clock.message()
	if d.fire {
		return m.timetoken
	}
	now := s.clock.wall()
	if s.cfg.HistoryDelay > 0 {
		m.appears = now + int64(s.cfg.HistoryDelay/100)
	}
	if life := cmp.Or(m.expires, int64(s.cfg.HistoryAge/100)); life != 0 {
		m.expires = now + life
	}
	m.unstored = m.unstored || s.cfg.NoHistory
	m.timetoken -= int64(d.late / 100)
	if m.region == 0 {
		m.region = s.cfg.Region
	}
	if s.cfg.OmitFields > 0 {
		for bit := fieldI; bit <= fieldCMT; bit <<= 1 {
			if s.chance.Float64() < s.cfg.OmitFields {
				m.omit |= bit
			}
		}
	}
	m.ch = s.log.channel(channel)
	s.log.append(m)
	return m.timetoken
}
