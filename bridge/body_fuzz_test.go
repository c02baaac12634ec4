package bridge

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// An oracle for accepted bodies, written from the protocol with encoding/json
// and regular expressions, so that it shares nothing with the scanner.
var (
	reUUID      = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	reOpaque    = regexp.MustCompile(`^[\pL\pM\pN\pP\pS ]{1,128}$`)
	reDevice    = regexp.MustCompile(`^[\pL\pM\pN\pP\pS]{1,128}$`)
	reSeconds   = regexp.MustCompile(`^(0|[1-9][0-9]{0,9})$`)
	reTimestamp = regexp.MustCompile(`^([0-9]{1,20}|[0-9a-f]{16})$`)
	reFrame     = regexp.MustCompile(`^\{"type":"(watchlist_update|progress_update|device_command|notification)","hlc":"0000000000000000",`)
)

// members of a body by the standard library, which takes the last of equal
// names for a map too.
func standardMembers(t failer, data []byte) map[string]json.RawMessage {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatalf("accepted %q: %v", data, err)
	}
	return m
}

func standardString(raw json.RawMessage) (s string, ok bool) {
	return s, len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &s) == nil
}

// checkAccepted holds an accepted body and its frame to the protocol.
func checkAccepted(t failer, channel string, payload []byte, opaque bool, res result) {
	if len(payload) > 32<<10 || !utf8.Valid(payload) {
		t.Fatalf("judge(%q) accepted %d bytes, UTF-8 %v", payload, len(payload), utf8.Valid(payload))
	}
	in := standardMembers(t, payload)
	if res.outcome == isHeartbeat {
		kind, _ := standardString(in["type"])
		device, ok := standardString(in["device_id"])
		if strings.ToLower(kind) != "device_heartbeat" || !ok || !reDevice.MatchString(device) || device != res.device || !strings.HasSuffix(channel, ".devices") {
			t.Fatalf("judge(%q) = heartbeat of %q", payload, res.device)
		}
		return
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, res.frame); err != nil || !bytes.Equal(compact.Bytes(), res.frame) {
		t.Fatalf("judge(%q) = %q, want compact JSON (%v)", payload, res.frame, err)
	}
	out := standardMembers(t, res.frame)
	if res.outcome == isAnnouncement {
		if want := announcementHead + compacted(payload) + "}"; string(res.frame) != want || channel != broadcastChannel {
			t.Fatalf("judge(%q) = %q, want %q", payload, res.frame, want)
		}
		return
	}
	if !reFrame.Match(res.frame) || string(res.frame[res.stampAt:res.stampAt+16]) != noStamp || res.frame[res.stampAt+16] != '"' {
		t.Fatalf("judge(%q) = %q with its stamp at %d", payload, res.frame, res.stampAt)
	}
	if strings.HasSuffix(channel, ".notifications") {
		if string(out["data"]) != compacted(payload) || len(out) != 3 {
			t.Fatalf("judge(%q) = %q, want the body as data", payload, res.frame)
		}
		return
	}
	checkMembers(t, payload, opaque, in, out, res)
}

func compacted(data []byte) string {
	var b bytes.Buffer
	json.Compact(&b, data)
	return b.String()
}

