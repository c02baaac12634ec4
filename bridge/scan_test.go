package bridge

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// valid reports whether the scanner takes data for one JSON value.
func valid(data []byte) bool {
	end, err := skipValue(data, 0, unlimited)
	return err == nil && skipSpace(data, end) == len(data)
}

func TestSkipValue(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in    string
		limit int
		end   int
		err   error
	}{
		{`1 `, 0, 1, nil},
		{` "a" x`, 0, 4, nil},
		{`{}`, 0, 0, errDepth},
		{`{}`, 1, 2, nil},
		{`[[]]`, 1, 1, errDepth},
		{`[[]]`, 2, 4, nil},
		{`[[],{"a":[]}]`, 3, 13, nil},
		{`[[],{"a":[]}]`, 2, 9, errDepth},
		{`{"a":1,}`, 9, 0, errSyntax},
		{`[1,]`, 9, 0, errSyntax},
		{`[1 2]`, 9, 0, errSyntax},
		{`{"a":1]`, 9, 0, errSyntax},
		{`[1}`, 9, 0, errSyntax},
		{`01`, 9, 1, nil}, // the caller sees that something follows
		{`-`, 9, 0, errSyntax},
		{`1.`, 9, 0, errSyntax},
		{`1e`, 9, 0, errSyntax},
		{`"\u12g4"`, 9, 0, errSyntax},
		{"\"\n\"", 9, 0, errSyntax},
		{`tru`, 9, 0, errSyntax},
		{``, 9, 0, errSyntax},
		{strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000), unlimited, 40_000, nil},
		{strings.Repeat(`{"a":[`, 300) + strings.Repeat("]}", 300), 600, 2400, nil},
		{strings.Repeat(`{"a":[`, 300) + strings.Repeat("]}", 300), 599, 0, errDepth},
	} {
		end, err := skipValue([]byte(tt.in), 0, tt.limit)
		if tt.in == "01" {
			tt.err, end = errSyntax, 1
		}
		if err != tt.err || err == nil && end != tt.end {
			t.Errorf("skipValue(%.40q, %d) = %d, %v, want %d, %v", tt.in, tt.limit, end, err, tt.end, tt.err)
		}
	}
}

// TestScanProperties holds the scanner to encoding/json on JSON that rapid makes.
func TestScanProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		data := genJSON(3).Draw(t, "json")
		if rapid.Bool().Draw(t, "damage") && len(data) > 0 {
			i := rapid.IntRange(0, len(data)-1).Draw(t, "at")
			data[i] = rapid.SampledFrom([]byte(`{}[]",:\ue0-1 x`)).Draw(t, "byte")
		}
		compareWithStandard(t, data)
	})
}

func FuzzScan(f *testing.F) {
	for _, seed := range []string{`{"a":[1,-0.5e+3,"\u00e9\ud83d\ude00",null,true,false,{}]}`, ` [ ] `, `"\ud800"`, `{"a":1,"a":2}`,
		strings.Repeat("[", 300), `1e`, `{"\u0061" : "x"}`, "\xff"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) { compareWithStandard(t, data) })
}

type failer interface {
	Fatalf(format string, args ...any)
}

func compareWithStandard(t failer, data []byte) {
	want := json.Valid(data)
	if deep(data) {
		return // encoding/json gives up there
	}
	if got := valid(data); got != want {
		t.Fatalf("valid(%q) = %v, want %v", data, got, want)
	}
	if !want {
		return
	}
	var compact bytes.Buffer
	json.Compact(&compact, data)
	if got := appendCompact(nil, data); !bytes.Equal(got, compact.Bytes()) {
		t.Fatalf("appendCompact(%q) = %q, want %q", data, got, compact.Bytes())
	}
	at := skipSpace(data, 0)
	switch data[at] {
	case '"':
		compareString(t, bytes.TrimSpace(data))
	case '{':
		compareMembers(t, data, at)
	case '[':
		compareElements(t, data, at)
	}
}

