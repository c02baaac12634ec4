package edge

import "time"

// bucket lets a device through at a rate, with a burst. It is owned by one
// goroutine. The zero bucket is full.
type bucket struct {
	used   float64       // of the burst
	at     time.Duration // when used was right
	excess time.Duration // since when there has been too much; 0 is not
}

// take lets one thing through and returns how long to wait before it, and for
// how long there has been too much. That ends when the device has left a
// second's worth, or half of the burst, unused: a reader that wakes up a little
// late is no pause of the device's.
func (b *bucket) take(now time.Duration, rate, burst float64) (wait, excess time.Duration) {
	b.used = max(0, b.used-(now-b.at).Seconds()*rate)
	if b.used <= max(burst-rate, burst/2) {
		b.excess = 0
	}
	b.used++
	b.at = now
	if b.used <= burst {
		return 0, 0
	}
	if b.excess == 0 {
		b.excess = now
	}
	return time.Duration((b.used - burst) / rate * float64(time.Second)), now - b.excess
}
