package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// TestRuleBreakers publishes what breaks each rule, between good events. Nothing
// of it is relayed, each is counted under its reason.
func TestRuleBreakers(t *testing.T) {
	t.Parallel()
	pubnub := emulator(t)
	relay := serve(t, pubnub.Addr())
	run := newRun(t, relay)
	user := userNo(1)
	sync, notices := "user."+user+".sync", "user."+user+".notifications"
	run.device(user, deviceNo(1)).connect("latest").caughtUp()
	p := run.publisher(pubnub.Addr())

	body := func(members string) string {
		return `{"type":"progress_update","content_id":"` + content + `","position_seconds":1,"device_id":"poison","timestamp":1` + members + `}`
	}
	type breaker struct{ reason, channel, payload string }
	breakers := []breaker{
		{"not_object", notices, `["poison"]`},
		{"not_object", "global.announcements", `"poison"`},
		{"unknown_type", sync, `{"type":"poison"}`},
		{"unknown_type", sync, `{"type":7,"poison":1}`},
		{"wrong_channel", "user." + user + ".devices", body("")},
		{"bad_channel", "user.poison.sync", body("")},
		{"bad_channel", "user." + strings.ToUpper(user) + ".sync", body("")},
		{"bad_channel", "user." + user + ".poison", body("")},
		{"bad_id", sync, body(`,"content_id":"no-uuid"`)},
		{"bad_id", sync, body(`,"content_id":"` + strings.ToUpper(content) + `"`)},
		{"bad_number", sync, body(`,"position_seconds":-1`)},
		{"bad_number", sync, body(`,"position_seconds":100.0`)},
		{"bad_number", sync, body(`,"position_seconds":4294967296`)},
		{"bad_number", sync, body(`,"duration_seconds":"7"`)},
		{"bad_timestamp", sync, body(`,"timestamp":"019A3F2C8E410003"`)},
		{"bad_timestamp", sync, body(`,"timestamp":-1`)},
		{"bad_value", sync, `{"type":"watchlist_update","operation":"poison","content_id":"` + content + `","unique_tag":"t","timestamp":1,"device_id":"d"}`},
		{"missing_field", sync, `{"content_id":"poison"}`},
		{"missing_field", sync, `{"type":"progress_update","content_id":"` + content + `","timestamp":1,"device_id":"poison"}`},
		{"too_deep", notices, `{"poison":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`},
	}
	want := make(map[string]float64)
	for i, b := range breakers {
		p.refused(b.channel, b.payload, "poison")
		p.publish(notice(user, fmt.Sprint("good ", i)))
		want[b.reason]++
	}
	// PubNub itself would refuse to take these. (It cannot deliver what is no JSON
	// at all: that would spoil the whole reply.)
	for _, b := range []breaker{
		{"not_json", notices, "{\"poison\":\"\xff\"}"},
		{"too_large", notices, `{"poison":"` + strings.Repeat("x", 33<<10) + `"}`},
	} {
		pubnub.Publish(b.channel, []byte(b.payload))
		run.record(&Publish{Channel: b.channel, Fate: Refused, Mark: "poison"})
		want[b.reason]++
	}
	run.judge(pubnub.Addr())
	// Those of the last page are counted when it is closed, after its events.
	for reason, n := range want {
		relay.await(fmt.Sprintf("%v dead letters counted as %s", n, reason), func() bool {
			return relay.metric(`reprise_dead_letters_total{reason="`+reason+`"`) == n
		})
	}
}
