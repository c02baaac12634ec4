package client

import (
	"testing"
	"time"
)

// What a sender took when its connection was gone already is sent on the next one.
func TestUpdateTakenTooLateIsSentAgain(t *testing.T) {
	t.Parallel()
	q := newUpdates(backoff{min: time.Millisecond, max: time.Second})
	if _, err := q.add(Update{ID: "a"}, 1); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if frames, _ := q.due(now); len(frames) != 1 { // and the connection does not take it
		t.Fatalf("due() = %d frames, want 1", len(frames))
	}
	q.again()
	if frames, _ := q.due(now); len(frames) != 1 {
		t.Errorf("due() on the next connection = %d frames, want 1", len(frames))
	}
}
