package edge

// slots bound how many do something at a time. One is taken by sending and given
// back by receiving.
type slots chan struct{}

// How many connections have a chunk of the log at a time, or wait for one. It lives
// until the device has taken it, so that this bounds the memory of replays. A device
// that takes none holds its chunk for SlowTimeout at most; the others wait for it.
// Those that read from farther back than tails linger have a bound of their own:
// nobody who was away for a moment waits behind them.
const (
	recentChunks = 256
	deepChunks   = 1024
)

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
