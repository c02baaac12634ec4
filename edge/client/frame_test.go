package client

import (
	"errors"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	t.Parallel()
	const stamp = "019a3f2c8e410003"
	tests := []struct {
		raw, kind, hlc string
		event, bad     bool
	}{
		{`{"type":"progress_update","hlc":"` + stamp + `","position":1}`, "progress_update", stamp, true, false},
		{`{"hlc":"` + stamp + `","type":"notification"}`, "notification", stamp, true, false},
		{` { "type" : "notification" , "hlc" : "` + stamp + `" } `, "notification", stamp, true, false},
		{`{"type":"caught_up","hlc":"` + stamp + `","replayed":2}`, "caught_up", stamp, false, false},
		{`{"type":"position","hlc":"` + stamp + `"}`, "position", stamp, false, false},
		{`{"type":"announcement","data":{"hlc":"` + stamp + `"}}`, "announcement", "0000000000000000", false, false},
		{`{"type":"welcome","resume":{"since":"` + stamp + `"}}`, "welcome", "0000000000000000", false, false},
		{`{"type":"a\"b","hlc":"` + stamp + `"}`, `a"b`, stamp, true, false},
		{`{"type":"x","hlc":"XYZ"}`, "", "", false, true},
		{`{"type":"x","hlc":"` + stamp, "x", stamp, true, true},
		{`[]`, "", "", false, true},
		{``, "", "", false, true},
	}
	for _, tt := range tests {
		f, err := Parse([]byte(tt.raw))
		if (err != nil) != tt.bad {
			t.Errorf("Parse(%s) error = %v, want error %v", tt.raw, err, tt.bad)
		}
		if err == nil && (f.Type != tt.kind || f.Hlc.String() != tt.hlc || f.IsEvent() != tt.event || string(f.Raw) != tt.raw) {
			t.Errorf("Parse(%s) = %q %v event %v, want %q %s event %v", tt.raw, f.Type, f.Hlc, f.IsEvent(), tt.kind, tt.hlc, tt.event)
		}
	}
}

func TestBackoffWait(t *testing.T) {
	t.Parallel()
	lost := errors.New("lost")
	ceilings := []time.Duration{1, 2, 4, 8, 16, 20, 20, 20}
	for range 200 {
		b := backoff{min: 500 * time.Millisecond, max: 20 * time.Second}
		for i, ceiling := range ceilings {
			if got := b.wait(lost, -1); got < b.min || got > ceiling*time.Second {
				t.Fatalf("wait() after %d failures = %v, want 500ms to %v", i, got, ceiling*time.Second)
			}
		}
		b.caughtUp()
		if got := b.wait(lost, -1); got > time.Second {
			t.Fatalf("wait() after a good connection = %v, want at most 1s", got)
		}
		if got := b.wait(lost, 1500*time.Millisecond); got != 1500*time.Millisecond {
			t.Fatalf("wait() as the edge asked = %v, want 1.5s", got)
		}
	}
}

// TestBackoffSlowsDown holds that who sent too much comes back slowly, even
// after a connection that caught up.
func TestBackoffSlowsDown(t *testing.T) {
	t.Parallel()
	longest := time.Duration(0)
	for range 200 {
		b := backoff{min: 500 * time.Millisecond, max: 20 * time.Second}
		longest = max(longest, b.wait(&ClosedError{Code: 4029}, -1))
	}
	if longest < 2*time.Second {
		t.Errorf("longest wait of 200 after 4029 = %v, want above 2s", longest)
	}
}
