package bridge

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

const (
	testUser    = "6f0c1d8e-2b7a-4f3d-9a55-0c1e2d3f4a5b"
	testContent = "a81bc81b-dead-4e5d-abff-90865d1e13b1"
	testDevice  = "d2719f3e-8c04-4c6b-b1f0-5a6b7c8d9e0f"
)

func TestJudgeTable(t *testing.T) {
	t.Parallel()
	perReason := make(map[Reason]int)
	for _, c := range bodyCases(t) {
		res, bad := rules{opaque: c.ids == "opaque"}.judge(c.channel, []byte(c.payload))
		in := fmt.Sprintf("judge(%s): %s", c.name, c.payload)
		if bad != nil || c.reason != "" {
			if bad == nil || string(bad.reason) != c.reason {
				t.Errorf("%.300s\n = %v, want %q", in, bad, c.reason)
				continue
			}
			perReason[bad.reason]++
			continue
		}
		if c.heartbeat != "" {
			if res.outcome != isHeartbeat || res.device != c.heartbeat || res.user != testUser || res.frame != nil {
				t.Errorf("%s\n = %+v, want a heartbeat of %s", in, res, c.heartbeat)
			}
			continue
		}
		want := isEvent
		if c.channel == broadcastChannel {
			want = isAnnouncement
		}
		if string(res.frame) != c.frame || res.outcome != want {
			t.Errorf("%s\n = %d %s\nwant %d %s", in, res.outcome, res.frame, want, c.frame)
		}
		expires := ""
		if res.expires != 0 {
			expires = strconv.FormatInt(res.expires, 10)
		}
		if res.device != c.device || expires != c.expires {
			t.Errorf("%s\n = device %q, expires %q, want %q, %q", in, res.device, expires, c.device, c.expires)
		}
	}
	for _, r := range reasons {
		if perReason[r] < 2 && r != TooLarge {
			t.Errorf("testdata/bodies.txt: %d cases of %s, want several", perReason[r], r)
		}
	}
}

// TestJudgeSize is about payloads that no table can hold.
func TestJudgeSize(t *testing.T) {
	t.Parallel()
	notice, sync := "user."+testUser+".notifications", "user."+testUser+".sync"
	object := func(n int) string { return `{"a":"` + strings.Repeat("x", n-8) + `"}` }
	for _, tt := range []struct {
		name, channel, payload string
		want                   Reason
	}{
		{"32 KiB", notice, object(maxPayload), ""},
		{"32 KiB and a byte", notice, object(maxPayload + 1), TooLarge},
		{"on sync", sync, object(maxPayload + 1), TooLarge},
		{"on announcements", broadcastChannel, object(maxPayload + 1), TooLarge},
		{"white space counts", notice, "{" + strings.Repeat(" ", maxPayload) + "}", TooLarge},
		{"not JSON either", sync, strings.Repeat("x", maxPayload+1), TooLarge},
		{"deep and large", notice, strings.Repeat("[", maxPayload+1), TooLarge},
		{"bad UTF-8 in a string", notice, "{\"a\":\"\xff\"}", NotJSON},
		{"bad UTF-8 in a name", sync, "{\"\xc3\":1}", NotJSON},
		{"surrogate in UTF-8", notice, "{\"a\":\"\xed\xa0\x80\"}", NotJSON},
		{"overlong", notice, "{\"a\":\"\xc0\xaf\"}", NotJSON},
		{"byte order mark", notice, "\ufeff{}", NotJSON},
		{"NUL", notice, "{\"a\":\"\x00\"}", NotJSON},
		{"line feed in a string", notice, "{\"a\":\"\n\"}", NotJSON},
		{"UTF-16", notice, "\xff\xfe{\x00}\x00", NotJSON},
	} {
		res, bad := rules{}.judge(tt.channel, []byte(tt.payload))
		switch {
		case tt.want == "" && (bad != nil || !strings.HasSuffix(string(res.frame), tt.payload+"}")):
			t.Errorf("judge(%s) = %v, %d bytes, want the frame", tt.name, bad, len(res.frame))
		case tt.want != "" && (bad == nil || bad.reason != tt.want):
			t.Errorf("judge(%s) = %v, want %v", tt.name, bad, tt.want)
		}
	}
}

// TestDetailHoldsNoPayload looks for the payload in what goes to logs.
func TestDetailHoldsNoPayload(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	for _, field := range []string{"type", "operation", "content_id", "unique_tag", "timestamp", "device_id"} {
		payload := fmt.Sprintf(`{"type":"watchlist_update","operation":"add","content_id":"%s","unique_tag":"t","timestamp":1,"device_id":"d",%q:["%s"]}`,
			testContent, field, secret)
		_, bad := rules{}.judge("user."+testUser+".sync", []byte(payload))
		if bad == nil || strings.Contains(bad.Error(), secret) {
			t.Errorf("judge(bad %s) = %v, want a detail without the payload", field, bad)
		}
	}
}

func BenchmarkJudge(b *testing.B) {
	for _, c := range bodyCases(b) {
		switch c.name {
		case "watchlist add", "progress with duration", "command with payload, numbers as written", "notification", "bad_number: position: negative":
		default:
			continue
		}
		b.Run(strings.ReplaceAll(c.name, " ", "-"), func(b *testing.B) {
			payload := []byte(c.payload)
			b.SetBytes(int64(len(payload)))
			b.ReportAllocs()
			for b.Loop() {
				rules{}.judge(c.channel, payload)
			}
		})
	}
}