// checkMembers compares a typed body, member by member, with its frame.
func checkMembers(t failer, payload []byte, opaque bool, in, out map[string]json.RawMessage, res result) {
	kind, _ := standardString(in["type"])
	if kind != strings.ToLower(kind) && kind != strings.ToUpper(kind) {
		t.Fatalf("judge(%q) accepted type %q", payload, kind)
	}
	kind = strings.ToLower(kind)
	want := map[string]string{"device_handoff": "device_command"}[kind]
	if want == "" {
		want = kind
	}
	if got, _ := standardString(out["type"]); got != want {
		t.Fatalf("judge(%q) = type %q, want %q", payload, got, want)
	}
	text := func(from, to, prefix string, ok func(string) bool) {
		a, aok := standardString(in[from])
		b, bok := standardString(out[to])
		if !aok || !bok || !ok(a) || b != prefix+a {
			t.Fatalf("judge(%q): %s %q became %s %q", payload, from, a, to, b)
		}
	}
	number := func(from, to string, required bool) {
		a, b := string(in[from]), string(out[to])
		if a != b || (a != "" || required) && (!reSeconds.MatchString(a) || len(a) == 10 && a > "4294967295") {
			t.Fatalf("judge(%q): %s %s became %s %s", payload, from, a, to, b)
		}
	}
	id := reUUID.MatchString
	if opaque {
		id = reOpaque.MatchString
	}
	chars := func(limit int) func(string) bool {
		return func(s string) bool { n := utf8.RuneCountInString(s); return n >= 1 && n <= limit }
	}
	stamp := string(in["timestamp"])
	if s, ok := standardString(in["timestamp"]); ok {
		stamp = s
	} else if strings.ContainsAny(stamp, "abcdef") {
		t.Fatalf("judge(%q) accepted timestamp %s", payload, stamp)
	}
	if got, _ := standardString(out["timestamp"]); got != stamp || !reTimestamp.MatchString(stamp) {
		t.Fatalf("judge(%q): timestamp %q became %q", payload, stamp, got)
	}
	if in["device_id"] != nil || kind == "watchlist_update" || kind == "progress_update" {
		text("device_id", "device_id", "", reDevice.MatchString)
	}
	if device, _ := standardString(out["device_id"]); device != res.device {
		t.Fatalf("judge(%q) = device %q, want %q", payload, res.device, device)
	}
	switch kind {
	case "watchlist_update":
		text("operation", "action", "", func(s string) bool { return s == "add" || s == "remove" })
		text("content_id", "content_id", "", id)
		text("unique_tag", "unique_tag", "", chars(128))
	case "progress_update":
		text("content_id", "content_id", "", id)
		number("position_seconds", "position", true)
		number("duration_seconds", "duration", false)
	case "device_handoff":
		text("target_device_id", "target_device", "", id)
		text("content_id", "command", "handoff:", chars(128))
		if want := in["position_seconds"]; want != nil {
			out["position_seconds"] = standardMembers(t, out["payload"])["position_seconds"]
		} else if out["payload"] != nil {
			t.Fatalf("judge(%q): payload %s of nothing", payload, out["payload"])
		}
		number("position_seconds", "position_seconds", false)
	case "device_command":
		text("target_device_id", "target_device", "", id)
		in, out["command_type"] = standardMembers(t, in["command"]), out["command"]
		text("command_type", "command", "", chars(64))
		delete(in, "command_type")
		payloadOut := standardMembers(t, out["payload"])
		if len(payloadOut) != len(in) {
			t.Fatalf("judge(%q): payload %s of %v", payload, out["payload"], in)
		}
		for name, value := range in {
			if string(payloadOut[name]) != compacted(value) {
				t.Fatalf("judge(%q): payload %q is %s, want %s", payload, name, payloadOut[name], value)
			}
		}
	default:
		t.Fatalf("judge(%q) accepted type %q", payload, kind)
	}
}

func FuzzBody(f *testing.F) {
	for _, c := range bodyCases(f) {
		f.Add(c.channel, []byte(c.payload), c.ids == "opaque")
	}
	f.Fuzz(func(t *testing.T, channel string, payload []byte, opaque bool) {
		checkJudge(t, channel, payload, opaque)
	})
}

// checkJudge judges a body and holds the verdict to what is true of every one.
func checkJudge(t failer, channel string, payload []byte, opaque bool) {
	before := bytes.Clone(payload)
	res, bad := rules{opaque: opaque}.judge(channel, payload)
	if !bytes.Equal(before, payload) {
		t.Fatalf("judge(%q) changed the payload to %q", before, payload)
	}
	if bad == nil {
		checkAccepted(t, channel, payload, opaque, res)
		return
	}
	known := false
	for _, r := range reasons {
		known = known || bad.reason == r
	}
	if !known || bad.detail == "" || res.frame != nil {
		t.Fatalf("judge(%q) = %+v, %+v, want a reason of the list and no frame", payload, res, bad)
	}
	if bad.reason == NotJSON && json.Valid(payload) && utf8.Valid(payload) {
		t.Fatalf("judge(%q) = %v, want JSON", payload, bad)
	}
}

// TestJudgeProperties takes a good body, spoils it or not, and judges it.
func TestJudgeProperties(t *testing.T) {
	t.Parallel()
	cases := bodyCases(t)
	values := []string{`"add"`, `"` + testContent + `"`, `"tv-1"`, `""`, `"\ud800"`, `"a b"`, "0", "4294967295", "4294967296", "1e2", "-1", "null", "{}",
		`{"command_type":"x","y":[1.0]}`, `"019a3f2c8e410003"`, `"progress_update"`, `"WATCHLIST_UPDATE"`, "12345678901234567890", " 7 "}
	names := []string{"type", "operation", "content_id", "unique_tag", "timestamp", "device_id", "position_seconds", "duration_seconds",
		"target_device_id", "command", "expires_at", "other", "command\\u005ftype"}
	rapid.Check(t, func(t *rapid.T) {
		c := rapid.SampledFrom(cases).Draw(t, "case")
		payload := c.payload
		for range rapid.IntRange(0, 3).Draw(t, "changes") {
			member := `"` + rapid.SampledFrom(names).Draw(t, "name") + `":` + rapid.SampledFrom(values).Draw(t, "value")
			if end := strings.LastIndexByte(payload, '}'); end > 0 && rapid.Bool().Draw(t, "behind") {
				payload = payload[:end] + "," + member + payload[end:]
			} else if strings.HasPrefix(payload, "{") {
				payload = "{" + member + "," + payload[1:]
			}
		}
		checkJudge(t, c.channel, []byte(payload), rapid.Bool().Draw(t, "opaque"))
	})
}
