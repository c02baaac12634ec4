package bridge

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// TestParseHistory feeds it what a PubNub that breaks its own format may say.
func TestParseHistory(t *testing.T) {
	t.Parallel()
	hash := regexp.MustCompile(`\b0\.[0-9a-f]{16}\b`) // of an odd message's bytes
	tests := []struct {
		reply string
		want  string // of each message odd|timetoken|publisher|payload|meta, hashes as #; or the error
	}{
		{`{"channels":{}}`, ``},
		{`{"channels":{"ch":[]}}`, ``},
		{`{"status":200,"error":false,"error_message":"","channels":{"ch":[{"message":1,"timetoken":"15","uuid":"u","meta":{"a":1}}]},"more":{"url":"/v3","start":"1"}}`, `|15|u|1|{"a":1}`},
		{`{"channels":{"ch":[{"message":1,"timetoken":15,"uuid":null,"meta":""}]}}`, `|15||1|`},
		{`{"channels":{"ch":[{"message":1,"timetoken":"15","meta":null}]}}`, `|15||1|`},
		{`{"channels":{"ch":[{"message":1,"timetoken":"15","meta":"m"}]}}`, `|15||1|"m"`},
		{`{"channels":{"ch":[{"timetoken":"15"}]}}`, `|15|||`},
		{`{"channels":{"c\u0068":[{"m\u0065ssage":1,"timetoken":"1\u0035","uuid":"\u00e9"}]}}`, `|15|é|1|`},
		{`{"channels":{"ch":[{"Message":1,"timetoken":"15","message":[2],"uuid":{}}]}}`, `|15||[2]|`},
		{`{"channels":{"ch":[{"message":1},7,{"message":2,"timetoken":"15"}]}}`, `history: no timetoken|0.#||1| history: not an object|0.#||7| |15||2|`},
		{`{"channels":{"ch":[{"message":1,"timetoken":""}]}}`, `history: no timetoken|0.#||1|`},
		{`{"channels":{"ch":[{"message":1,"timetoken":"123456789012345678901"}]}}`, `history: no timetoken|0.#||1|`},
		{`{"channels":{"ch":[{"message":1,"timetoken":1.5}]}}`, `history: no timetoken|0.#||1|`},
		{`{"channels":{"ch":[{"message":1,"timetoken":null}]}}`, `history: no timetoken|0.#||1|`},
		{`{"error":true,"channels":{"ch":[]}}`, `an error with status 200`},
		{`{"error":1,"channels":{"ch":[]}}`, `an error with status 200`},
		{`{"channels":{"other":[]}}`, `another channel`},
		{`{"channels":{"ch":{}}}`, `messages are not an array`},
		{`{"channels":[]}`, `no channels`},
		{`{}`, `no channels`},
		{`[]`, `not an object`},
		{``, `not an object`},
		{`{"channels":{"ch":[{]}}`, `not JSON`},
		{`{"channels":{}} x`, `not JSON`},
		{`{"channels":{}`, `not JSON`},
	}
	for _, tt := range tests {
		messages, err := parseHistory([]byte(tt.reply), "ch")
		var all []string
		for _, m := range messages {
			all = append(all, fmt.Sprintf("%s|%s|%s|%s|%s", m.odd, m.timetoken, m.publisher, m.payload, m.meta))
			if m.id != m.channel+":"+m.timetoken || m.channel != "ch" {
				t.Errorf("parseHistory(%s): id %s, channel %s, timetoken %s", tt.reply, m.id, m.channel, m.timetoken)
			}
		}
		got := hash.ReplaceAllString(strings.Join(all, " "), "0.#")
		if err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("parseHistory(%s) = %s, want %s", tt.reply, got, tt.want)
		}
	}
}

// TestOddStored has an odd message keep its id from page to page.
func TestOddStored(t *testing.T) {
	t.Parallel()
	const odd = "ch:0.7902699be42c8a8e" // of SHA-256 of 7
	for _, reply := range []string{`{"channels":{"ch":[7]}}`, `{"channels":{"ch":[{"message":1,"timetoken":"15"}, 7 ]}}`} {
		messages, err := parseHistory([]byte(reply), "ch")
		if err != nil || messages[len(messages)-1].id != odd {
			t.Errorf("parseHistory(%s) = %v, %v, want the last to be %s", reply, messages, err, odd)
		}
	}
}

