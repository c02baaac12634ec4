package hlc

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"
)

// at is a clock whose wall stands at ms and that has given or merged last.
func at(ms int64, last Timestamp) *Clock {
	c := &Clock{Wall: func() time.Time { return time.UnixMilli(ms) }}
	c.last.Store(uint64(last))
	return c
}

func TestNow(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		wall int64
		last Timestamp
		want Timestamp
	}{
		{"first", 1000, Zero, New(1000, 0)},
		{"wall ahead", 1000, New(999, 7), New(1000, 0)},
		{"wall stands", 1000, New(1000, 7), New(1000, 8)},
		{"wall an hour back", 1000, New(3601000, 0), New(3601000, 1)},
		{"wall before 1970", -5, Zero, New(0, 1)},
		{"wall at 1970 never gives Zero", 0, Zero, New(0, 1)},
		{"full counter carries", 1000, New(1000, 65535), New(1001, 0)},
		{"full counter, wall one ahead", 1001, New(1000, 65535), New(1001, 0)},
		{"full counter, wall back", 1, New(1000, 65535), New(1001, 0)},
		{"wall beyond the range", 1 << 50, New(5, 0), New(1<<48-1, 0)},
		{"second to last", 1000, last - 1, last},
		{"last stands still", 1000, last, last},
		{"last stands still, wall beyond", 1 << 50, last, last},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := at(tt.wall, tt.last)
			if got := c.Now(); got != tt.want || c.Last() != tt.want {
				t.Errorf("Now(wall %d, last %s) = %s, Last() = %s, want %s", tt.wall, tt.last, got, c.Last(), tt.want)
			}
		})
	}
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name         string
		wall         int64
		last, remote Timestamp
		want         Timestamp
	}{
		{"wall ahead of both", 1000, New(900, 3), New(950, 9), New(1000, 0)},
		{"remote ahead", 1000, New(1000, 3), New(2000, 9), New(2000, 10)},
		{"last ahead", 1000, New(2000, 3), New(1500, 9), New(2000, 4)},
		{"same physical part, remote's counter", 1000, New(2000, 3), New(2000, 9), New(2000, 10)},
		{"same physical part, own counter", 1000, New(2000, 9), New(2000, 3), New(2000, 10)},
		{"all three alike", 2000, New(2000, 3), New(2000, 9), New(2000, 10)},
		{"zero remote", 1000, Zero, Zero, New(1000, 0)},
		{"remote's full counter carries", 1000, Zero, New(1000, 65535), New(1001, 0)},
		{"exactly MaxDrift ahead", 1000, Zero, New(61000, 65535), New(61001, 0)},
		{"at the end", 1<<48 - 1, Zero, last, last},
		// The distance does not fit a time.Duration.
		{"remote 300 years behind", 300 * 365 * 86400e3, Zero, New(1000, 0), New(300*365*86400e3, 0)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := at(tt.wall, tt.last)
			got, err := c.Update(tt.remote)
			if got != tt.want || err != nil || c.Last() != tt.want {
				t.Errorf("Update(%s) = %s, %v, Last() = %s, want %s", tt.remote, got, err, c.Last(), tt.want)
			}
		})
	}
}

func TestUpdateRefusesDrift(t *testing.T) {
	t.Parallel()
	const forever = time.Duration(1<<63 - 1)
	tests := []struct {
		name   string
		max    time.Duration
		wall   int64
		remote Timestamp
		want   DriftError
	}{
		{"a millisecond over the default", 0, 1000, New(61001, 0), DriftError{Ahead: 60001 * time.Millisecond, Max: DefaultMaxDrift}},
		{"a bound of its own", time.Second, 1000, New(2001, 0), DriftError{Ahead: 1001 * time.Millisecond, Max: time.Second}},
		{"a wall before 1970", time.Second, -100, New(1001, 0), DriftError{Ahead: 1001 * time.Millisecond, Max: time.Second}},
		// The distances below do not fit a time.Duration.
		{"300 years", 0, 1000, New(300*365*86400e3, 0), DriftError{Ahead: forever, Max: DefaultMaxDrift}},
		{"700 years", 0, 1000, New(700*365*86400e3, 0), DriftError{Ahead: forever, Max: DefaultMaxDrift}},
		{"the last stamp", 0, 1761996475969, last, DriftError{Ahead: forever, Max: DefaultMaxDrift}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			before := New(500, 5)
			c := at(tt.wall, before)
			c.MaxDrift = tt.max
			tt.want.Remote = tt.remote
			got, err := c.Update(tt.remote)
			var drift *DriftError
			if got != Zero || !errors.As(err, &drift) || *drift != tt.want {
				t.Fatalf("Update(%s) = %s, %+v, want %+v", tt.remote, got, err, tt.want)
			}
			if c.Last() != before {
				t.Errorf("Last() after the refusal = %s, want %s", c.Last(), before)
			}
			if text := err.Error(); !strings.HasPrefix(text, "hlc: "+tt.remote.String()) {
				t.Errorf("Error() = %q, want the stamp in it", text)
			}
		})
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	const forever = time.Duration(1<<63 - 1)
	tests := []struct {
		name       string
		wall       int64
		last, t    Timestamp
		ahead      time.Duration
		lastAfter  Timestamp
		firstAfter Timestamp
	}{
		{"behind", 1000, Zero, New(400, 3), -600 * time.Millisecond, New(400, 3), New(1000, 0)},
		{"behind the last", 1000, New(5000, 1), New(400, 3), -600 * time.Millisecond, New(5000, 1), New(5000, 2)},
		{"level", 1000, Zero, New(1000, 3), 0, New(1000, 3), New(1000, 4)},
		{"an hour ahead is taken", 1000, Zero, New(3601000, 3), time.Hour, New(3601000, 3), New(3601000, 4)},
		{"full counter", 1000, Zero, New(2000, 65535), time.Second, New(2000, 65535), New(2001, 0)},
		{"the last stamp", 1000, Zero, last, forever, last, last},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := at(tt.wall, tt.last)
			if got := c.Merge(tt.t); got != tt.ahead || c.Last() != tt.lastAfter {
				t.Errorf("Merge(%s) = %v, Last() = %s, want %v, %s", tt.t, got, c.Last(), tt.ahead, tt.lastAfter)
			}
			if got := c.Now(); got != tt.firstAfter {
				t.Errorf("Now() after Merge(%s) = %s, want %s", tt.t, got, tt.firstAfter)
			}
		})
	}
}

