package edge

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf8"

	"reprise/hlc"
	"reprise/stream"
)

// The frames that the edge says are pinned in testdata, byte for byte.
func TestFramesArePinned(t *testing.T) {
	t.Parallel()
	const (
		user   = "7f3b1c52-0c5e-4b1a-9d0e-2f6f6c1d9a10"
		device = "0b8e5c1e-6a54-4f8e-8a55-0f4b7c2d1e33"
		id     = "c2a7c1de-30a1-4c86-8a9a-3f54be5c7d01"
	)
	stamp := hlc.Timestamp(0x019a3f2c8e410003)
	w := welcome{connection: id, user: user, device: device, node: "edge-1", serverTime: 1795437339530, pingMS: 30000, idleMS: 60000, since: stamp}
	cut := w
	cut.since, cut.reason = 0, stream.Trimmed
	for name, got := range map[string][]byte{
		"welcome":            appendWelcome(nil, w),
		"welcome-incomplete": appendWelcome(nil, cut),
		"caught-up":          appendCaughtUp(nil, stamp, 20),
		"position":           appendPosition(nil, stamp),
		"reconnect":          appendReconnect(nil, 1500),
		"token-expiring":     appendExpiring(nil, 30000),
		"pong":               appendPong(nil),
		"error":              appendError(nil, id, "bad_field", `hlc: "x" <&>`),
		"error-temporary":    appendError(nil, id, "outbox_full", "the outbox takes no more for now"),
		"accepted":           appendAccepted(nil, id),
		"error-without-id":   appendError(nil, "", "bad_json", "not a JSON object"),
		"refusal":            appendRefusal(nil, "draining", "this node is going away"),
	} {
		path := filepath.Join("testdata", "frames", name+".json")
		want, err := os.ReadFile(path)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if want = bytes.TrimSuffix(want, []byte("\n")); !bytes.Equal(got, want) {
			t.Errorf("%s = %s, want %s", name, got, want)
		}
		if !json.Valid(got) {
			t.Errorf("%s = %s, which is not JSON", name, got)
		}
	}
}

func TestFrameLengths(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 125, 126, 127, 65535, 65536, 70000} {
		f := appendFrame(nil, opText, make([]byte, n))
		if got, ok := frameLen(f); !ok || got != len(f) {
			t.Errorf("frameLen(frame of %d) = %d, %v, want %d, true", n, got, ok, len(f))
		}
		two := append(bytes.Clone(f), f...)
		for _, c := range []struct{ offset, want int }{{0, 0}, {1, len(f)}, {len(f), len(f)}, {len(f) + 1, 2 * len(f)}, {2 * len(f), 2 * len(f)}} {
			if got := frameEnd(two, c.offset); got != c.want {
				t.Errorf("frameEnd(two frames of %d, %d) = %d, want %d", n, c.offset, got, c.want)
			}
		}
	}
}

func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "a", `"\`, "\x00\x1f", "é\u2028<>&", "\U0001F600"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) {
			return
		}
		var back string
		if err := json.Unmarshal(appendString(nil, s), &back); err != nil || back != s {
			t.Errorf("appendString(%q) reads back as %q, %v", s, back, err)
		}
	})
}
