package edge

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"reprise/hlc"
)

// What is published of an update, byte for byte.
func TestUpdateBody(t *testing.T) {
	t.Parallel()
	const (
		now   = 1795437339530
		stamp = hlc.Timestamp(0x019a3f2c8e410003)
		id    = `"id":"c2a7c1de-30a1-4c86-8a9a-3f54be5c7d01"`
		film  = `"0b8e5c1e-6a54-4f8e-8a55-0f4b7c2d1e33"`
		tv    = `"5d7f2a90-8c31-4e7a-b1f4-93a1c0de5b77"`
		own   = `"7f3b1c52-0c5e-4b1a-9d0e-2f6f6c1d9a10"`
	)
	for _, c := range []struct{ name, in, want string }{
		{"watchlist",
			`{"type":"watchlist_update",` + id + `,"operation":"add","content_id":` + film + `,"unique_tag":"t1","timestamp":"019a3f2c8e410001"}`,
			`{"type":"watchlist_update","operation":"add","content_id":` + film + `,"unique_tag":"t1","timestamp":"019a3f2c8e410001","device_id":` + own + `}`},
		{"members in another order, white space, members that nobody knows",
			"{ \"unique_tag\" :\t\"t1\",\r\n\"device_id\":\"a stranger\",\"x\":{\"y\":[1, 2]},\"timestamp\":17,\"content_id\": " + film + `,` + id + `,"operation":"remove","type":"watchlist_update"}`,
			`{"type":"watchlist_update","operation":"remove","content_id":` + film + `,"unique_tag":"t1","timestamp":"17","device_id":` + own + `}`},
		{"the last of equal names counts",
			`{"type":"ping","type":"watchlist_update",` + id + `,"operation":"put","operation":"add","content_id":` + film + `,"unique_tag":"no","unique_tag":"yes","timestamp":1}`,
			`{"type":"watchlist_update","operation":"add","content_id":` + film + `,"unique_tag":"yes","timestamp":"1","device_id":` + own + `}`},
		{"strings are kept, nothing is escaped for HTML",
			`{"type":"watchlist_update",` + id + `,"operation":"add","content_id":` + film + `,"unique_tag":"<a href='x'>&é😀\u2028\"\\\/\u00e9\u0000","timestamp":1}`,
			`{"type":"watchlist_update","operation":"add","content_id":` + film + `,"unique_tag":"<a href='x'>&é😀\u2028\"\\\/\u00e9\u0000","timestamp":"1","device_id":` + own + `}`},
		{"half a surrogate pair",
			`{"type":"watchlist_update",` + id + `,"operation":"add","content_id":` + film + `,"unique_tag":"\ud83d","timestamp":1}`,
			`{"type":"watchlist_update","operation":"add","content_id":` + film + `,"unique_tag":"\ud83d","timestamp":"1","device_id":` + own + `}`},
		{"no timestamp",
			`{"type":"watchlist_update",` + id + `,"operation":"add","content_id":` + film + `,"unique_tag":"t"}`,
			`{"type":"watchlist_update","operation":"add","content_id":` + film + `,"unique_tag":"t","timestamp":"019a3f2c8e410003","device_id":` + own + `}`},
		{"a timestamp of twenty digits",
			`{"type":"watchlist_update",` + id + `,"operation":"add","content_id":` + film + `,"unique_tag":"t","timestamp":18446744073709551615}`,
			`{"type":"watchlist_update","operation":"add","content_id":` + film + `,"unique_tag":"t","timestamp":"18446744073709551615","device_id":` + own + `}`},
		{"a timestamp with zeros before it",
			`{"type":"watchlist_update",` + id + `,"operation":"add","content_id":` + film + `,"unique_tag":"t","timestamp":"007"}`,
			`{"type":"watchlist_update","operation":"add","content_id":` + film + `,"unique_tag":"t","timestamp":"007","device_id":` + own + `}`},

		{"progress",
			`{"type":"progress_update",` + id + `,"content_id":` + film + `,"position_seconds":100,"duration_seconds":4294967295,"timestamp":"1795437339530"}`,
			`{"type":"progress_update","content_id":` + film + `,"position_seconds":100,"timestamp":"1795437339530","device_id":` + own + `,"duration_seconds":4294967295}`},
		{"progress without a duration",
			`{"type":"progress_update",` + id + `,"content_id":` + film + `,"position_seconds":0,"timestamp":1}`,
			`{"type":"progress_update","content_id":` + film + `,"position_seconds":0,"timestamp":"1","device_id":` + own + `}`},

		{"command",
			`{"type":"device_command",` + id + `,"target_device_id":` + tv + `,"command_type":"seek","payload":{"to":1.50,"why":["a",{}]},"expires_at":1795437339531,"timestamp":1}`,
			`{"type":"device_command","target_device_id":` + tv + `,"command":{"command_type":"seek","to":1.50,"why":["a",{}]},"timestamp":"1","device_id":` + own + `,"expires_at":1795437339531}`},
		{"command that never expires, without members",
			`{"type":"device_command",` + id + `,"target_device_id":` + tv + `,"command_type":"pause","payload":{ },"expires_at":0,"timestamp":1}`,
			`{"type":"device_command","target_device_id":` + tv + `,"command":{"command_type":"pause"},"timestamp":"1","device_id":` + own + `}`},
		{"command without a payload",
			`{"type":"device_command",` + id + `,"target_device_id":` + tv + `,"command_type":"pause","timestamp":1}`,
			`{"type":"device_command","target_device_id":` + tv + `,"command":{"command_type":"pause"},"timestamp":"1","device_id":` + own + `}`},
		{"payload as written, compacted",
			`{"type":"device_command",` + id + `,"target_device_id":` + tv + `,"command_type":"p<a>\ud83d",` +
				`"payload": { "a" : 1e2 , "a":-0.0, "b": [ 123456789012345678901234567890, " { \" } " ] ,"Command_Type":null, "<&>":"\udc00\u2028" },"timestamp":1}`,
			`{"type":"device_command","target_device_id":` + tv + `,"command":{"command_type":"p<a>\ud83d",` +
				`"a":1e2,"a":-0.0,"b":[123456789012345678901234567890," { \" } "],"Command_Type":null,"<&>":"\udc00\u2028"},"timestamp":"1","device_id":` + own + `}`},

		{"handoff",
			`{"type":"device_handoff",` + id + `,"target_device_id":` + tv + `,"content_id":"a \"film\"","position_seconds":100}`,
			`{"type":"device_handoff","target_device_id":` + tv + `,"content_id":"a \"film\"","timestamp":"019a3f2c8e410003","position_seconds":100,"device_id":` + own + `}`},
		{"handoff without a position",
			`{"type":"device_handoff",` + id + `,"target_device_id":` + tv + `,"content_id":"x","timestamp":"1"}`,
			`{"type":"device_handoff","target_device_id":` + tv + `,"content_id":"x","timestamp":"1","device_id":` + own + `}`},
	} {
		f, bad := parseFrame([]byte(c.in), false, now)
		if bad != nil {
			t.Errorf("%s: parseFrame(%s) = %+v, want it taken", c.name, c.in, bad)
			continue
		}
		got, bad := f.body(uuidA, func() hlc.Timestamp { return stamp })
		if bad != nil || string(got) != c.want {
			t.Errorf("%s: body(%s) = %s, %+v\nwant %s", c.name, c.in, got, bad, c.want)
		}
	}
}

