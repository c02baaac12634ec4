package pubnubtest_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"reprise/bridge/pubnubtest"
)

// A handClock is a clock that a test moves.
type handClock struct {
	mu  sync.Mutex
	now time.Time
}

func newHandClock() *handClock { return &handClock{now: time.Unix(1_800_000_000, 0)} }

func (c *handClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// history returns the payloads of one page of one channel.
func history(t testing.TB, s *pubnubtest.Server, channel, query string) []string {
	t.Helper()
	var page struct {
		Channels map[string][]struct{ Message json.RawMessage }
	}
	body := get(t, s, "/v3/history/sub-key/demo/channel/"+channel+"?"+query)
	if err := json.Unmarshal([]byte(body), &page); err != nil {
		t.Fatalf("history(%s) = %s: %v", channel, body, err)
	}
	all := []string{}
	for _, m := range page.Channels[channel] {
		all = append(all, string(m.Message))
	}
	return all
}

// lastEnvelope cuts the last message out of a subscribe reply.
func lastEnvelope(body string) string {
	return strings.TrimSuffix(body[strings.LastIndex(body, `{"a":`):], "]}")
}

func replaceAll(s, old, with string) string {
	return strings.ReplaceAll(s, fmt.Sprintf("%q", old), fmt.Sprintf("%q", with))
}

func TestHistoryCaps(t *testing.T) {
	t.Parallel()
	s := start(t, pubnubtest.Config{})
	publish(s, "a", numbers(0, 150))
	publish(s, "b", numbers(0, 150))
	same(t, "history(a, max=1000)", history(t, s, "a", "max=1000"), numbers(50, 150))
	same(t, "history(a)", history(t, s, "a", ""), numbers(50, 150))
	body := get(t, s, "/v3/history/sub-key/demo/channel/a,b?max=100")
	same(t, "messages of history(a,b)", strings.Count(body, `"message":`), 50)
	body = get(t, s, "/v3/history-with-actions/sub-key/demo/channel/a?max=100")
	same(t, "messages of history-with-actions(a)", strings.Count(body, `"message":`), 25)
}

func TestHistoryExpires(t *testing.T) {
	t.Parallel()
	clock := newHandClock()
	s := start(t, pubnubtest.Config{Now: clock.Now})
	s.Publish("a", []byte("1"), pubnubtest.TTL(time.Hour))
	s.Publish("a", []byte("2"))
	s.Publish("a", []byte("3"), pubnubtest.NoStore())
	same(t, "history(a)", history(t, s, "a", ""), "[1 2]")
	clock.Advance(2 * time.Hour)
	same(t, "history(a) after two hours", history(t, s, "a", ""), "[2]")
	same(t, "message-counts(a) after two hours",
		get(t, s, "/v3/history/sub-key/demo/message-counts/a?timetoken=1"),
		`{"status":200,"error":false,"error_message":"","channels":{"a":1}}`)
}
