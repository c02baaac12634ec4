package bridge

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"reprise/stream"
)

const (
	// fullPage is PubNub's queue length. A reply that long may be all that was
	// left of a longer one.
	fullPage = 100
	// buryAtOnce bounds how many dead letters of one page are under way.
	buryAtOnce = 16
)

// store puts everything in p into the log and then saves p's cursor for every
// shard, in this order: when it returns nil, all of p is stored and the cursor
// too. After an error the page may come again; what was stored is known by its
// id. It is called by one poll at a time.
func (t *term) store(ctx context.Context, p page) (err error) {
	b := t.bridge
	began := time.Now()
	if len(p.messages) >= fullPage {
		b.inst.full(ctx)
		b.cfg.Logger.Debug("a full page: PubNub may have dropped older events", "messages", len(p.messages))
	}
	spans := spans{tracer: b.cfg.Tracer, trust: b.cfg.TrustRemoteTrace}
	defer func() { spans.end(err) }()
	var dead []stream.DeadLetter
	var heartbeats uint64
	for i := range p.messages {
		m := &p.messages[i]
		res, bad := t.bridge.read(m)
		switch {
		case bad != nil:
			dead = append(dead, m.deadLetter(bad))
		case res.outcome == isHeartbeat:
			heartbeats++
			if b.cfg.Heartbeat != nil {
				b.cfg.Heartbeat(res.user, res.device)
			}
		case res.outcome == isAnnouncement:
			if err := b.cfg.Log.Announce(ctx, m.id, res.frame); err != nil {
				return fmt.Errorf("bridge: announce: %w", err)
			}
			b.inst.announced(ctx)
		default:
			ev := stream.Event{ID: m.id, User: res.user, Device: res.device, Expires: res.expires,
				Timetoken: m.timetoken, Frame: res.frame, StampAt: res.stampAt}
			spans.begin(ctx, &ev, m)
			if err := t.writers[b.cfg.Log.Shard(res.user)].Append(ctx, ev); err != nil {
				return fmt.Errorf("bridge: append: %w", err)
			}
		}
	}
	if err := t.bury(ctx, dead); err != nil {
		return err
	}
	if err := t.save(ctx, p.next); err != nil {
		return err
	}
	b.inst.received(ctx, dead, heartbeats)
	if len(p.messages) > 0 {
		b.inst.stored(ctx, time.Since(began))
	}
	return nil
}

// read judges one message.
func (b *Bridge) read(m *message) (result, *refusal) {
	if m.odd != "" {
		return result{}, refuse(BadValue, m.odd)
	}
	return b.rules.judge(m.channel, m.payload)
}

// bury stores dead letters. Their order means nothing.
func (t *term) bury(ctx context.Context, dead []stream.DeadLetter) error {
	if len(dead) == 0 {
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(buryAtOnce)
	for _, d := range dead {
		group.Go(func() error { return t.bridge.cfg.Log.Bury(ctx, d) })
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("bridge: bury: %w", err)
	}
	return nil
}

// save flushes every shard and moves its checkpoint to next. Counts go up even
// where it fails, since part of it may be done.
func (t *term) save(ctx context.Context, next cursor) error {
	group, groupCtx := errgroup.WithContext(ctx)
	for _, w := range t.writers {
		group.Go(func() error {
			if err := w.Save(groupCtx, next.timetoken, next.region); err != nil {
				return fmt.Errorf("bridge: save shard %d: %w", w.Shard(), err)
			}
			return nil
		})
	}
	err := group.Wait()
	for i, w := range t.writers {
		now := w.Stats()
		t.bridge.inst.appended(ctx, now.Appended-t.counted[i].Appended, now.Duplicates-t.counted[i].Duplicates)
		t.counted[i] = now
	}
	// A writer that has ended says more than the context that ended with it.
	if err != nil {
		for _, w := range t.writers {
			if ended := w.Err(); ended != nil {
				return errors.Join(err, ended)
			}
		}
	}
	return err
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
