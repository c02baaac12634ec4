package edge

import "time"

// slots bound how many do something at a time. One is taken by sending and given
// back by receiving.
type slots chan struct{}

// lane is what reads from the log pass. Deep ones, which make the log's
// server load whole blocks from its disk, have one of their own: those of devices
// that were away for minutes do not wait behind them.
type lane struct {
	reads slots
	// A chunk lives until the device has taken it: the number of chunks is what
	// bounds the memory of replays. A device that takes none holds its chunk for
	// SlowTimeout at most; the others wait for one.
	chunks slots
}

const (
	// deepAge is how far back a read is deep.
	deepAge = 15 * time.Minute
	// chunksPerRead is how many chunks may wait for their devices to take them, for
	// each read from the log that may run.
	chunksPerRead = 8
)

func newLane(reads int) lane {
	return lane{make(slots, reads), make(slots, reads*chunksPerRead)}
}

// acquire takes a slot, waiting if it must. It reports false when the
// connection is ending.
func acquire(s slots, c *conn) bool {
	select {
	case s <- struct{}{}:
		return true
	default:
	}
	waits := c.inLog.Swap(true)
	defer c.inLog.Store(waits)
	select {
	case s <- struct{}{}:
		return true
	case <-c.gone:
		return false
	}
}

func release(s slots) { <-s }
