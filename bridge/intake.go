package bridge

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.opentelemetry.io/otel/trace"

	"reprise/stream"
)

// item is a judged message: what is to be stored of it, or why it cannot be.
type item struct {
	result
	id        string // under which the log knows it
	timetoken string
	size      int                // bytes of the payload
	repeated  bool               // it may be stored already
	ev        stream.Event       // of an event
	dead      *stream.DeadLetter // of a message that broke a rule
}

// everyone stands where a user stands, for announcements. It sorts behind all.
const everyone = "~"

// intake judges m. Its span, if it gets one, is added to open.
func (b *Bridge) intake(ctx context.Context, m *message, open *spans) item {
	it := item{id: m.id, timetoken: m.timetoken, size: len(m.payload)}
	if b.forgotten.some.Load() {
		if user, _ := parseChannel(m.channel); b.forgotten.has(user, m.timetoken) {
			it.outcome = isForgotten
			return it
		}
	}
	var bad *refusal
	if m.odd != "" {
		bad = refuse(BadValue, m.odd)
	} else {
		it.result, bad = b.rules.judge(m.channel, m.payload)
	}
	if bad != nil {
		dead := m.deadLetter(bad)
		it.dead = &dead
		if b.cfg.Logger.Enabled(ctx, slog.LevelDebug) {
			b.cfg.Logger.DebugContext(trace.ContextWithRemoteSpanContext(ctx, remoteContext(m.meta)), "dead letter", "reason", dead.Reason, "timetoken", dead.Timetoken)
		}
		return it
	}
	if it.outcome == isAnnouncement {
		it.user = everyone
	}
	if it.outcome != isEvent {
		return it
	}
	if own := ownID(it.user, m.meta); own != "" {
		it.id, it.repeated = own, true // a publish whose reply is lost is repeated
	}
	it.ev = stream.Event{ID: it.id, User: it.user, Device: it.device, Expires: it.expires,
		Timetoken: m.timetoken, Frame: it.frame, StampAt: it.stampAt, Once: it.id != m.id}
	open.begin(ctx, &it.ev, m)
	return it
}

// deadLetter is what is kept of a message that broke a rule. The publisher
// chose some of it, so what goes beside the payload is cut and cleaned.
func (m *message) deadLetter(why *refusal) stream.DeadLetter {
	return stream.DeadLetter{
		ID:        deadID(m.id),
		Reason:    string(why.reason),
		Detail:    why.detail,
		Channel:   clean(m.channel),
		Timetoken: m.timetoken,
		Publisher: clean(string(m.publisher)),
		Raw:       m.payload,
	}
}

// deadID is id where that is fit to stand in a header, and its hash elsewhere:
// a dead letter that the log cannot take would hold up everything.
func deadID(id string) string {
	fit := len(id) <= 256
	for i := 0; fit && i < len(id); i++ {
		fit = ' ' < id[i] && id[i] <= '~'
	}
	if fit {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:])
}

// clean makes s fit to stand in a header: one line of printable characters, at
// most 256 bytes before anything is escaped. Spaces at its ends would be lost.
func clean(s string) string {
	plain := len(s) <= 256 && s == strings.TrimSpace(s)
	for _, r := range s {
		plain = plain && r != utf8.RuneError && unicode.IsPrint(r)
	}
	if plain {
		return s
	}
	s = strconv.QuoteToASCII(s[:min(len(s), 256)])
	return strings.ReplaceAll(s[1:len(s)-1], " ", `\x20`)
}

// timeOf is the time that a timetoken stands for: it counts tenths of
// microseconds since 1970.
func timeOf(timetoken string) time.Time {
	n, err := strconv.ParseInt(timetoken, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMicro(n / 10)
}

// timetokenAt is the timetoken of t.
func timetokenAt(t time.Time) string { return strconv.FormatInt(t.UnixMicro()*10, 10) }

// nextTimetoken is the one after a timetoken.
func nextTimetoken(timetoken string) string {
	n, _ := strconv.ParseInt(timetoken, 10, 64)
	return strconv.FormatInt(n+1, 10)
}

// compareTimetokens orders timetokens, which need not be canonical, by size.
func compareTimetokens(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}
