package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"reprise/stream"
)

// request is what other processes ask of who writes a shard.
type request struct {
	Op  string `json:"op"`
	Seq uint64 `json:"seq"` // of a dead letter
}

// outcomeOf is the answer to a retried dead letter.
type outcomeOf struct {
	Result string `json:"result"` // stored, duplicate, refused, gone, failed
	Reason string `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// answer answers a request of another process, as JSON.
func (sh *shard) answer(ctx context.Context, body []byte) []byte {
	var r request
	var out outcomeOf
	if err := json.Unmarshal(body, &r); err != nil || r.Op != "retry_dead" {
		out = outcomeOf{Result: "failed", Detail: "the writer does not know this request"}
	} else if out, err = sh.retry(ctx, r.Seq); err != nil {
		sh.b.cfg.Logger.Warn("a dead letter is not retried", "seq", r.Seq, "err", err)
		out = outcomeOf{Result: "failed", Detail: "the log did not take it"}
	}
	text, _ := json.Marshal(out) // three strings
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
