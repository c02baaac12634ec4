package bridge

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParsePage(t *testing.T) {
	t.Parallel()
	const head = `{"t":{"t":"17954373395308042","r":12},"m":`
	next := cursor{"17954373395308042", 12}
	for _, tt := range []struct {
		name, in string
		want     page
	}{
		{"no messages", head + `[]}`, page{next: next}},
		{"handshake without m and r", `{"t":{"t":"5"}}`, page{next: cursor{"5", 0}}},
		{"leading zeros", `{"t":{"t":"0017","r":1},"m":[]}`, page{next: cursor{"17", 1}}},
		{"region past int8", `{"t":{"t":"17","r":300},"m":[]}`, page{next: cursor{"17", 300}}},
		{"white space, unknown members", ` { "x":[{}], "m" : [ ] , "t" : { "r" : 12, "y":1, "t" : "17954373395308042" } } `, page{next: next}},
		{"one message", head + `[{"a":"4","f":0,"e":0,"i":"pub","s":7,"p":{"t":"17954373395307916","r":2},"k":"demo","c":"user.x.sync","d":{"a": 1.0},"u":{"m":1},"b":"user.*"}]}`,
			page{next: next, messages: []message{{id: "user.x.sync:17954373395307916", channel: "user.x.sync", timetoken: "17954373395307916",
				publisher: []byte("pub"), payload: []byte(`{"a": 1.0}`), meta: []byte(`{"m":1}`)}}}},
		{"optional members absent or null", head + `[{"c":"a","p":{"t":"1"},"d":null,"i":null,"u":null}]}`,
			page{next: next, messages: []message{{id: "a:1", channel: "a", timetoken: "1", payload: []byte("null"), meta: []byte("null")}}}},
		{"sequence as a string, timetoken as a number", head + `[{"s":"7","c":"a","p":{"t":1},"d":1}]}`,
			page{next: next, messages: []message{{id: "a:1", channel: "a", timetoken: "1", payload: []byte("1")}}}},
		{"no payload", head + `[{"c":"a","p":{"t":"1"}}]}`, page{next: next, messages: []message{{id: "a:1", channel: "a", timetoken: "1"}}}},
		{"escaped channel", head + `[{"c":"\u0061.b","p":{"t":"1"},"d":1}]}`, page{next: next, messages: []message{{id: "a.b:1", channel: "a.b", timetoken: "1", payload: []byte("1")}}}},
		{"no timetoken, between good ones", head + `[{"c":"a","p":{"t":"1"},"d":1},{"c":"a","d":2},5,{"c":"a","p":{"t":"3"},"d":3}]}`,
			page{next: next, messages: []message{
				{id: "a:1", channel: "a", timetoken: "1", payload: []byte("1")},
				{id: "a:17954373395308042.1", channel: "a", timetoken: "17954373395308042.1", payload: []byte("2"), odd: "envelope: no publish timetoken"},
				{id: ":17954373395308042.2", timetoken: "17954373395308042.2", payload: []byte("5"), odd: "envelope: not an object"},
				{id: "a:3", channel: "a", timetoken: "3", payload: []byte("3")},
			}}},
	} {
		got, err := parsePage([]byte(tt.in))
		if err != nil || !reflect.DeepEqual(normal(got), normal(tt.want)) {
			t.Errorf("parsePage(%s) = %+v, %v, want %+v", tt.name, got, err, tt.want)
		}
	}
	for _, in := range []string{``, `x`, `[]`, `{}`, `null`, `{"m":[]}`, `{"t":null,"m":[]}`, `{"t":"5","m":[]}`, `{"t":{"t":5,"r":1},"m":[]}`,
		`{"t":{"t":"0","r":1},"m":[]}`, `{"t":{"t":"-5"},"m":[]}`, `{"t":{"t":"+5"},"m":[]}`, `{"t":{"t":""},"m":[]}`, `{"t":{"t":"9223372036854775808"},"m":[]}`,
		`{"t":{"t":"5","r":"1"},"m":[]}`, `{"t":{"t":"5","r":-1},"m":[]}`, `{"t":{"t":"5","r":1e3},"m":[]}`, `{"t":{"t":"5","r":null},"m":[]}`,
		`{"t":{"t":"5"},"m":null}`, `{"t":{"t":"5"},"m":{}}`, `{"t":{"t":"5"},"m":[}`, `{"t":{"t":"5"},"m":[]`, `{"t":{"t":"5"},"m":[]}{}`,
		`{"t":{"t":"5"},"m":[]}x`, `<html>502</html>`, `{"T":{"t":"5"},"m":[]}`, head + `[{"d":}]}`} {
		if got, err := parsePage([]byte(in)); err == nil {
			t.Errorf("parsePage(%s) = %+v, want an error", in, got)
		}
	}
}

