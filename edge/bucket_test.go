package edge

import (
	"testing"
	"time"
)

func TestBucket(t *testing.T) {
	t.Parallel()
	var b bucket
	now := time.Hour
	for i := range 200 {
		if wait, _ := b.take(now, 20, 200); wait != 0 {
			t.Fatalf("take() no. %d of the burst = wait %v, want 0", i, wait)
		}
	}
	wait, excess := b.take(now, 20, 200)
	if wait != 50*time.Millisecond || excess != 0 {
		t.Errorf("take() above the burst = %v, %v, want 50ms, 0", wait, excess)
	}
	for now < time.Hour+9*time.Second { // each one waited for, the next at once
		now += wait
		wait, excess = b.take(now, 20, 200)
	}
	if excess < 8*time.Second || excess > 9*time.Second+wait {
		t.Errorf("take() after 9 s of excess = %v, want about 9s", excess)
	}
	now += 2 * wait // the reader woke up late: the device made no pause
	if wait, _ = b.take(now, 20, 200); wait != 0 {
		t.Errorf("take() after a late wake-up = wait %v, want 0", wait)
	}
	if wait, excess = b.take(now, 20, 200); wait == 0 || excess < 9*time.Second {
		t.Errorf("take() above the burst again = %v, %v, want a wait and the excess to go on", wait, excess)
	}
	now += 1200 * time.Millisecond // a pause
	if wait, excess = b.take(now, 20, 200); wait != 0 || excess != 0 || b.excess != 0 {
		t.Errorf("take() after a pause = %v, %v, want 0, 0", wait, excess)
	}
	now += time.Hour
	if b.take(now, 20, 200); b.used != 1 {
		t.Errorf("used after an hour = %v, want 1", b.used)
	}
}
