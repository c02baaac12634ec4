package bridge

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"reprise/bridge/pubnubtest"
)

// hostilePayloads are stored by any publisher, and crash or bend v7.4.0's Fetch.
var hostilePayloads = []string{
	`{"message":"hello"}`, `{"file":"x"}`, `{"file":{"id":5}}`, `{"message":{"text":{}},"file":{"id":"i","name":"n"}}`,
	`{"message":"hello","file":{"id":"i","name":"n"}}`, `null`, `"text"`, `[]`, `[[]]`, `0`, `true`,
	`9007199254740993`, `1.10`, `{"n":9007199254740993,"f":1.10,"e":1E400}`, `{"z":1,"a":2,"z":3}`,
	`{"a" : [ 1 , 2 ] }`, `"\ud800"`, `"<>&` + "\u2028" + `"`, strings.Repeat("[", 12000) + strings.Repeat("]", 12000),
}

// TestHistoryHostile stores them, with file messages among them, and fetches
// them byte for byte: together, and each alone, since one that the SDK cannot
// decode would keep it from the one that it panics at.
func TestHistoryHostile(t *testing.T) {
	t.Parallel()
	s, c := newTestCaller(t, pubnubtest.Config{}, nil)
	var want []string
	for i, payload := range hostilePayloads {
		var options []pubnubtest.PublishOption
		if i%2 == 1 {
			options = append(options, pubnubtest.Type(4))
		}
		want = append(want, formatTT(s.Publish("user.a.sync", []byte(payload), options...)))
		alone := fmt.Sprintf("user.%d.sync", i)
		s.Publish(alone, []byte(payload), options...)
		for _, bend := range []pubnubtest.Kind{pubnubtest.NullUUID, pubnubtest.NumberTimetoken, ""} {
			if bend != "" {
				s.Inject(pubnubtest.Fault{Kind: bend, Times: 1})
			}
			got, err := c.fetch(testContext(t), alone, "", "", 0)
			if err != nil || len(got) != 1 || got[0].odd != "" || string(got[0].payload) != payload {
				t.Errorf("%s: fetch(%.60s) = %v, %v", bend, payload, got, err)
			}
		}
	}
	for _, bend := range []pubnubtest.Kind{"", pubnubtest.NullUUID, pubnubtest.NumberTimetoken} {
		if bend != "" {
			s.Inject(pubnubtest.Fault{Kind: bend, Times: 1})
		}
		got, err := c.fetch(testContext(t), "user.a.sync", "", "", 100)
		if err != nil || len(got) != len(want) {
			t.Fatalf("%s: fetch() = %d messages, %v, want %d", bend, len(got), err, len(want))
		}
		for i, m := range got {
			if m.odd != "" || string(m.payload) != hostilePayloads[i] || m.timetoken != want[i] || m.id != "user.a.sync:"+want[i] ||
				m.channel != "user.a.sync" || len(m.publisher) != 0 || m.meta != nil {
				t.Errorf("%s: fetch()[%d] = %q %s %s of %q, want %s %s", bend, i, m.odd, m.id, m.payload, m.publisher, want[i], hostilePayloads[i])
			}
		}
	}
}

// TestHistoryPages walks back through more than three pages, and looks at both
// ends of a range.
func TestHistoryPages(t *testing.T) {
	t.Parallel()
	s, c := newTestCaller(t, pubnubtest.Config{}, nil)
	const n = 351
	var all []string
	for i := range n {
		all = append(all, formatTT(s.Publish("user.a.sync", fmt.Appendf(nil, `{"n":%d}`, i), pubnubtest.From("u"))))
	}
	var got []string
	pages := 0
	for start := ""; ; {
		page, err := c.fetch(testContext(t), "user.a.sync", start, all[0], 0)
		if err != nil {
			t.Fatal(err)
		}
		pages++
		var these []string
		for _, m := range page {
			these = append(these, m.timetoken)
			if string(m.publisher) != "u" {
				t.Errorf("publisher %q, want u", m.publisher)
			}
		}
		got = append(these, got...)
		if len(page) < maxFetch {
			break
		}
		start = page[0].timetoken
	}
	if pages != 4 || !slices.Equal(got, all) {
		t.Errorf("%d messages in %d pages, want %d in 4, oldest first", len(got), pages, n)
	}
	tests := []struct {
		start, end string
		most       int
		want       []string
	}{
		{all[10], all[10], 0, nil},           // start is exclusive
		{all[11], all[10], 0, all[10:11]},    // end is inclusive
		{all[11], all[5], 3, all[8:11]},      // the newest come first
		{"", all[n-2], 0, all[n-2:]},         // up to now
		{all[2], "", 0, all[:2]},             // from the beginning
		{"", "", 1000, all[n-maxFetch:]},     // no more than PubNub gives
		{all[0], "", 0, nil},                 // before all
		{"", "99999999999999999", 0, nil},    // after all
		{"00" + all[1], all[0], 0, all[0:1]}, // zeros in front
	}
	for _, tt := range tests {
		page, err := c.fetch(testContext(t), "user.a.sync", tt.start, tt.end, tt.most)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range page {
			got = append(got, m.timetoken)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("fetch(%s, %s, %d) = %v, want %v", tt.start, tt.end, tt.most, got, tt.want)
		}
	}
	for _, bad := range []string{"x", "-1", "0", "99999999999999999999", " 1"} {
		if _, err := c.fetch(testContext(t), "user.a.sync", bad, "", 0); err == nil {
			t.Errorf("fetch(start %q) = nil, want an error", bad)
		}
		if _, err := c.counts(testContext(t), []string{"a"}, bad); err == nil {
			t.Errorf("counts(from %q) = nil, want an error", bad)
		}
	}
}

