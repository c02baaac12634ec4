package hlc

import (
	"bytes"
	"encoding/json"
	"math"
	"testing"
	"time"
)

const last = Timestamp(math.MaxUint64)

func TestNew(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		ms      int64
		counter uint16
		want    Timestamp
	}{
		{"zero", 0, 0, Zero},
		{"counter alone", 0, 7, 7},
		{"one millisecond", 1, 0, 1 << 16},
		{"both parts", 0x019a3f2c8e41, 3, 0x019a3f2c8e410003},
		{"full counter", 1, math.MaxUint16, 1<<17 - 1},
		{"last", 1<<48 - 1, math.MaxUint16, last},
		{"before 1970", -1, 3, 3},
		{"far before 1970", math.MinInt64, 0, Zero},
		{"after the range", 1 << 48, 0, 0xffffffffffff0000},
		{"far after the range", math.MaxInt64, math.MaxUint16, last},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := New(tt.ms, tt.counter); got != tt.want {
				t.Errorf("New(%d, %d) = %s, want %s", tt.ms, tt.counter, got, tt.want)
			}
		})
	}
}

func TestParts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in      Timestamp
		text    string
		millis  int64
		counter uint16
		time    time.Time
	}{
		{Zero, "0000000000000000", 0, 0, time.Unix(0, 0).UTC()},
		{0x019a3f2c8e410003, "019a3f2c8e410003", 1761996475969, 3, time.Date(2025, 11, 1, 11, 27, 55, 969e6, time.UTC)},
		{last, "ffffffffffffffff", 281474976710655, 65535, time.Date(10889, 8, 2, 5, 31, 50, 655e6, time.UTC)},
	}
	for _, tt := range tests {
		if got := tt.in.String(); got != tt.text {
			t.Errorf("Timestamp(%d).String() = %q, want %q", uint64(tt.in), got, tt.text)
		}
		if got := tt.in.Millis(); got != tt.millis {
			t.Errorf("%s.Millis() = %d, want %d", tt.in, got, tt.millis)
		}
		if got := tt.in.Counter(); got != tt.counter {
			t.Errorf("%s.Counter() = %d, want %d", tt.in, got, tt.counter)
		}
		if got := tt.in.Time(); got != tt.time {
			t.Errorf("%s.Time() = %v, want %v", tt.in, got, tt.time)
		}
		if got, err := Parse(tt.text); got != tt.in || err != nil {
			t.Errorf("Parse(%q) = %s, %v, want %s", tt.text, got, err, tt.in)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in string }{
		{"empty", ""},
		{"short", "019a3f2c8e41000"},
		{"long", "019a3f2c8e4100030"},
		{"upper case", "019A3F2C8E410003"},
		{"one upper case letter", "019a3f2c8e41000F"},
		{"not hex", "019a3f2c8e41000g"},
		{"prefix", "0x9a3f2c8e410003"},
		{"sign", "-19a3f2c8e410003"},
		{"plus", "+19a3f2c8e410003"},
		{"space before", " 19a3f2c8e410003"},
		{"space after", "019a3f2c8e41000 "},
		{"underscore", "019a_3f2c8e41003"},
		{"newline", "019a3f2c8e41000\n"},
		{"zero byte", "019a3f2c8e41000\x00"},
		{"below 0", "019a3f2c8e41000/"},
		{"above 9", "019a3f2c8e41000:"},
		{"below a", "019a3f2c8e41000`"},
		{"16 bytes, digits of another script", "٠١٢٣٤٥٦٧"},
		{"16 characters, full width", "０１９ａ３ｆ２ｃ８ｅ４１０００３"},
		{"invalid UTF-8", "019a3f2c8e41000\xff"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got, err := Parse(tt.in); got != Zero || err == nil {
				t.Errorf("Parse(%q) = %s, %v, want an error", tt.in, got, err)
			}
			if got, err := ParseBytes([]byte(tt.in)); got != Zero || err == nil {
				t.Errorf("ParseBytes(%q) = %s, %v, want an error", tt.in, got, err)
			}
			kept := Timestamp(42)
			if err := kept.UnmarshalText([]byte(tt.in)); err == nil || kept != 42 {
				t.Errorf("UnmarshalText(%q) = %v and left %d, want an error and 42", tt.in, err, kept)
			}
		})
	}
}

func TestAppendToKeepsWhatIsThere(t *testing.T) {
	t.Parallel()
	got := Timestamp(0xab).AppendTo([]byte("since="))
	if want := []byte("since=00000000000000ab"); !bytes.Equal(got, want) {
		t.Errorf("AppendTo(since=) = %q, want %q", got, want)
	}
}

func TestJSONIsText(t *testing.T) {
	t.Parallel()
	type frame struct {
		HLC Timestamp `json:"hlc"`
	}
	const text = `{"hlc":"019a3f2c8e410003"}`
	got, err := json.Marshal(frame{0x019a3f2c8e410003})
	if string(got) != text || err != nil {
		t.Errorf("Marshal(stamp) = %s, %v, want %s", got, err, text)
	}
	var back frame
	if err := json.Unmarshal([]byte(text), &back); back.HLC != 0x019a3f2c8e410003 || err != nil {
		t.Errorf("Unmarshal(%s) = %s, %v, want 019a3f2c8e410003", text, back.HLC, err)
	}
	if err := json.Unmarshal([]byte(`{"hlc":1761996475969}`), &back); err == nil {
		t.Error("Unmarshal(number) = nil, want an error: JavaScript rounds such numbers")
	}
}

func TestTextDoesNotAllocate(t *testing.T) {
	dst, text := make([]byte, 0, textLen), []byte("019a3f2c8e410003")
	if n := testing.AllocsPerRun(100, func() { dst = last.AppendTo(dst[:0]) }); n != 0 {
		t.Errorf("AppendTo: %v allocations, want 0", n)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = ParseBytes(text) }); n != 0 {
		t.Errorf("ParseBytes: %v allocations, want 0", n)
	}
}
