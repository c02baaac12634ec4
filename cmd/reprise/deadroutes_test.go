package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"reprise/stream"
)

// openLog opens an embedded log.
func openLog(t *testing.T, shards int) *stream.Log {
	t.Helper()
	log, err := stream.Open(t.Context(), stream.Config{DataDir: t.TempDir(), Node: "test", Shards: shards})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	return log
}

// bury buries what came by channel. The numbers of an empty log begin with 1.
func bury(t *testing.T, log *stream.Log, channel, reason, raw string) {
	t.Helper()
	_, err := log.Bury(t.Context(), stream.DeadLetter{
		ID: channel + ":" + raw[:min(len(raw), 100)], Reason: reason, Detail: "it is <wrong>", Channel: channel,
		Timetoken: "17954373395342100", Publisher: "pub", Raw: []byte(raw),
	})
	if err != nil {
		t.Fatal(err)
	}
}

// asked is a request that a shard's writer got.
type asked struct {
	shard   int
	request string
}

// judge answers the requests to shard as a bridge would, until the test ends.
// Every request goes to requests too, if that is not nil.
func judge(t *testing.T, log *stream.Log, shard int, requests chan<- asked, answer func(seq uint64) string) {
	t.Helper()
	w, err := log.Acquire(t.Context(), shard)
	if err != nil {
		t.Fatal(err)
	}
	stop, err := w.Answer(func(_ context.Context, request []byte) []byte {
		if requests != nil {
			requests <- asked{shard, string(request)}
		}
		var r struct {
			Seq uint64 `json:"seq"`
		}
		if err := json.Unmarshal(request, &r); err != nil {
			t.Errorf("request = %s, %v", request, err)
		}
		return []byte(answer(r.Seq))
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = w.Close(context.Background()) // the test's context has ended
	})
}

func deadHandler(log *stream.Log) http.Handler {
	return (&deadRoutes{log: log, logger: slog.New(slog.DiscardHandler)}).handler()
}

// ask asks a handler.
func ask(h http.Handler, method, path string) (int, string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w.Code, w.Body.String()
}

const exampleSync = "user." + exampleUser + ".sync"

func TestDeadRoutesRead(t *testing.T) {
	t.Parallel()
	log := openLog(t, 1)
	h := deadHandler(log)
	if status, body := ask(h, "GET", "/v1/dead"); status != 200 || body != "[]" {
		t.Errorf("GET /v1/dead of nothing = %d %s, want 200 []", status, body)
	}
	before := time.Now().UnixMilli()
	bury(t, log, exampleSync, "bad_id", `{"a":"<b> & ü"}`)
	bury(t, log, "other", "not_json", "\xff\x00")
	bury(t, log, exampleSync, "bad_id", "")
	bury(t, log, exampleSync, "too_large", strings.Repeat("x", 600<<10))

	var letters []deadLetter
	_, body := ask(h, "GET", "/v1/dead")
	if err := json.Unmarshal([]byte(body), &letters); err != nil || len(letters) != 4 {
		t.Fatalf("GET /v1/dead = %s, %v, want four", body, err)
	}
	at := letters[0].BuriedAt
	if now := time.Now().UnixMilli(); at < before-1000 || at > now+1000 {
		t.Errorf("buried_at = %d, want %d to %d", at, before, now)
	}
	first := fmt.Sprintf(`{"seq":1,"buried_at":%d,"reason":"bad_id","detail":"it is <wrong>","channel":"%s","timetoken":"17954373395342100","publisher":"pub","id":%s,"size":16`,
		at, exampleSync, quoted(exampleSync+`:{"a":"<b> & ü"}`))
	tests := []struct {
		path   string
		status int
		body   string // is all of it, unless it begins or ends with …
	}{
		{"/v1/dead?after=0&limit=1", 200, "[" + first + "}]"},
		{"/v1/dead?after=1&reason=bad_id", 200, `[{"seq":3,…`},
		{"/v1/dead?after=3&reason=bad_id", 200, "[]"},
		{"/v1/dead?after=4&reason=&limit=", 200, "[]"},
		{"/v1/dead?reason=too_deep", 200, "[]"},
		{"/v1/dead?after=99", 200, "[]"},
		{"/v1/dead/1", 200, first + `,"payload":"{\"a\":\"<b> & ü\"}"}`},
		{"/v1/dead/2", 200, `…"size":2,"payload_base64":"` + base64.StdEncoding.EncodeToString([]byte("\xff\x00")) + `"}`},
		{"/v1/dead/3", 200, `…"size":0,"payload":""}`},
		{"/v1/dead/4", 200, `…"size":614400,"payload":"` + strings.Repeat("x", 512<<10) + `"}`},
		{"/v1/dead/5", 404, `{"error":{"code":"not_found","message":"there is no dead letter with this number"}}`},
		{"/v1/dead/0", 400, `{"error":{"code":"seq",…`},
		{"/v1/dead/x", 400, `{"error":{"code":"seq",…`},
		{"/v1/dead?after=-1", 400, `{"error":{"code":"after",…`},
		{"/v1/dead?after=18446744073709551615", 400, `{"error":{"code":"after",…`},
		{"/v1/dead?limit=0", 400, `{"error":{"code":"limit",…`},
		{"/v1/dead?limit=501", 400, `{"error":{"code":"limit",…`},
		{"/v1/dead?reason=*", 400, `{"error":{"code":"reason",…`},
		{"/v1/dead?reason=a.b", 400, `{"error":{"code":"reason",…`},
		{"/v1/dead/", 404, "…"},
		{"/v1/dead/1/retry", 405, "…"},
	}
	for _, tt := range tests {
		status, body := ask(h, "GET", tt.path)
		if status != tt.status || !matches(body, tt.body) {
			t.Errorf("GET %s = %d %.300s, want %d %.300s", tt.path, status, body, tt.status, tt.body)
		}
	}
}