func TestCallCounts(t *testing.T) {
	t.Parallel()
	s, c := newTestCaller(t, pubnubtest.Config{JournalSize: 1 << 10}, nil)
	first := formatTT(s.Publish("user.a.sync", []byte(`1`)))
	second := formatTT(s.Publish("user.a.sync", []byte(`2`)))
	s.Publish("user.a.sync", []byte(`3`), pubnubtest.NoStore())
	for range maxCount + 3 {
		s.Publish("user.b.sync", []byte(`4`))
	}
	asked := []string{"user.a.sync", "user.b.sync", "user.none.sync"}
	for from, want := range map[string]int{first: 2, second: 1, "99999999999999999": 0} {
		got, err := c.counts(testContext(t), asked, from)
		if err != nil || got["user.a.sync"] != want || got["user.none.sync"] != 0 || want > 0 && got["user.b.sync"] != maxCount {
			t.Errorf("counts(from %s) = %v, %v, want %d", from, got, err, want)
		}
	}
	if got, err := c.counts(testContext(t), nil, first); err != nil || len(got) != 0 {
		t.Errorf("counts(nothing) = %v, %v, want none", got, err)
	}
}

// TestCallSplits gives counts and addToGroup more names than go into a request.
func TestCallSplits(t *testing.T) {
	t.Parallel()
	short, long := make([]string, 0, 1000), make([]string, 0, 1000)
	for i := range 1000 {
		short = append(short, "user."+userN(i)+".sync")
		long = append(long, fmt.Sprintf("%03d%s", i, strings.Repeat("é", 89))) // 92 characters, 540 bytes in a URL
	}
	for name, names := range map[string][]string{"short": short, "long": long} {
		s, c := newTestCaller(t, pubnubtest.Config{JournalSize: 1 << 10}, nil)
		for _, channel := range names {
			s.Publish(channel, []byte(`1`))
		}
		got, err := c.counts(testContext(t), names, "1")
		if err != nil || len(got) != len(names) {
			t.Fatalf("%s: counts() = %d channels, %v, want %d", name, len(got), err, len(names))
		}
		for _, channel := range names {
			if got[channel] != 1 {
				t.Errorf("%s: counts()[%s] = %d, want 1", name, channel, got[channel])
			}
		}
		if err := c.addToGroup(testContext(t), "bridge-é", names); err != nil {
			t.Fatalf("%s: addToGroup() = %v", name, err)
		}
		most := 0
		for _, q := range s.Journal() {
			most = max(most, len(q.URI))
			u, err := url.Parse(q.URI)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(u.Query().Get("add"), ",") + 1; n > maxGroupAdd {
				t.Errorf("%s: %d names added at once", name, n)
			}
			if n := strings.Count(u.EscapedPath(), ",") + 1; n > maxCountChannels {
				t.Errorf("%s: %d channels counted at once", name, n)
			}
		}
		if most > 30<<10 {
			t.Errorf("%s: a URL of %d bytes", name, most)
		}
		// The group has them all: what is published to the last reaches it.
		tt := s.Publish(names[len(names)-1], []byte(`"last"`))
		m := pollGroup(t, s, "bridge-é", tt-10_000)
		if len(m) == 0 || string(m[len(m)-1].payload) != `"last"` {
			t.Errorf("%s: the group delivers %d messages, not the last", name, len(m))
		}
	}
}
