package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"reprise/stream"
)

// request is what other processes ask of who writes a shard.
type request struct {
	Op   string `json:"op"`             // retry_dead, forget
	Seq  uint64 `json:"seq,omitempty"`  // of a dead letter
	User string `json:"user,omitempty"` // to forget
	At   int64  `json:"at,omitempty"`   // Unix ms: what is from before is to be forgotten
}

// outcomeOf is the answer to a request.
type outcomeOf struct {
	// Result is stored, duplicate, refused or gone of a dead letter; erased or
	// more (ask again) of a user; or failed.
	Result string `json:"result"`
	Reason string `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`
	Events int    `json:"events,omitempty"` // that were erased
}

// answer answers a request of another process, as JSON.
func (sh *shard) answer(ctx context.Context, body []byte) []byte {
	var r request
	out := outcomeOf{Result: "failed", Detail: "the writer does not know this request"}
	err := json.Unmarshal(body, &r)
	if err == nil {
		switch r.Op {
		case "retry_dead":
			out, err = sh.retry(ctx, r.Seq)
		case "forget":
			out, err = sh.forget(ctx, r.User, time.UnixMilli(r.At))
		}
		if err != nil {
			sh.b.cfg.Logger.Warn("a request is not carried out", "op", r.Op, "seq", r.Seq, "err", err)
			out = outcomeOf{Result: "failed", Detail: "the log did not take it"}
		}
	}
	text, _ := json.Marshal(out) // strings and a number
	return text
}

// retry judges a dead letter anew and, if it keeps the rules by now, appends
// it at the log's end and takes it off the dead letters.
func (sh *shard) retry(ctx context.Context, seq uint64) (outcomeOf, error) {
	b := sh.b
	d, err := b.cfg.Log.DeadLetter(ctx, seq)
	if errors.Is(err, stream.ErrNoDeadLetter) {
		return outcomeOf{Result: "gone"}, nil
	}
	if err != nil {
		return outcomeOf{}, err
	}
	m := &message{id: d.Channel + ":" + d.Timetoken, channel: d.Channel, timetoken: d.Timetoken, publisher: []byte(d.Publisher), payload: d.Raw}
	if d.Size > len(d.Raw) {
		return outcomeOf{Result: "refused", Reason: string(TooLarge), Detail: "payload: not kept whole"}, nil
	}
	spans := b.newSpans()
	defer spans.end(nil)
	it := b.intake(ctx, m, &spans)
	out := outcomeOf{Result: "stored"}
	switch {
	case it.dead == nil && it.outcome == isEvent && b.cfg.Log.Shard(it.user) != sh.writer.Shard():
		return outcomeOf{Result: "failed", Detail: "the user is of another shard"}, nil
	case it.dead != nil:
		return outcomeOf{Result: "refused", Reason: it.dead.Reason, Detail: it.dead.Detail}, nil
	case it.outcome == isForgotten:
		return outcomeOf{Result: "gone"}, b.cfg.Log.Unbury(ctx, seq)
	case it.outcome == isAnnouncement:
		var fresh bool
		if fresh, err = b.cfg.Log.Announce(ctx, it.id, it.frame); !fresh {
			out.Result = "duplicate"
		}
	case it.outcome == isEvent:
		if strings.HasPrefix(d.ID, updatePrefix) {
			it.ev.ID = d.ID // an update that PubNub did not take
		}
		since := d.At
		if published := timeOf(d.Timetoken); d.Timetoken != "" && published.Before(since) {
			since = published
		}
		var n int
		if n, err = sh.writer.AppendLate(ctx, it.user, since.Add(-lookBack), []stream.Event{it.ev}); n == 0 {
			out.Result = "duplicate"
		}
		if err == nil {
			err = sh.writer.Flush(ctx)
		}
	}
	if err != nil {
		return outcomeOf{}, err
	}
	sh.account(ctx)
	return out, b.cfg.Log.Unbury(ctx, seq)
}