// matches compares text with a pattern that may leave out its beginning or end.
func matches(text, pattern string) bool {
	if end, ok := strings.CutPrefix(pattern, "…"); ok {
		return strings.HasSuffix(text, end)
	}
	if begin, ok := strings.CutSuffix(pattern, "…"); ok {
		return strings.HasPrefix(text, begin)
	}
	return text == pattern
}

// quoted is text as JSON, without HTML escapes.
func quoted(text string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(text) // a string can be encoded
	return strings.TrimSpace(b.String())
}

func TestDeadRoutesRetry(t *testing.T) {
	t.Parallel()
	log := openLog(t, 4)
	h := deadHandler(log)
	answers := map[uint64]string{
		1: `{"result":"stored"}`,
		2: `{"result":"duplicate"}`,
		3: `{"result":"refused","reason":"bad_id","detail":"content_id <is> no UUID"}`,
		4: `{"result":"gone"}`,
		5: `{"result":"eaten"}`,
		6: `result: stored`,
		7: ``,
	}
	for seq := range len(answers) {
		bury(t, log, exampleSync, "bad_id", fmt.Sprint(seq))
	}
	if status, body := ask(h, "POST", "/v1/dead/1/retry"); status != 503 || body != `{"error":{"code":"no_writer","message":"nobody writes the shard at the moment, try again"}}` {
		t.Errorf("POST /v1/dead/1/retry without a writer = %d %s, want 503 no_writer", status, body)
	}
	requests := make(chan asked, 1)
	judge(t, log, log.Shard(exampleUser), requests, func(seq uint64) string { return answers[seq] })
	tests := []struct {
		seq    uint64
		status int
		body   string
	}{
		{1, 200, answers[1]},
		{2, 200, answers[2]},
		{3, 200, answers[3]},
		{4, 404, `{"error":{"code":"not_found",…`},
		{5, 502, `{"error":{"code":"bad_answer",…`},
		{6, 502, `{"error":{"code":"bad_answer",…`},
		{7, 502, `{"error":{"code":"bad_answer",…`},
	}
	for _, tt := range tests {
		status, body := ask(h, "POST", fmt.Sprintf("/v1/dead/%d/retry", tt.seq))
		if status != tt.status || !matches(body, tt.body) {
			t.Errorf("POST /v1/dead/%d/retry = %d %s, want %d %s", tt.seq, status, body, tt.status, tt.body)
		}
		want := asked{log.Shard(exampleUser), fmt.Sprintf(`{"op":"retry_dead","seq":%d}`, tt.seq)}
		if got := <-requests; got != want {
			t.Errorf("POST /v1/dead/%d/retry asked shard %d for %s, want %d and %s", tt.seq, got.shard, got.request, want.shard, want.request)
		}
	}
	for path, want := range map[string]int{"/v1/dead/8/retry": 404, "/v1/dead/x/retry": 400, "/v1/dead/1": 405} {
		if status, body := ask(h, "POST", path); status != want {
			t.Errorf("POST %s = %d %s, want %d", path, status, body, want)
		}
	}
}

func TestDeadShard(t *testing.T) {
	t.Parallel()
	log := openLog(t, 4)
	d := &deadRoutes{log: log}
	users := log.Shard(exampleUser)
	if users == 0 {
		t.Fatal("the user's shard is 0, want one that can be told from that of others")
	}
	for channel, want := range map[string]int{
		exampleSync:                    users,
		"user." + exampleUser + ".who": users,
		"user." + exampleUser + ".a.b": users,
		"user." + exampleUser:          0,
		"xuser." + exampleUser + ".a":  0,
		"user." + strings.ToUpper("aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa") + ".sync": 0,
		"user..sync":           0,
		"user.7.sync":          0,
		"global.announcements": 0,
		"":                     0,
	} {
		if got := d.shardOf(channel); got != want {
			t.Errorf("shardOf(%q) = %d, want %d", channel, got, want)
		}
	}
}