func TestParseCounts(t *testing.T) {
	t.Parallel()
	for reply, want := range map[string]string{
		`{"channels":{"a":3,"b":0,"c":10000}}`: `map[a:3 c:10000]`,
		`{"channels":{}}`:                      `map[]`,
		`{"channels":{"a":"3"}}`:               `a count is not a number`,
		`{"channels":{"a":null}}`:              `a count is not a number`,
		`{"channels":{"a":-1}}`:                `a count is not a number`,
		`{"channels":{"a":99999999999}}`:       `a count is not a number`,
		`{"channels":null}`:                    `no channels`,
		`{"error":true,"channels":{}}`:         `an error with status 200`,
		`{"channels":{"a":3}`:                  `not JSON`,
		`[0]`:                                  `not an object`,
	} {
		found := make(map[string]int)
		got := ""
		if err := parseCounts([]byte(reply), found); err != nil {
			got = err.Error()
		} else {
			got = fmt.Sprint(found)
		}
		if got != want {
			t.Errorf("parseCounts(%s) = %s, want %s", reply, got, want)
		}
	}
}

func TestParsePublished(t *testing.T) {
	t.Parallel()
	bad := func(why string) string { return "bridge: pubnub: publish: bad_reply: " + why }
	for reply, want := range map[string]string{
		`[1,"Sent","17954373395342100"]`:      `17954373395342100`,
		` [ 1 , "Sent" , 17954373395342100 ]`: `17954373395342100`,
		`[1,"Sent","17",{"more":true}]`:       `17`,
		`[0,"Invalid Key","17"]`:              `bridge: pubnub: publish: refused: not sent, says PubNub`,
		`[1]`:                                 bad("too short"),
		`[]`:                                  bad("too short"),
		`[1,"Sent",""]`:                       bad("no timetoken"),
		`[1,"Sent",null]`:                     bad("no timetoken"),
		`[2,"Sent","17"]`:                     bad("no timetoken"),
		`{"t":"17"}`:                          bad("not an array"),
		``:                                    bad("not an array"),
		`[1,"Sent","17"`:                      bad("not JSON"),
		`[1,"Sent","17"]]`:                    bad("not JSON"),
		`["Use of the history API requires the Storage & Playback add-on",0,0]`: `bridge: pubnub: publish: disabled: message persistence`,
	} {
		got, err := parsePublished([]byte(reply))
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("parsePublished(%s) = %s, want %s", reply, got, want)
		}
	}
}

func TestMissingFeature(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"error_message":"requires the Storage & Playback which"}`:                      featureHistory,
		`{"error_message":"requires the storage \u0026 playback which"}`:                 featureHistory,
		`{"message":"Message Persistence is not enabled"}`:                               featureHistory,
		`{"message":"needs Stream Controller","error_message":""}`:                       featureGroups,
		`{"error_message":"x","message":"needs Stream Controller"}`:                      "",
		`{"message":{"text":"Stream Controller"},"payload":"Storage & Playback"}`:        "",
		`{"channels":{"ch":[{"message":"Use of the history API: Storage & Playback"}]}}`: "",
		`[[],0,0]`: "", `[[[]],0,"Storage & Playback"]`: featureHistory, `[`: "", ``: "", ` `: "", `"Storage & Playback"`: "",
		`Storage & Playback`: "",
	} {
		if got := missingFeature([]byte(body)); got != want {
			t.Errorf("missingFeature(%s) = %q, want %q", body, got, want)
		}
	}
}

// FuzzStored has any JSON come back from history as it was put in, and no reply
// break the scanner or get into an error.
func FuzzStored(f *testing.F) {
	for _, payload := range hostilePayloads {
		f.Add([]byte(payload))
	}
	for _, reply := range []string{`{"channels":{"ch":[{"message":1,"timetoken":15}]}}`, `{"error":true,"message":"x"}`, `[1,"Sent","15"]`, `[["x"],0,0]`} {
		f.Add([]byte(reply))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		parseHistory(data, "ch")
		parseCounts(data, map[string]int{})
		parsePublished(data)
		missingFeature(data)
		if end, err := skipValue(data, 0, unlimited); err != nil || skipSpace(data, end) != len(data) {
			return
		}
		value := data[skipSpace(data, 0):]
		end, _ := skipValue(value, 0, unlimited)
		value = value[:end]
		reply := fmt.Appendf(nil, `{"channels":{"ch":[{"meta":%s,"message":%s,"timetoken":"15"},{"message":2,"timetoken":16}]}}`, value, data)
		got, err := parseHistory(reply, "ch")
		if err != nil || len(got) != 2 || string(got[0].payload) != string(value) || got[1].timetoken != "16" {
			t.Fatalf("parseHistory(%s) = %v, %v", reply, got, err)
		}
		if meta := string(got[0].meta); meta != string(value) && (meta != "" || string(value) != `""` && string(value) != "null") {
			t.Fatalf("parseHistory(%s): meta %s", reply, meta)
		}
	})
}
