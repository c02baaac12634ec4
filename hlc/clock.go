package hlc

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"
)

// DefaultMaxDrift is how far ahead of the wall clock Update accepts a stamp
// when Clock.MaxDrift is zero.
const DefaultMaxDrift = 60 * time.Second

// Clock gives out strictly increasing timestamps. The zero Clock is ready. Its
// fields must not be changed once it is in use; its methods may be called
// concurrently and never block.
type Clock struct {
	// MaxDrift bounds how far ahead of the wall clock a stamp may be that
	// Update accepts; 0 is DefaultMaxDrift.
	MaxDrift time.Duration
	// Wall is the physical clock; nil is time.Now.
	Wall func() time.Time

	last atomic.Uint64 // the greatest stamp given or merged
}

// DriftError is why Update refused a stamp.
type DriftError struct {
	Remote Timestamp     // the refused stamp
	Ahead  time.Duration // how far it is ahead of the wall clock
	Max    time.Duration // how far it may be
}

func (e *DriftError) Error() string {
	return fmt.Sprintf("hlc: %s is %v ahead of the wall clock, at most %v is accepted", e.Remote, e.Ahead, e.Max)
}

func (c *Clock) wall() Timestamp {
	if c.Wall != nil {
		return New(c.Wall().UnixMilli(), 0)
	}
	return New(time.Now().UnixMilli(), 0)
}

// Now returns a stamp greater than every one that c gave or merged before. Its
// physical part is the wall clock's where that is ahead; otherwise the counter
// rises, and a full counter carries into the physical part. Only at the very
// last stamp of the range (the year 10889) does Now stand still.
func (c *Clock) Now() Timestamp { return c.advance(c.wall()) }

// advance gives the stamp after last, or at if that is greater.
func (c *Clock) advance(at Timestamp) Timestamp {
	for {
		last := c.last.Load()
		next := uint64(at)
		if next <= last {
			next = last + 1 // a full counter carries
			if last == math.MaxUint64 {
				next = last
			}
		}
		if c.last.CompareAndSwap(last, next) {
			return Timestamp(next)
		}
	}
}

// Last is the greatest stamp that c gave or merged, Zero at first.
func (c *Clock) Last() Timestamp { return Timestamp(c.last.Load()) }

// Update is the paper's receive rule: it merges remote and returns a stamp
// greater than it. A remote that is more than MaxDrift ahead of the wall clock
// is refused with a *DriftError, and c stays as it was.
func (c *Clock) Update(remote Timestamp) (Timestamp, error) {
	limit := c.MaxDrift
	if limit == 0 {
		limit = DefaultMaxDrift
	}
	wall := c.wall()
	if ahead := remote.since(wall); ahead > limit {
		return Zero, &DriftError{Remote: remote, Ahead: ahead, Max: limit}
	}
	c.merge(remote)
	return c.advance(wall), nil
}

// Merge takes in a stamp that must be respected whatever the wall clock says,
// such as a log's own last one: later stamps are greater than t. It returns
// how far t is ahead of the wall clock, zero or less when it is not.
func (c *Clock) Merge(t Timestamp) time.Duration {
	c.merge(t)
	return t.since(c.wall())
}

func (c *Clock) merge(t Timestamp) {
	for {
		last := c.last.Load()
		if uint64(t) <= last || c.last.CompareAndSwap(last, uint64(t)) {
			return
		}
	}
}

// since is the physical time from wall to t, at most what a Duration holds
// (292 years): a wrapped distance would pass for a small one.
func (t Timestamp) since(wall Timestamp) time.Duration {
	const most = math.MaxInt64 / int64(time.Millisecond)
	ms := t.Millis() - wall.Millis()
	switch {
	case ms > most:
		return math.MaxInt64
	case ms < -most:
		return math.MinInt64
	}
	return time.Duration(ms) * time.Millisecond
}