// 300,000 stamps within one standing millisecond carry four times.
func TestCounterCarries(t *testing.T) {
	t.Parallel()
	c := at(1000, Zero)
	before := Zero
	for range 300_000 {
		now := c.Now()
		if now <= before {
			t.Fatalf("Now() = %s after %s", now, before)
		}
		before = now
	}
	if want := New(1000, 0) + 299_999; before != want {
		t.Errorf("Now() for the 300,000th time = %s, want %s", before, want)
	}
}

func TestZeroClockFollowsTheWall(t *testing.T) {
	t.Parallel()
	var c Clock
	if c.Last() != Zero {
		t.Errorf("Last() of a new clock = %s, want %s", c.Last(), Zero)
	}
	low := time.Now().UnixMilli()
	got := c.Now()
	if high := time.Now().UnixMilli(); got.Millis() < low || got.Millis() > high {
		t.Errorf("Now().Millis() = %d, want %d to %d", got.Millis(), low, high)
	}
}

// Eight goroutines mix all methods on one clock: each sees its own stamps rise
// and nobody is given a stamp twice. The wall stands, which leaves the clock's
// word as the only thing that they do: collisions are frequent.
func TestConcurrently(t *testing.T) {
	t.Parallel()
	const goroutines, each = 8, 200_000
	c := at(1000, Zero)
	begin := make(chan struct{})
	given := make([][]Timestamp, goroutines)
	var wg sync.WaitGroup
	for g := range given {
		wg.Go(func() {
			stamps := make([]Timestamp, 0, each)
			<-begin
			for i := range each {
				before := c.Last()
				now := Zero
				switch i % 16 {
				case 0: // a stamp from a clock slightly ahead
					remote, err := before+Timestamp(i%7), error(nil)
					if now, err = c.Update(remote); err != nil || now <= remote {
						t.Errorf("Update(%s) = %s, %v", remote, now, err)
						return
					}
				case 1:
					c.Merge(before + 3)
					fallthrough
				default:
					now = c.Now()
				}
				if now <= before {
					t.Errorf("stamp %s is not after Last() = %s", now, before)
					return
				}
				stamps = append(stamps, now)
			}
			given[g] = stamps
		})
	}
	close(begin)
	wg.Wait()
	seen := make([]bool, c.Last()-New(1000, 0)+1)
	for g, stamps := range given {
		if i := firstFall(stamps); i > 0 {
			t.Fatalf("goroutine %d was given %s after %s", g, stamps[i], stamps[i-1])
		}
		if len(stamps) != each || stamps[each-1] > c.Last() {
			t.Fatalf("goroutine %d: %d stamps, Last() = %s, want %d, all up to Last()", g, len(stamps), c.Last(), each)
		}
		for _, stamp := range stamps {
			at := &seen[stamp-New(1000, 0)]
			if *at {
				t.Fatalf("%s was given twice", stamp)
			}
			*at = true
		}
	}
}

// firstFall is the first index whose stamp is not greater than the one before
// it, 0 if there is none.
func firstFall(stamps []Timestamp) int {
	for i := 1; i < len(stamps); i++ {
		if stamps[i] <= stamps[i-1] {
			return i
		}
	}
	return 0
}
