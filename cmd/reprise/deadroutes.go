package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"reprise/stream"
)

// deadReasons is the protocol's closed list.
var deadReasons = []string{
	"not_json", "not_object", "unknown_type", "wrong_channel", "bad_channel", "bad_id", "bad_number",
	"bad_timestamp", "bad_value", "missing_field", "too_large", "too_deep",
}

const (
	// deadPage is how many dead letters one answer lists if nothing is said, and
	// deadMost how many it lists at most: the log reads their payloads too.
	deadPage = 100
	deadMost = 500
	// deadTimeout bounds one answer.
	deadTimeout = 30 * time.Second
)

// deadRoutes are the operator's routes to the dead letters, on every node:
//
//	GET  /v1/dead?after=&reason=&limit=   what there is, oldest first
//	GET  /v1/dead/{seq}                   one, with its payload
//	POST /v1/dead/{seq}/retry             judge it anew
//
// A list holds letters with numbers above after; an empty one is the end. Who
// judges is the shard's writer, in whichever process: the answer is 200 with its
// [retried], 404 when there is no such letter, 503 no_writer when nobody writes
// the shard.
type deadRoutes struct {
	// static after construction
	log    *stream.Log
	logger *slog.Logger
}

func (d *deadRoutes) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/dead", d.list)
	mux.HandleFunc("GET /v1/dead/{seq}", d.show)
	mux.HandleFunc("POST /v1/dead/{seq}/retry", d.retry)
	return mux
}

// deadLetter is a dead letter as the admin listener tells it.
type deadLetter struct {
	Seq       uint64 `json:"seq"`
	BuriedAt  int64  `json:"buried_at"` // Unix ms
	Reason    string `json:"reason"`
	Detail    string `json:"detail"`
	Channel   string `json:"channel"`
	Timetoken string `json:"timetoken"`
	Publisher string `json:"publisher"`
	ID        string `json:"id"`
	// Size is the payload's; more than what is there of it where that was cut.
	Size int `json:"size"`
	// Payload is there if the payload is valid UTF-8, PayloadBase64 if not; in a
	// list neither is.
	Payload       *string `json:"payload,omitempty"`
	PayloadBase64 []byte  `json:"payload_base64,omitempty"`
}

func tellDead(b stream.Buried) deadLetter {
	return deadLetter{
		Seq: b.Seq, BuriedAt: b.At.UnixMilli(), Reason: b.Reason, Detail: b.Detail, Channel: b.Channel,
		Timetoken: b.Timetoken, Publisher: b.Publisher, ID: b.ID, Size: b.Size,
	}
}

// payload is what there is of the payload.
func (d *deadLetter) payload() []byte {
	if d.Payload != nil {
		return []byte(*d.Payload)
	}
	return d.PayloadBase64
}

// retried is the writer's answer: what became of a dead letter.
type retried struct {
	Result string `json:"result"` // one of those below
	Reason string `json:"reason"` // why it was refused again
	Detail string `json:"detail"`
}

const (
	retryStored    = "stored"
	retryDuplicate = "duplicate" // the log has it already
	retryRefused   = "refused"
	retryGone      = "gone" // there is no such letter
)

func (d *deadRoutes) list(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	after, limit, reason, ok := listQuery(w, query)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), deadTimeout)
	defer cancel()
	buried, err := d.log.DeadLetters(ctx, after, reason, limit)
	if err != nil {
		d.unreachable(w, err)
		return
	}
	letters := make([]deadLetter, len(buried))
	for i := range buried {
		letters[i] = tellDead(buried[i])
	}
	writeJSON(w, http.StatusOK, letters)
}

// reasonForm is what a reason looks like. The log may hold some that a newer
// bridge has given.
var reasonForm = regexp.MustCompile(`^[a-z_]{1,32}$`)

