package edge

// The codes with which a connection ends. RFC 6455 section 7.4 defines those
// from 1000 to 2999; those from 4500 on mean: do not come back unchanged.
const (
	codeGoingAway     = 1001 // the process ends at once
	codeProtocolError = 1002 // not WebSocket
	codeUnsupported   = 1003 // a binary message
	codeInvalidUTF8   = 1007
	codeTooBig        = 1009
	codeRestart       = 1012 // drain
	codeResumeAgain   = 4000 // something behind the cursor has changed
	codeHeartbeat     = 4001 // nothing came for IdleTimeout
	codeSlow          = 4002 // no byte was taken for SlowTimeout
	codeTokenExpired  = 4004
	codeTooMany       = 4029 // messages
	codeBadToken      = 4501
	codeReplaced      = 4509 // by a newer connection of the device

	// The device went, with a close frame or without: nothing is sent.
	codeClosedByDevice = 1
	codeCut            = 2
)

// codeNames are what the counter of closed connections calls the codes: a
// closed list, so that the counter cannot grow.
var codeNames = map[int]string{
	codeGoingAway: "1001", codeProtocolError: "1002", codeUnsupported: "1003", codeInvalidUTF8: "1007",
	codeTooBig: "1009", codeRestart: "1012", codeResumeAgain: "4000", codeHeartbeat: "4001", codeSlow: "4002",
	codeTokenExpired: "4004", codeTooMany: "4029", codeBadToken: "4501", codeReplaced: "4509",
	codeClosedByDevice: "device", codeCut: "cut",
}

// close ends the connection, once; the first caller's code counts. It blocks on
// nothing: the connection leaves the registry at once, and its writer takes the
// leave. Any goroutine may call it.
func (c *conn) close(code int, reason string) {
	if !c.ending.CompareAndSwap(0, int32(code)) {
		return
	}
	c.reason.Store(&reason)
	c.server.unregister(c, code, reason)
	c.mu.Lock()
	cancel := c.cancel
	c.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	close(c.gone)
	c.wire.waits.Store(true)
	c.wire.hurry()
	c.wake()
	if c.unpark() {
		go c.reads() // waits for the device's leave
	}
}

// farewell sends what is left to say and leaves the rest to the reader, which
// ends when the device has answered, and a second later in any case. It is the
// writer's last act.
func (c *conn) farewell() {
	code := int(c.ending.Load())
	if code == codeClosedByDevice || code == codeCut {
		c.wire.Close()
		return
	}
	var last []byte
	if ms := c.afterMS.Load(); ms > 0 && c.phase.Load() != phaseOpening {
		last = appendFrame(nil, opText, appendReconnect(nil, ms))
	}
	var reason string
	if p := c.reason.Load(); p != nil {
		reason = *p
	}
	last = appendFrame(last, opClose, appendClose(nil, code, reason))
	if err := c.wire.sendLast(last); err != nil {
		c.wire.Close()
	}
}
