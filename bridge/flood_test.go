package bridge

import (
	"reprise/stream"
	"testing"
	"time"
)

// Comparing after full pages takes a small share of the time, at most.
func TestVerifyAfter(t *testing.T) {
	took := func(d time.Duration) *track { return &track{took: d} }
	running := &track{job: newJob(stretch{From: ttNow(0)}, whyFlood, false)}
	confirming := &track{job: newJob(stretch{From: ttNow(0)}, whyFlood, false)}
	confirming.job.confirm = true
	for _, tt := range []struct {
		what   string
		tracks []*track
		want   time.Duration
	}{
		{"nothing compared yet", []*track{{}}, floodSoon},
		{"a quick one", []*track{took(10 * time.Millisecond)}, floodSoon},
		{"one of half a second", []*track{took(time.Millisecond), took(500 * time.Millisecond)}, floodShare * 500 * time.Millisecond},
		{"a long one", []*track{took(time.Minute)}, floodEvery},
		{"one under way", []*track{{}, running}, floodEvery},
		{"one to be confirmed", []*track{confirming}, floodSoon},
	} {
		if got := verifyAfter(tt.tracks); got != tt.want {
			t.Errorf("%s: verifyAfter = %v, want %v", tt.what, got, tt.want)
		}
	}
}

// TestDifferentEvents counts events that may be in the log and held back at once, as
// after a poll from an older cursor: counted twice, they would hide one that is missing.
func TestDifferentEvents(t *testing.T) {
	t.Parallel()
	kept := []stream.Kept{{ID: "a"}, {ID: "b"}}
	if got := different(kept, []string{"b", "c", "c"}); got != 3 {
		t.Errorf("different = %d, want 3", got)
	}
}
