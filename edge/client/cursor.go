package client

import (
	"sync"

	"reprise/hlc"
)

// cursor is how far this device has come.
type cursor struct {
	mu    sync.Mutex
	at    hlc.Timestamp // guarded by mu; events up to here have been seen
	since string        // guarded by mu; what the next connection asks for
}

// welcome takes note of where a connection begins.
func (c *cursor) welcome(from hlc.Timestamp, complete bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !complete {
		c.at, c.since = hlc.Zero, from.String()
		return
	}
	if from >= c.at {
		c.at, c.since = from, from.String()
	}
}

// begin puts the cursor to where a connection is to begin: a stamp, or a word.
func (c *cursor) begin(since string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at, c.since = hlc.Zero, since
	if at, err := hlc.Parse(since); err == nil {
		c.at = at
	}
}

// advance moves the cursor to at and tells whether that was forward.
func (c *cursor) advance(at hlc.Timestamp) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at <= c.at {
		return false
	}
	c.at, c.since = at, at.String()
	return true
}

func (c *cursor) position() hlc.Timestamp {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *cursor) next() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.since
}
