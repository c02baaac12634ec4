package edge

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

const (
	uuidA = "7f3b1c52-0c5e-4b1a-9d0e-2f6f6c1d9a10"
	uuidB = "0b8e5c1e-6a54-4f8e-8a55-0f4b7c2d1e33"
)

func TestParseFrame(t *testing.T) {
	t.Parallel()
	const now = 1795437339530
	watch := `{"type":"watchlist_update","id":"` + uuidA + `","operation":"add","content_id":"` + uuidB + `","unique_tag":"t","timestamp":"019a3f2c8e410003"}`
	progress := `{"type":"progress_update","id":"` + uuidA + `","content_id":"` + uuidB + `","position_seconds":100,"duration_seconds":7200,"timestamp":"1795437339530"}`
	command := `{"type":"device_command","id":"` + uuidA + `","target_device_id":"` + uuidB + `","command_type":"pause","payload":{},"expires_at":0,"timestamp":1795437339530}`
	handoff := `{"type":"device_handoff","id":"` + uuidA + `","target_device_id":"` + uuidB + `","content_id":"a b","position_seconds":100}`
	change := func(s, old, new string) string {
		if !strings.Contains(s, old) {
			t.Fatalf("%s has no %s", s, old)
		}
		return strings.Replace(s, old, new, 1)
	}
	for _, c := range []struct{ name, in, want string }{
		{"ping", `{"type":"ping"}`, ""},
		{"heartbeat", `{"type":"device_heartbeat"}`, ""},
		{"ack", `{"type":"ack","hlc":"019a3f2c8e410003"}`, ""},
		{"token", `{"type":"token","token":"a.b.c"}`, ""},
		{"watchlist", watch, ""},
		{"progress", progress, ""},
		{"command", command, ""},
		{"handoff", handoff, ""},
		{"unknown members", `{"type":"ping","x":[{}]}`, ""},
		{"white space", " {\n\"type\" : \"ping\" } ", ""},

		{"empty", ``, "bad_json"},
		{"not JSON", `{`, "bad_json"},
		{"array", `[]`, "bad_json"},
		{"null", `null`, "bad_json"},
		{"two", `{"type":"ping"}{}`, "bad_json"},
		{"deep", strings.Repeat("[", 20000), "bad_json"},
		{"no type", `{}`, "bad_field"},
		{"type is a number", `{"type":1}`, "bad_field"},
		{"type in upper case", `{"TYPE":"ping"}`, "bad_field"},
		{"unknown type", `{"type":"hello"}`, "unknown_type"},
		{"upper-case ping", `{"type":"PING"}`, "unknown_type"},
		{"ack without hlc", `{"type":"ack"}`, "bad_field"},
		{"ack in upper case", `{"type":"ack","hlc":"019A3F2C8E410003"}`, "bad_field"},
		{"ack of a number", `{"type":"ack","hlc":1}`, "bad_field"},
		{"token empty", `{"type":"token","token":""}`, "bad_field"},
		{"no id", change(watch, `"id":"`+uuidA+`",`, ``), "bad_field"},
		{"id in upper case", change(watch, uuidA, strings.ToUpper(uuidA)), "bad_field"},
		{"operation", change(watch, `"add"`, `"put"`), "bad_field"},
		{"content_id", change(watch, uuidB, "x"), "bad_field"},
		{"tag of 129", change(watch, `"t"`, `"`+strings.Repeat("é", 129)+`"`), "bad_field"},
		{"tag of 128", change(watch, `"t"`, `"`+strings.Repeat("é", 128)+`"`), ""},
		{"timestamp", change(watch, `"019a3f2c8e410003"`, `"yesterday"`), "bad_field"},
		{"timestamp negative", change(watch, `"019a3f2c8e410003"`, `-1`), "bad_field"},
		{"timestamp of 21 digits", change(watch, `"019a3f2c8e410003"`, `123456789012345678901`), "bad_field"},
		{"position 100.0", change(progress, `:100,`, `:100.0,`), "bad_field"},
		{"position 1e2", change(progress, `:100,`, `:1e2,`), "bad_field"},
		{"position -1", change(progress, `:100,`, `:-1,`), "bad_field"},
		{"position as text", change(progress, `:100,`, `:"100",`), "bad_field"},
		{"position 4294967296", change(progress, `:100,`, `:4294967296,`), "bad_field"},
		{"position 4294967295", change(progress, `:100,`, `:4294967295,`), ""},
		{"no position", change(progress, `"position_seconds":100,`, ``), "bad_field"},
		{"no duration", change(progress, `"duration_seconds":7200,`, ``), ""},
		{"payload is no object", change(command, `{},`, `[],`), "bad_field"},
		{"command type empty", change(command, `"pause"`, `""`), "bad_field"},
		{"expires as text", change(command, `:0,`, `:"0",`), "bad_field"},
		{"expired", change(command, `:0,`, `:1795437339530,`), "expired"},
		{"expires later", change(command, `:0,`, `:1795437339531,`), ""},
		{"expired and bad", change(change(command, `:0,`, `:1,`), uuidB, "x"), "bad_field"},
	} {
		_, bad := parseFrame([]byte(c.in), false, now)
		got := ""
		if bad != nil {
			got = bad.code
		}
		if got != c.want {
			t.Errorf("%s: parseFrame(%.200s) = %q (%+v), want %q", c.name, c.in, got, bad, c.want)
		}
	}
	if _, bad := parseFrame([]byte(change(watch, uuidB, "tt-0111161")), true, now); bad != nil {
		t.Errorf("parseFrame(opaque content_id) = %+v, want it taken", bad)
	}
	for id, want := range map[string]bool{"a b": true, "a\u00a0b": false, "a\u200bb": false, "": false} {
		if _, bad := parseFrame([]byte(change(watch, uuidB, id)), true, now); (bad == nil) != want {
			t.Errorf("parseFrame(opaque content_id %q) = %+v, want it taken: %v", id, bad, want)
		}
	}
}