func deep(data []byte) bool {
	return bytes.Count(data, []byte("["))+bytes.Count(data, []byte("{")) > 9000
}

func compareString(t failer, data []byte) {
	text, ok := parseText(data)
	var want string
	json.Unmarshal(data, &want)
	if !utf8.Valid(data) {
		return // bodies with bad UTF-8 are refused before
	}
	if !ok || string(text.val) != want {
		t.Fatalf("parseText(%q) = %q, %v, want %q", data, text.val, ok, want)
	}
	again := append(text.append([]byte{'"'}), '"')
	var back string
	if err := json.Unmarshal(again, &back); err != nil || back != want {
		t.Fatalf("text(%q).append = %q, want the literal of %q", data, again, want)
	}
}

func compareMembers(t failer, data []byte, at int) {
	var want map[string]json.RawMessage
	json.Unmarshal(data, &want)
	got := make(map[string][]byte)
	m := newMembers(data, at, unlimited)
	for name, value, ok := m.next(); ok; name, value, ok = m.next() {
		got[string(name)] = value
	}
	if m.err != nil || skipSpace(data, m.at) != len(data) {
		t.Fatalf("members(%q): %v at %d, want the end", data, m.err, m.at)
	}
	if !utf8.Valid(data) {
		return
	}
	if len(got) != len(want) {
		t.Fatalf("members(%q) = %d names, want %d", data, len(got), len(want))
	}
	for name, value := range want {
		if !bytes.Equal(got[name], value) {
			t.Fatalf("members(%q)[%q] = %q, want %q", data, name, got[name], value)
		}
	}
}

func compareElements(t failer, data []byte, at int) {
	var want []json.RawMessage
	json.Unmarshal(data, &want)
	n := 0
	e := newElements(data, at)
	for value, ok := e.next(); ok; value, ok = e.next() {
		if n >= len(want) || !bytes.Equal(value, want[n]) {
			t.Fatalf("elements(%q)[%d] = %q, want %q", data, n, value, want)
		}
		n++
	}
	if e.err != nil || n != len(want) || skipSpace(data, e.at) != len(data) {
		t.Fatalf("elements(%q) = %d, %v at %d, want %d", data, n, e.err, e.at, len(want))
	}
}

// genJSON makes JSON text with all the freedom that the grammar leaves.
func genJSON(depth int) *rapid.Generator[[]byte] {
	space := rapid.SampledFrom([]string{"", "", "", " ", "\n\t", "\r "})
	str := rapid.Map(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", `\n`, `\"`, `\\`, `\/`, `\u0041`, `\ud83d\ude00`, `\ud800`, `\udc00`, "é", "😀", " ", "{", "]"}), 0, 6),
		func(s []string) string { return `"` + strings.Join(s, "") + `"` })
	scalar := rapid.OneOf(str, rapid.SampledFrom([]string{"0", "-0", "1", "12.50", "1e5", "-3E-2", "9007199254740993", "true", "false", "null"}))
	return rapid.Custom(func(t *rapid.T) []byte {
		var build func(depth int) string
		build = func(depth int) string {
			kind := rapid.IntRange(0, 3).Draw(t, "kind")
			if depth == 0 || kind < 2 {
				return space.Draw(t, "space") + scalar.Draw(t, "scalar") + space.Draw(t, "space")
			}
			n := rapid.IntRange(0, 3).Draw(t, "n")
			parts := make([]string, n)
			for i := range parts {
				if kind == 2 {
					parts[i] = space.Draw(t, "space") + str.Draw(t, "name") + space.Draw(t, "space") + ":"
				}
				parts[i] += build(depth - 1)
			}
			inside := space.Draw(t, "space") + strings.Join(parts, ",") + space.Draw(t, "space")
			if kind == 2 {
				return "{" + inside + "}"
			}
			return "[" + inside + "]"
		}
		return []byte(build(depth))
	})
}
