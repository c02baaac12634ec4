package stream

import (
	"context"
	"fmt"
	"regexp"
	"strconv"

	"github.com/nats-io/nats.go"
)

// deadMost is how much of a dead letter's payload is kept. PubNub takes at
// most 32 KiB, so only something that is not PubNub is ever cut; the header
// Reprise-Cut then tells its whole length.
const deadMost = 512 << 10

// DeadLetter is a PubNub message that broke the rules.
type DeadLetter struct {
	// ID makes burying idempotent. Never empty.
	ID string
	// Reason is one of the protocol's closed list; it is part of the subject.
	Reason string
	// Detail says for a person what was wrong. It holds nothing of the payload.
	Detail    string
	Channel   string
	Timetoken string
	Publisher string
	// Raw is the payload as PubNub delivered it.
	Raw []byte
}

// validReason is what may be the last token of a dead letter's subject.
var validReason = regexp.MustCompile(`^[a-z_]{1,32}$`)

// Bury stores a dead letter and returns when it is stored.
func (l *Log) Bury(ctx context.Context, d DeadLetter) error {
	if d.ID == "" || !validReason.MatchString(d.Reason) {
		return fmt.Errorf("stream: bury: id %q, reason %q: not a dead letter", d.ID, d.Reason)
	}
	h := nats.Header{
		headerFormat: {formatVersion},
		headerMsgID:  {d.ID},
		headerReason: {d.Reason},
	}
	set(h, headerDetail, d.Detail)
	set(h, headerChannel, d.Channel)
	set(h, headerTimetoken, d.Timetoken)
	set(h, headerPublisher, d.Publisher)
	raw := d.Raw
	if len(raw) > deadMost {
		h[headerCut] = []string{strconv.Itoa(len(raw))}
		raw = raw[:deadMost]
	}
	return l.store(ctx, "bury", &nats.Msg{Subject: deadSubject + d.Reason, Data: raw, Header: h})
}