func TestUpdateChannel(t *testing.T) {
	t.Parallel()
	for kind, want := range map[frameKind]string{
		frameWatchlist: "user." + uuidA + ".sync", frameProgress: "user." + uuidA + ".sync",
		frameHandoff: "user." + uuidA + ".sync", frameCommand: "user." + uuidA + ".devices",
	} {
		if got := kind.channel(uuidA); got != want {
			t.Errorf("channel(%s) = %s, want %s", updates[kind].kind, got, want)
		}
	}
}

// What the bridge would refuse on its way back is refused on its way up, at
// exactly the same size and depth.
func TestUpdateBounds(t *testing.T) {
	t.Parallel()
	command := func(payload string) string {
		return `{"type":"device_command","id":"` + uuidB + `","target_device_id":"` + uuidB + `","command_type":"x","payload":` + payload + `,"timestamp":1}`
	}
	nested := func(n int) string { return `{"a":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + `}` }
	build := func(frame string) ([]byte, *badFrame) {
		f, bad := parseFrame([]byte(frame), false, 0)
		if bad != nil {
			return nil, bad
		}
		return f.body(uuidA, func() hlc.Timestamp { return 1 })
	}
	small, bad := build(command(`{"a":""}`))
	if bad != nil {
		t.Fatalf("body() = %+v, want it taken", bad)
	}
	filled := func(size int) string { return `{"a":"` + strings.Repeat("x", size-len(small)) + `"}` }
	for _, c := range []struct{ name, payload, want string }{
		{"32 KiB", filled(maxBody), ""},
		{"32 KiB and a byte", filled(maxBody + 1), "bad_field the update: 32769 bytes as it would be published, at most 32768 are possible"},
		{"32 KiB but for white space", strings.Replace(filled(maxBody), ":", ":   \n", 1), ""},
		{"31 levels", nested(31), ""},
		{"32 levels", nested(32), "bad_field payload: more than 31 levels"},
		{"brackets in strings", `{"a":"` + strings.Repeat(`[{\"`, 100) + `"}`, ""},
		{"a command_type of its own", `{"a":1,"command_type":"y"}`, "bad_field payload: has a command_type, which stands beside it"},
		{"a command_type in disguise", `{"comm\u0061nd_type":1}`, "bad_field payload: has a command_type, which stands beside it"},
		{"a command_type further down", `{"a":{"command_type":1}}`, ""},
		{"null", `null`, "bad_field payload: not an object"},
		{"array", `[]`, "bad_field payload: not an object"},
	} {
		body, bad := build(command(c.payload))
		got := ""
		if bad != nil {
			got = bad.code + " " + bad.message
		}
		if got != c.want || bad == nil && (len(body) > maxBody || levels(body) > maxLevels) {
			t.Errorf("%s: body() = %d bytes of %d levels, %q, want %q", c.name, len(body), levels(body), got, c.want)
		}
	}
}

func TestLevels(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int{
		`1`: 0, `"[{"`: 0, `{}`: 1, `[[],{}]`: 2, `{"]":[{"\"[":"\\"}],"b":[]}`: 3, `["\\",[1]]`: 2,
	} {
		if got := levels([]byte(in)); got != want {
			t.Errorf("levels(%s) = %d, want %d", in, got, want)
		}
	}
}

// Whatever is taken of a device: what is published says the same, member by
// member, in the form that the protocol asks for. That the bridge takes it is
// tested with the real one, in e2e.
func FuzzUpdateBody(f *testing.F) {
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
	}
	f.Add([]byte(`{"type":"device_command","id":"`+uuidA+`","target_device_id":" x","command_type":"\ud83d<","payload":{ "a" : [ 1.0 , "\u2028" ] },"expires_at":9}`), true)
	f.Fuzz(func(t *testing.T, text []byte, opaque bool) {
		if !utf8.Valid(text) {
			return // closed with 1007 before it is parsed
		}
		frame, bad := parseFrame(text, opaque, 0)
		if bad != nil || frame.raw == nil {
			return
		}
		got, bad := frame.body(uuidA, func() hlc.Timestamp { return 0x019a3f2c8e410003 })
		if bad != nil {
			if len(text) < maxBody-512 {
				t.Fatalf("body(%q) = %+v, want it taken", text, bad)
			}
			return
		}
		if err := checkBody(got, text); err != nil {
			t.Fatalf("body(%q) = %q: %v", text, got, err)
		}
	})
}

// checkBody holds what is published against the frame that it comes from.
func checkBody(body, frame []byte) error {
	var in, out map[string]json.RawMessage
	if err := json.Unmarshal(body, &out); err != nil {
		return err
	}
	json.Unmarshal(frame, &in)
	if c := compact(body); c != string(body) || len(body) > maxBody || levels(body) > maxLevels {
		return fmt.Errorf("%d bytes, %d levels, want it compact and within the bounds", len(body), levels(body))
	}
	kind := string(out["type"])
	if !strings.HasPrefix(string(body), `{"type":`+kind) {
		return fmt.Errorf("it does not begin with its type")
	}
	want := map[string]string{"type": kind, "device_id": `"` + uuidA + `"`, "timestamp": `"019a3f2c8e410003"`}
	for name, raw := range in {
		switch name {
		case "timestamp":
			want[name] = `"` + strings.Trim(string(raw), `"`) + `"`
		case "expires_at":
			if kind == `"device_command"` && string(raw) != "0" {
				want[name] = string(raw)
			}
		case "operation", "content_id", "unique_tag", "position_seconds", "duration_seconds", "target_device_id":
			if slices.Contains(membersOf(kind), name) {
				want[name] = string(raw)
			}
		}
	}
	if kind == `"device_command"` {
		want["command"] = `{"command_type":` + string(in["command_type"])
		if inside := strings.TrimPrefix(compact(in["payload"]), "{"); inside != "" && inside != "}" {
			want["command"] += "," + inside
		} else {
			want["command"] += "}"
		}
	}
	if len(out) != len(want) {
		return fmt.Errorf("%d members, want %v", len(out), want)
	}
	for name, w := range want {
		if string(out[name]) != w {
			return fmt.Errorf("%s = %s, want %s", name, out[name], w)
		}
	}
	return nil
}

func membersOf(kind string) []string {
	for _, u := range updates {
		if `"`+u.kind+`"` == kind {
			return u.members
		}
	}
	return nil
}

func compact(raw []byte) string {
	var b bytes.Buffer
	json.Compact(&b, raw)
	return b.String()
}

func BenchmarkUpdateBody(b *testing.B) {
	text, err := os.ReadFile("testdata/deviceframes/command.json")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		f, bad := parseFrame(text, false, 0)
		if bad != nil {
			b.Fatal(bad)
		}
		if _, bad = f.body(uuidA, func() hlc.Timestamp { return 1 }); bad != nil {
			b.Fatal(bad)
		}
	}
}
