package e2e

// A History is what one run of the relay was asked to do and what it was seen
// to do. It is recorded by whoever drives the run and judged afterwards by
// [Judge]. Times are Unix nanoseconds by the recorder's clock; they need only
// agree with each other.
type History struct {
	// Publishes are the messages given to PubNub, in any order between
	// publishers and in the order of publishing for each one.
	Publishes []Publish
	// Logs are the users' events as the log holds them at the end, in its order.
	// A user without a log has had no connection and no event.
	Logs map[string][]Entry
	// Connections are in the order in which they were opened.
	Connections []Connection
	// Excuses are the reasons of "complete":false for which this run gave cause.
	// Any other is a violation: a relay that never promises anything keeps
	// every promise.
	Excuses []string
}

// A Fate is what has to become of a published message.
type Fate string

// The fates.
const (
	Event        Fate = "event"        // stored once in its user's log, relayed to the user's devices
	Announcement Fate = "announcement" // sent to everyone connected, not stored for anybody
	Refused      Fate = "refused"      // breaks a rule, or is presence: no device ever sees it
)

// A Publish is one message given to PubNub.
type Publish struct {
	// Publisher names who published: one call after the other, so that the order
	// of a publisher's messages is the order that devices must see.
	Publisher string
	// Channel is PubNub's.
	Channel string
	// User is whose event it is; "" unless Fate is Event.
	User string
	// Fate is what has to become of it.
	Fate Fate
	// Frame is the frame that devices must get, an event's with 16 zeros in the
	// place of its stamp. It tells this message from every other. "" if refused.
	Frame string
	// Mark is a text in the payload of a refused message, and in no frame.
	Mark string
	// Timetoken is PubNub's confirmation; "" if it never came, and then the
	// message may be in the log or not.
	Timetoken string
	// Forgotten says that PubNub lost its memory after it had confirmed, and
	// perhaps before anybody read the message: it may be in the log or not.
	Forgotten bool
	// Sent is when the call began.
	Sent int64
}

// An Entry is an event in a user's log.
type Entry struct {
	// Hlc is the event's stamp, 16 hex digits.
	Hlc string
	// Frame is the body, the finished frame.
	Frame string
	// Trimmed says that retention has removed it since it was read.
	Trimmed bool
}

// A Connection is one WebSocket of a device, from its handshake on.
type Connection struct {
	User, Device string
	// Since is the cursor asked for: 16 hex digits, "earliest", "latest", or "".
	Since string
	// Echo says that the device asked to hear itself.
	Echo bool
	// Frames is everything received, in order.
	Frames []Frame
	// Cut says that the connection ended by a kill or by the device's own will,
	// perhaps in the middle of a replay.
	Cut bool
	// Stayed says that the connection was open until nothing was on its way to
	// it any more: the device must have everything up to the log's end.
	Stayed bool
}

// A Frame is one text message that a device received.
type Frame struct {
	At   int64
	Text string
}