// normal makes empty and nil slices equal.
func normal(p page) string {
	s := fmt.Sprint(p.next)
	for _, m := range p.messages {
		s += fmt.Sprintf(" %q", []string{m.id, m.channel, m.timetoken, string(m.publisher), string(m.payload), string(m.meta), m.odd})
	}
	return s
}

// TestParsePageDepth is about the payload that would stop encoding/json and
// with it the whole feed.
func TestParsePageDepth(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 16_000) + strings.Repeat("]", 16_000)
	p, err := parsePage([]byte(`{"t":{"t":"5"},"m":[{"c":"a","p":{"t":"1"},"d":` + deep + `},{"c":"a","p":{"t":"2"},"d":2}]}`))
	if err != nil || len(p.messages) != 2 || string(p.messages[0].payload) != deep || string(p.messages[1].payload) != "2" {
		t.Errorf("parsePage(deep) = %d messages, %v, want both", len(p.messages), err)
	}
}

func TestOlderTimetoken(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b string
		want bool
	}{{"", "1", true}, {"1", "", false}, {"9", "10", true}, {"10", "9", false}, {"12", "13", true}, {"13", "13", false}, {"", "", false}} {
		if got := olderTimetoken(tt.a, tt.b); got != tt.want {
			t.Errorf("olderTimetoken(%q, %q) = %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}

func FuzzEnvelope(f *testing.F) {
	for _, seed := range []string{
		`{"t":{"t":"17954373395308042","r":12},"m":[{"a":"4","f":0,"e":0,"i":"pub","s":7,"p":{"t":"17954373395307916","r":2},"k":"demo","c":"user.x.sync","d":{"a":1},"u":{"m":1},"b":"user.*"}]}`,
		`{"t":{"t":"5"}}`, `{"t":{"t":5,"r":1},"m":[]}`, `{"t":{"t":"0","r":1},"m":[]}`, `{"t":{"t":"5","r":300},"m":[1,null,"x",{}]}`,
		`{"t":{"t":"5","r":1},"m":[{"c":"a","p":{"t":1},"d":"x","i":null},{"c":7,"p":"1"}]}`, `{"status":403,"error":true}`, `{}`, "", "<html>", "{\"t\":{\"t\":\"5\"},\"m\":[{\"c\":\"\xff\"}]}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parsePage(data)
		if err != nil {
			if p.messages != nil || !p.next.isZero() {
				t.Fatalf("parsePage(%q) = %+v with an error", data, p)
			}
			return
		}
		if n, err := strconv.ParseInt(p.next.timetoken, 10, 64); err != nil || n <= 0 || strconv.FormatInt(n, 10) != p.next.timetoken || p.next.region < 0 {
			t.Fatalf("parsePage(%q) = cursor %+v", data, p.next)
		}
		if deep(data) {
			return
		}
		var want struct {
			M []json.RawMessage `json:"m"`
		}
		var all map[string]json.RawMessage
		if err := json.Unmarshal(data, &all); err != nil {
			t.Fatalf("parsePage(%q) accepted what is not JSON: %v", data, err)
		}
		if all["m"] != nil {
			json.Unmarshal(all["m"], &want.M)
		}
		if len(want.M) != len(p.messages) {
			t.Fatalf("parsePage(%q) = %d messages, want %d", data, len(p.messages), len(want.M))
		}
		for i, m := range p.messages {
			if m.id != m.channel+":"+m.timetoken || m.timetoken == "" {
				t.Fatalf("parsePage(%q) = id %q of %q and %q", data, m.id, m.channel, m.timetoken)
			}
			d := m.deadLetter(refuse(BadValue, "x"))
			if strings.ContainsFunc(d.ID+d.Channel+d.Publisher+d.Timetoken, func(r rune) bool { return r < ' ' }) || len(d.Publisher) > 1100 || !utf8.ValidString(d.Publisher+d.Channel) {
				t.Fatalf("parsePage(%q) = dead letter %+v", data, d)
			}
			if m.odd != "" {
				continue
			}
			if raw := standardMembers(t, want.M[i])["d"]; string(raw) != string(m.payload) && utf8.Valid(data) {
				t.Fatalf("parsePage(%q) = payload %q, want %q", data, m.payload, raw)
			}
		}
	})
}
