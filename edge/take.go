package edge

import (
	"time"

	"reprise/hlc"
)

// take acts on one message of the device.
func (c *conn) take(text []byte) {
	f, bad := parseFrame(text, c.server.cfg.OpaqueIDs, time.Now().UnixMilli())
	free := bad == nil && (f.kind == frameAck || f.kind == framePing || f.kind == frameHeartbeat)
	if free {
		if !c.slow(&c.controls, controlRate, controlBurst) {
			return
		}
	} else if !c.slow(&c.messages, c.server.cfg.MessageRate, messageBurst) {
		return
	}
	if bad != nil {
		if bad.code == "expired" {
			c.server.metrics.updates.add("expired")
		}
		c.answerBad(f.id, bad)
		return
	}
	switch f.kind {
	case framePing:
		c.reply(appendPong(nil))
	case frameHeartbeat: // a sign of life, as any frame
	case frameAck:
		c.ack(f)
	case frameToken:
		c.renew(f.token)
	default:
		c.submit(&f)
	}
}

func (c *conn) answerBad(id string, bad *badFrame) {
	c.server.metrics.bad(bad.code)
	c.reply(appendError(nil, id, bad.code, bad.message))
}

// ack keeps what the device says that it has. One that is not ahead of the last
// is stale, and ignored.
func (c *conn) ack(f deviceFrame) {
	if uint64(f.hlc) > c.told.Load() {
		c.answerBad("", &badFrame{"bad_field", "hlc: above what was sent"})
		return
	}
	if f.hlc <= max(c.acked, hlc.Timestamp(c.resumed.Load())) {
		return
	}
	c.acked = f.hlc
	c.server.cursors.ack(c.user, c.device, f.hlc)
}

// renew takes a fresh token. A bad one ends the connection, after saying why:
// nothing good can come from that device until it has another.
func (c *conn) renew(token string) {
	authenticate := c.server.cfg.Authenticate
	if authenticate == nil {
		return
	}
	who, err := authenticate(token)
	if err != nil || who.User != c.user || who.Device != "" && who.Device != c.device ||
		!who.Expires.IsZero() && !time.Now().Before(who.Expires) || c.server.revoked(who.User, who.Issued) {
		c.answerBad("", &badFrame{"bad_token", "the token is not valid for this connection"})
		c.close(codeBadToken, "bad token")
		return
	}
	c.expires.Store(unixMilli(who.Expires))
	c.server.wheel.schedule(c, c.server.elapsed())
}

func unixMilli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
