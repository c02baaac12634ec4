package bridge

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"reprise/bridge/pubnubtest"
)

// pollChannel reads what has been published to a channel since a cursor, as a
// subscriber sees it.
func pollChannel(t *testing.T, s *pubnubtest.Server, channel string, since int64) []message {
	return rawPoll(t, s, url.PathEscape(channel), "", since)
}

func pollGroup(t *testing.T, s *pubnubtest.Server, group string, since int64) []message {
	return rawPoll(t, s, ",", group, since)
}

func rawPoll(t *testing.T, s *pubnubtest.Server, channels, group string, since int64) []message {
	t.Helper()
	q := url.Values{"tt": {formatTT(since)}, "tr": {"1"}, "uuid": {"poller"}}
	if group != "" {
		q.Set("channel-group", group)
	}
	resp, err := http.Get("http://" + s.Addr() + "/v2/subscribe/demo/" + channels + "/0?" + q.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	p, err := parsePage(body)
	if err != nil {
		t.Fatalf("%v: %.200s", err, body)
	}
	return p.messages
}

// TestPublishRoundTrip publishes bodies and metas and reads them as a subscriber
// and from history: body byte for byte, meta equal, both ways the same message.
func TestPublishRoundTrip(t *testing.T) {
	t.Parallel()
	s, c := newTestCaller(t, pubnubtest.Config{}, nil)
	bodies := append([]string{
		`{"z":1,"a":9007199254740993,"m":1.10,"b":1e2,"t":"<b>&amp;é 😀 \u00e9\/"}`,
		`{"pn_other":"x","pn_gcm":{}}`, // what the SDK's encryption looks for
		`{"big":"` + strings.Repeat("x", 30<<10) + `"}`,
	}, hostilePayloads[:len(hostilePayloads)-1]...) // the last is too deep for the emulator's check
	metas := []string{"", `{"id":"01J"}`, `{"z":1.10,"a":9007199254740993}`, `{ "s" : "a+b c%20&d=é😀\"\\/<>" }`, `{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}`}
	since := s.Publish("user.other.sync", []byte(`0`))
	for i, body := range bodies {
		channel := fmt.Sprintf("user.%d.sync", i)
		var meta []byte
		if m := metas[i%len(metas)]; m != "" {
			meta = []byte(m)
		}
		timetoken, err := c.publish(testContext(t), channel, []byte(body), meta)
		if err != nil {
			t.Errorf("publish(%.60s) = %v", body, err)
			continue
		}
		live := pollChannel(t, s, channel, since-10_000)
		stored, err := c.fetch(testContext(t), channel, "", "", 0)
		if err != nil || len(live) != 1 || len(stored) != 1 {
			t.Fatalf("%.60s: %d live, %d stored, %v, want 1 of each", body, len(live), len(stored), err)
		}
		if !reflect.DeepEqual(live[0], stored[0]) {
			t.Errorf("%.60s: live %v, stored %v, want the same", body, live[0], stored[0])
		}
		m := live[0]
		if string(m.payload) != body || m.timetoken != timetoken || m.channel != channel || string(m.publisher) != "reprise-test" {
			t.Errorf("publish(%.60s) at %s arrived as %.60s at %s", body, timetoken, m.payload, m.timetoken)
		}
		if meta == nil && m.meta != nil || meta != nil && !sameJSON(t, m.meta, meta) {
			t.Errorf("meta %s arrived as %s", meta, m.meta)
		}
	}
}

// sameJSON compares decoded values, with numbers as they are written.
func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var values [2]any
	for i, text := range [][]byte{a, b} {
		d := json.NewDecoder(strings.NewReader(string(text)))
		d.UseNumber()
		if err := d.Decode(&values[i]); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	return reflect.DeepEqual(values[0], values[1])
}

// TestPublishOrder publishes one after the other: that is their order.
func TestPublishOrder(t *testing.T) {
	t.Parallel()
	s, c := newTestCaller(t, pubnubtest.Config{}, nil)
	const n = 90
	last := ""
	for i := range n {
		timetoken, err := c.publish(testContext(t), "user.a.sync", fmt.Appendf(nil, `%d`, i), nil)
		if err != nil {
			t.Fatal(err)
		}
		if !olderTimetoken(last, timetoken) {
			t.Errorf("publish %d: timetoken %s after %s", i, timetoken, last)
		}
		last = timetoken
	}
	stored, err := c.fetch(testContext(t), "user.a.sync", "", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string][]message{"history": stored, "poll": pollChannel(t, s, "user.a.sync", 1)} {
		if len(got) != n {
			t.Errorf("%s: %d messages, want %d", name, len(got), n)
		}
		for i, m := range got {
			if string(m.payload) != fmt.Sprint(i) {
				t.Errorf("%s[%d] = %s", name, i, m.payload)
			}
		}
	}
}

// TestPublishRefused publishes what PubNub does not take.
func TestPublishRefused(t *testing.T) {
	t.Parallel()
	_, c := newTestCaller(t, pubnubtest.Config{}, nil)
	for name, tt := range map[string]struct {
		channel, body, meta string
		want                pollResult
		class               string
	}{
		"not JSON":      {"user.a.sync", `{`, `{}`, pollStatus, "400"},
		"empty":         {"user.a.sync", ``, `{}`, pollStatus, "400"},
		"four segments": {"user.a.b.sync", `{}`, `{}`, pollStatus, "400"},
		"large body":    {"user.a.sync", `"` + strings.Repeat("x", 33<<10) + `"`, `{}`, pollStatus, "413"},
		"large meta":    {"user.a.sync", `{}`, `{"x":"` + strings.Repeat("x", 33<<10) + `"}`, pollStatus, "414"},
		"no channel":    {"", `{}`, `{}`, callUnsent, "not sent by the sdk"},
	} {
		_, err := c.publish(testContext(t), tt.channel, []byte(tt.body), []byte(tt.meta))
		if want := (&callError{call: "publish", result: tt.want, class: tt.class}).Error(); err == nil || err.Error() != want {
			t.Errorf("%s: publish() = %v, want %s", name, err, want)
		}
	}
}
