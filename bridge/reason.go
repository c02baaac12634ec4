package bridge

// Reason says which rule a PubNub message broke. The list is closed: it is
// part of a subject, and operators count by it.
type Reason string

const (
	NotJSON      Reason = "not_json"      // not one RFC 8259 value in UTF-8
	NotObject    Reason = "not_object"    // JSON, but no object
	UnknownType  Reason = "unknown_type"  // the type is none of ours, or no string
	WrongChannel Reason = "wrong_channel" // a type of ours, on a channel that does not carry it
	BadChannel   Reason = "bad_channel"   // the channel is none of ours
	BadID        Reason = "bad_id"        // a content_id, device_id or target_device_id
	BadNumber    Reason = "bad_number"    // a position, a duration or an expires_at
	BadTimestamp Reason = "bad_timestamp" // a timestamp
	BadValue     Reason = "bad_value"     // any other member
	MissingField Reason = "missing_field" // a required member is not there
	TooLarge     Reason = "too_large"     // over 32 KiB
	TooDeep      Reason = "too_deep"      // over 32 levels of arrays and objects
)

// reasons lists them all, in the order of the constants.
var reasons = [...]Reason{NotJSON, NotObject, UnknownType, WrongChannel, BadChannel, BadID, BadNumber, BadTimestamp,
	BadValue, MissingField, TooLarge, TooDeep}

// refusal is why a message becomes a dead letter. The detail is for a person
// and never holds any of the message.
type refusal struct {
	reason Reason
	detail string
}

func (r *refusal) Error() string { return string(r.reason) + ": " + r.detail }

func refuse(reason Reason, detail string) *refusal { return &refusal{reason, detail} }