// listQuery reads the query of a list. It answers by itself if that is wrong.
func listQuery(w http.ResponseWriter, query url.Values) (after uint64, limit int, reason string, ok bool) {
	limit, reason = deadPage, query.Get("reason")
	var err error
	if text := query.Get("after"); text != "" {
		if after, err = strconv.ParseUint(text, 10, 63); err != nil {
			refuse(w, http.StatusBadRequest, "after", "after: a number")
			return 0, 0, "", false
		}
	}
	if text := query.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > deadMost {
			refuse(w, http.StatusBadRequest, "limit", fmt.Sprintf("limit: a number from 1 to %d", deadMost))
			return 0, 0, "", false
		}
	}
	if reason != "" && !reasonForm.MatchString(reason) {
		refuse(w, http.StatusBadRequest, "reason", "reason: one of "+strings.Join(deadReasons, ", "))
		return 0, 0, "", false
	}
	return after, limit, reason, true
}

func (d *deadRoutes) show(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), deadTimeout)
	defer cancel()
	buried, ok := d.find(ctx, w, r)
	if !ok {
		return
	}
	letter := tellDead(buried)
	if utf8.Valid(buried.Raw) {
		text := string(buried.Raw)
		letter.Payload = &text
	} else {
		letter.PayloadBase64 = buried.Raw
	}
	writeJSON(w, http.StatusOK, letter)
}

func (d *deadRoutes) retry(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), deadTimeout)
	defer cancel()
	buried, ok := d.find(ctx, w, r)
	if !ok {
		return
	}
	request := fmt.Appendf(nil, `{"op":"retry_dead","seq":%d}`, buried.Seq)
	raw, err := d.log.Ask(ctx, d.shardOf(buried.Channel), request)
	if err != nil {
		d.unreachable(w, err)
		return
	}
	var answer retried
	if err := json.Unmarshal(raw, &answer); err != nil {
		answer.Result = ""
	}
	switch answer.Result {
	case retryStored, retryDuplicate, retryRefused:
		writeJSON(w, http.StatusOK, json.RawMessage(raw))
	case retryGone:
		noDeadLetter(w)
	default:
		d.logger.Warn("the answer of the shard's writer is not understood", "seq", buried.Seq, "result", answer.Result, "err", err)
		refuse(w, http.StatusBadGateway, "bad_answer", "the answer of the shard's writer is not understood; is it of another version?")
	}
}

// find reads the dead letter that the path names. It answers by itself if there
// is none.
func (d *deadRoutes) find(ctx context.Context, w http.ResponseWriter, r *http.Request) (stream.Buried, bool) {
	seq, err := deadNumber(r.PathValue("seq"))
	if err != nil {
		refuse(w, http.StatusBadRequest, "seq", "seq: the number of a dead letter")
		return stream.Buried{}, false
	}
	buried, err := d.log.DeadLetter(ctx, seq)
	switch {
	case errors.Is(err, stream.ErrNoDeadLetter):
		noDeadLetter(w)
	case err != nil:
		d.unreachable(w, err)
	}
	return buried, err == nil
}

// deadNumber reads the number of a dead letter.
func deadNumber(text string) (uint64, error) {
	seq, err := strconv.ParseUint(text, 10, 64)
	if err == nil && seq == 0 {
		err = strconv.ErrRange
	}
	return seq, err
}

func noDeadLetter(w http.ResponseWriter) {
	refuse(w, http.StatusNotFound, "not_found", "there is no dead letter with this number")
}

func (d *deadRoutes) unreachable(w http.ResponseWriter, err error) {
	refuseLog(w, d.logger, "dead letters not reached", err)
}

// shardOf is the shard whose writer judges what came by a channel: the user's,
// and the first where the channel names none.
func (d *deadRoutes) shardOf(channel string) int {
	rest, isUsers := strings.CutPrefix(channel, "user.")
	user, _, ends := strings.Cut(rest, ".")
	if !isUsers || !ends || user == "" || identifier(new(string))(user) != nil {
		return 0
	}
	return d.log.Shard(user)
}