func TestValidUUID(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]bool{
		uuidA: true, strings.Repeat("0", 8) + "-0000-0000-0000-000000000000": true,
		"": false, strings.ToUpper(uuidA): false, uuidA[:35]: false, uuidA + "0": false,
		"{" + uuidA[:34] + "}": false, strings.ReplaceAll(uuidA, "-", "0"): false, uuidA[:35] + "g": false,
	} {
		if got := validUUID(in); got != want {
			t.Errorf("validUUID(%q) = %v, want %v", in, got, want)
		}
	}
}

// Whatever a device sends: the answer is one of the protocol, what is taken is
// an object with a type, and the answer to a bad frame is JSON itself.
func FuzzDeviceFrame(f *testing.F) {
	names, err := filepath.Glob("testdata/deviceframes/*.json")
	if err != nil || len(names) == 0 {
		f.Fatalf("Glob(testdata/deviceframes) = %v, %v, want seeds", names, err)
	}
	for _, name := range names {
		seed, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed, false)
		f.Add(seed, true)
	}
	codes := map[string]bool{"bad_json": true, "unknown_type": true, "bad_field": true, "expired": true}
	f.Fuzz(func(t *testing.T, text []byte, opaque bool) {
		if !utf8.Valid(text) {
			return // closed with 1007 before it is parsed
		}
		frame, bad := parseFrame(text, opaque, 1795437339530)
		if bad == nil {
			var obj map[string]any
			if err := json.Unmarshal(text, &obj); err != nil || obj["type"] == nil {
				t.Errorf("parseFrame(%q) = taken, want bad_json", text)
			}
			return
		}
		if !codes[bad.code] {
			t.Errorf("parseFrame(%q) = code %q, want one of the protocol", text, bad.code)
		}
		if answer := appendError(nil, frame.id, bad.code, bad.message); !json.Valid(answer) {
			t.Errorf("answer to %q = %q, want JSON", text, answer)
		}
	})
}
