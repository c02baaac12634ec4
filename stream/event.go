package stream

import (
	"encoding/json"
	"time"

	"reprise/hlc"
)

// Position is a place in one shard's stream: everything up to and including
// the record with sequence Seq and stamp Hlc lies behind it. The zero Position
// is before everything. A Position read from a device's cursor has Seq 0,
// which means unknown, and only its Hlc counts.
type Position struct {
	Seq uint64        `json:"seq"`
	Hlc hlc.Timestamp `json:"hlc"`
}

// Event is what a bridge appends.
type Event struct {
	// ID makes the append idempotent: it becomes Nats-Msg-Id. Never empty.
	ID string
	// User is the 36-character UUID of the owner.
	User string
	// Device is the origin device, or "".
	Device string
	// Expires is the Unix time in milliseconds at which a command expires; 0 is never.
	Expires int64
	// Timetoken is PubNub's publish timetoken, or "".
	Timetoken string
	// Traceparent and Tracestate are W3C trace context; "" when not sampled.
	Traceparent, Tracestate string
	// Frame is the finished WebSocket frame, a JSON object, with any 16 bytes
	// at StampAt where the writer puts the stamp. The writer owns it from the
	// call to Append on.
	Frame []byte
	// StampAt is the offset in Frame of the 16 digits of the stamp.
	StampAt int
	// Once drops the event if its ID is known, whatever the bytes. False: the same
	// ID with other bytes is another event.
	Once bool
}

// Kind tells what a Record is.
type Kind uint8

const (
	// KindStart is the first record of every Follow: Position is where the
	// following starts. What lies after it will be handed out. With Warm set that
	// begins with what is in the log already, which a KindCurrent ends.
	KindStart Kind = iota
	// KindEvent is an event of a user.
	KindEvent
	// KindMarker is a record that is no event: it only moves the position.
	KindMarker
	// KindGap is a marker that tells of events that the bridge could not get
	// from PubNub; GapUser says whose, "" anybody's of the shard.
	KindGap
	// KindLost says that retention removed records before they were handed
	// out: the next record is after Position, and nothing between the previous
	// record's position and this one was handed out.
	KindLost
	// KindReset says that the log was replaced by an older or another one (a
	// backup was restored). Nothing seen before counts; following continues
	// after Position.
	KindReset
	// KindCurrent says that everything has been handed out that was in the log
	// when following began. It comes only after a KindStart with Warm set.
	KindCurrent
)

// Record is one step of a shard's log as Follow and Read hand it out. Only
// Frame may be kept after the call that handed out the Record returned, and it
// must not be changed.
type Record struct {
	Kind Kind
	Position
	// User owns the event (KindEvent). The string may be kept.
	User string
	// ID is the event's id in the log: what Event.ID was, with ":1", ":2" …
	// behind it where one id came with other bytes.
	ID string
	// Device is the origin device, or "".
	Device string
	// Timetoken is PubNub's publish timetoken, or "".
	Timetoken string
	// Expires is the Unix time in milliseconds at which a command expires; 0 is never.
	Expires int64
	// Stored is when the server stored the record. Zero for records from Read.
	Stored time.Time
	// Traceparent and Tracestate are W3C trace context; "" when not sampled.
	Traceparent, Tracestate string
	// Frame is the WebSocket frame.
	Frame []byte
	// GapUser is whose gap it is; "" is everyone's (KindGap).
	GapUser string
	// Warm says that a KindCurrent will follow (KindStart).
	Warm bool
}

// Gap is a stretch of one or all users' events that PubNub could not supply.
type Gap struct {
	From, To hlc.Timestamp // bounds of the stretch in relay time
	User     string        // "" when it is not known whose events are missing
}

// Checkpoint is how far into PubNub's feed a shard's log reaches.
type Checkpoint struct {
	// Timetoken and Region are PubNub's subscribe cursor (t.t and t.r). An empty
	// Timetoken means that there never was one.
	Timetoken string `json:"timetoken"`
	Region    int    `json:"region"`
	// Seq and Hlc are the last stored record when the checkpoint was saved.
	// Save fills them in.
	Seq uint64        `json:"seq"`
	Hlc hlc.Timestamp `json:"hlc"`
	// SavedAt is when it was saved, by the writer's wall clock. Save fills it in.
	SavedAt time.Time `json:"saved_at"`
	// Note is kept with the cursor and changes with it in one step: what the
	// bridge still owes to the log, as it likes to write that. nil is nothing.
	Note json.RawMessage `json:"note,omitempty"`
}
