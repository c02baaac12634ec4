package pubnubtest

import "time"

// A clock hands out timetokens and cursors, in units of 100 ns. Both rise
// strictly; a cursor that a subscriber was given is below that of every later
// message.
type clock struct {
	now        func() time.Time
	skew       func() time.Duration
	last       int64 // greatest number handed out in either role
	lastCursor int64 // greatest cursor handed out
}

// wall returns the time now.
func (c *clock) wall() int64 { return c.now().UnixNano() / 100 }

// message returns the timetoken and the cursor of a new message.
func (c *clock) message() (timetoken, cursor int64) {
	c.last = max(c.wall(), c.last+1)
	skew := max(0, int64(c.skew()/100))
	c.lastCursor = max(c.last-skew, c.lastCursor+1)
	return c.last, c.lastCursor
}

// present returns the cursor that stands for everything so far.
func (c *clock) present() int64 {
	c.last = max(c.wall(), c.last)
	c.lastCursor = c.last
	return c.last
}
