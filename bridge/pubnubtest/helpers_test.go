package pubnubtest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"reprise/bridge/pubnubtest"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

func start(t testing.TB, cfg pubnubtest.Config) *pubnubtest.Server {
	t.Helper()
	s, err := pubnubtest.Start(cfg)
	if err != nil {
		t.Fatalf("Start() = %v, want nil", err)
	}
	t.Cleanup(s.Close)
	return s
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// plain is a client without connection reuse, so that nothing is retried.
var plain = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// fetch sends one request and returns status and body.
func fetch(t testing.TB, s *pubnubtest.Server, method, uri, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t, patience), method, "http://"+s.Addr()+uri, strings.NewReader(body))
	if err != nil {
		t.Fatalf("NewRequest(%s %s) = %v", method, uri, err)
	}
	resp, err := plain.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, uri, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: body: %v", method, uri, err)
	}
	return resp.StatusCode, string(b)
}

func get(t testing.TB, s *pubnubtest.Server, uri string) string {
	t.Helper()
	status, body := fetch(t, s, "GET", uri, "")
	if status != 200 {
		t.Fatalf("GET %s = %d %s, want 200", uri, status, body)
	}
	return body
}

// A batch is a subscribe reply.
type batch struct {
	T struct {
		T string `json:"t"`
		R int    `json:"r"`
	} `json:"t"`
	M []envelope `json:"m"`
}

type envelope struct {
	B, C, I string
	D       json.RawMessage
	P       struct{ T string }
	PR      int `json:"-"`
}

// payloads returns the d of each message.
func (b batch) payloads() []string {
	all := []string{}
	for _, m := range b.M {
		all = append(all, string(m.D))
	}
	return all
}

// poll subscribes to a path list of channels and a query list of groups.
func poll(t testing.TB, s *pubnubtest.Server, channels, groups, cursor string) batch {
	t.Helper()
	q := url.Values{"uuid": {"tester"}, "tr": {"1"}}
	if cursor != "" {
		q.Set("tt", cursor)
	}
	if groups != "" {
		q.Set("channel-group", groups)
	}
	var b batch
	body := get(t, s, "/v2/subscribe/demo/"+channels+"/0?"+q.Encode())
	if err := json.Unmarshal([]byte(body), &b); err != nil {
		t.Fatalf("poll(%s, %s) = %s: %v", channels, cursor, body, err)
	}
	return b
}

// numbers returns `{"n":from}` … `{"n":to-1}`.
func numbers(from, to int) []string {
	var all []string
	for n := from; n < to; n++ {
		all = append(all, fmt.Sprintf(`{"n":%d}`, n))
	}
	return all
}

// publish puts payloads on a channel and returns the timetokens.
func publish(s *pubnubtest.Server, channel string, payloads []string, options ...pubnubtest.PublishOption) []int64 {
	var tokens []int64
	for _, p := range payloads {
		tokens = append(tokens, s.Publish(channel, []byte(p), options...))
	}
	return tokens
}

func same(t testing.TB, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Errorf("%s = %s, want %s", what, g, w)
	}
}
