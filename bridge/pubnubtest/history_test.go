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

// counts returns message-counts of one channel from the beginning.
func counts(t testing.TB, s *pubnubtest.Server, channel string) int {
	t.Helper()
	var reply struct{ Channels map[string]int }
	body := get(t, s, "/v3/history/sub-key/demo/message-counts/"+channel+"?timetoken=1")
	if err := json.Unmarshal([]byte(body), &reply); err != nil {
		t.Fatalf("counts(%s) = %s: %v", channel, body, err)
	}
	return reply.Channels[channel]
}

func TestHistoryForgetsByAgeAndShowsWithDelay(t *testing.T) {
	t.Parallel()
	clock := newHandClock()
	s := start(t, pubnubtest.Config{Now: clock.Now, HistoryAge: time.Hour, HistoryDelay: time.Minute, PollTimeout: time.Millisecond})
	s.Publish("a", []byte("1"))
	s.Publish("a", []byte("2"), pubnubtest.TTL(3*time.Hour))
	clock.Advance(30 * time.Second)
	s.Publish("a", []byte("3"), pubnubtest.Late(10*time.Second)) // the delay is that of its arrival
	same(t, "poll(a)", poll(t, s, "a", "", "1").payloads(), "[1 2 3]")
	for _, step := range []struct {
		advance time.Duration
		want    string
	}{
		{0, "[]"},
		{30 * time.Second, "[1 2]"},
		{29 * time.Second, "[1 2]"},
		{time.Second, "[1 2 3]"},
		{58 * time.Minute, "[1 2 3]"},
		{time.Minute, "[2]"},
		{119 * time.Minute, "[2]"},
		{time.Minute, "[]"},
	} {
		clock.Advance(step.advance)
		got := history(t, s, "a", "")
		same(t, fmt.Sprint("history(a) ", step.advance, " later"), got, step.want)
		same(t, fmt.Sprint("message-counts(a) ", step.advance, " later"), counts(t, s, "a"), len(got))
	}
}

func TestForget(t *testing.T) {
	t.Parallel()
	s := start(t, pubnubtest.Config{PollTimeout: time.Millisecond})
	tokens := publish(s, "a", numbers(0, 10))
	s.Publish("b", []byte("1"))
	same(t, "Forget(a, the fourth)", s.Forget("a", tokens[3]), 3)
	same(t, "Forget(a, the fourth) again", s.Forget("a", tokens[3]), 0)
	same(t, "history(a)", history(t, s, "a", ""), numbers(3, 10))
	same(t, "message-counts(a)", counts(t, s, "a"), 7)
	same(t, "poll(a)", poll(t, s, "a", "", "1").payloads(), numbers(0, 10))
	same(t, "history(b)", history(t, s, "b", ""), "[1]")
	same(t, "Forget(nothing published)", s.Forget("c", tokens[9]), 0)

	s = start(t, pubnubtest.Config{QueueSize: 1})
	tokens = publish(s, "a", numbers(0, 10))
	s.Forget("a", tokens[9]+1)
	same(t, "Stats() after Forget(a, all): messages, the live one", s.Stats().Messages, 1)
}

func TestNoHistory(t *testing.T) {
	t.Parallel()
	s := start(t, pubnubtest.Config{NoHistory: true, PollTimeout: time.Millisecond, QueueSize: 1})
	publish(s, "a", numbers(0, 10))
	same(t, "poll(a)", poll(t, s, "a", "", "1").payloads(), numbers(9, 10))
	same(t, "Stats().Messages", s.Stats().Messages, 1)
	pn := client(t, s)
	_, status, err := pn.Fetch().Channels([]string{"a"}).Execute()
	if err == nil || status.StatusCode != 403 {
		t.Errorf("Fetch(a) = %d, %v, want 403", status.StatusCode, err)
	}
	_, status, err = pn.MessageCounts().Channels([]string{"a"}).ChannelsTimetoken([]int64{1}).Execute()
	if err == nil || status.StatusCode != 403 {
		t.Errorf("MessageCounts(a) = %d, %v, want 403", status.StatusCode, err)
	}
}

func TestMessageCountsStopAtTenThousand(t *testing.T) {
	t.Parallel()
	s := start(t, pubnubtest.Config{HistoryLimit: 20_000})
	for range 10_001 {
		s.Publish("a", []byte("1"))
	}
	same(t, "message-counts(a)", counts(t, s, "a"), 10_000)
}
