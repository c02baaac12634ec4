package bridge

import (
	"errors"
	"math"
	"strconv"
	"time"
)

// cursor is where PubNub's feed is read on: the timetoken and region of the
// last reply, never those of a message. A message's own timetoken can lie
// after the cursor of its neighbour, so resuming by it loses events. The zero
// cursor is "from now on".
type cursor struct {
	timetoken string // decimal digits, 1 to 2^63-1
	region    int
}

func (c cursor) isZero() bool { return c.timetoken == "" }

// olderTimetoken reports whether a is before b, both canonical; "" is before all.
func olderTimetoken(a, b string) bool {
	if len(a) != len(b) {
		return len(a) < len(b)
	}
	return a < b
}

// page is one reply to a poll.
type page struct {
	next     cursor
	messages []message

	// What the guard knows of the poll.
	prev   cursor        // the cursor that was asked with
	lapse  time.Duration // from the good reply before to the asking of this: failed polls, a log that did not take it
	spoilt int           // bad replies just before this one
	trip   time.Duration // how long a reply that waits takes
}

// message is one published message as PubNub delivered it. The slices are part
// of the reply.
type message struct {
	// id is <channel>:<timetoken>; channel and timetoken are parts of it.
	id, channel, timetoken string
	publisher              []byte
	payload, meta          []byte
	// odd says what is wrong with the envelope itself, "" nothing. Only a
	// PubNub that breaks its own format sends such.
	odd string
}

// parsePage reads the body of a subscribe reply, in one pass over all but the
// payloads' insides. What makes the cursor unusable is an error, and the reply
// as a whole counts for nothing; a message that makes no sense does not hold up
// its neighbours.
func parsePage(reply []byte) (page, error) {
	at := skipSpace(reply, 0)
	if at >= len(reply) || reply[at] != '{' {
		return page{}, errors.New("subscribe reply: not an object")
	}
	var position []byte
	var messages []message
	noList := false
	m := newMembers(reply, at, unlimited)
	for name, ok := m.name(); ok; name, ok = m.name() {
		start, isList := m.at, false
		if string(name) == "m" {
			isList = start < len(reply) && reply[start] == '['
			noList = !isList
		}
		if isList {
			messages, m.at, m.err = parseMessages(reply, start)
		} else {
			m.at, m.err = skipValue(reply, start, unlimited)
		}
		if m.err != nil {
			break
		}
		if string(name) == "t" {
			position = reply[start:m.at]
		}
	}
	if m.err != nil || skipSpace(reply, m.at) != len(reply) {
		return page{}, errors.New("subscribe reply: not JSON")
	}
	next, err := parseCursor(position)
	if err != nil {
		return page{}, err
	}
	if noList {
		return page{}, errors.New("subscribe reply: m: not an array")
	}
	for i := range messages {
		if msg := &messages[i]; msg.odd != "" {
			// Its place in the reply is the only name it has.
			msg.name([]byte(msg.channel), []byte(next.timetoken+"."+strconv.Itoa(i)))
		}
	}
	return page{next: next, messages: messages}, nil
}

// parseMessages reads the array at reply[at]. It returns the offset behind it,
// or errSyntax.
func parseMessages(reply []byte, at int) ([]message, int, error) {
	var all []message
	e := newElements(reply, at)
	for e.more() {
		msg, end, err := parseMessage(reply, e.at)
		if err != nil {
			return nil, end, err
		}
		all, e.at = append(all, msg), end
	}
	return all, e.at, e.err
}

// parseCursor reads {"t":"<digits>","r":<integer>}; r may be absent.
func parseCursor(value []byte) (cursor, error) {
	if value == nil || value[0] != '{' {
		return cursor{}, errors.New("subscribe reply: t: not an object")
	}
	var c cursor
	m := newMembers(value, 0, unlimited)
	for name, value, ok := m.next(); ok; name, value, ok = m.next() {
		switch string(name) {
		case "t":
			c.timetoken = string(textOf(value))
		case "r":
			n, bad := number("r", value, math.MaxInt32)
			if bad != nil {
				return cursor{}, errors.New("subscribe reply: t.r: not a region")
			}
			c.region = int(n)
		}
	}
	var ok bool
	if c.timetoken, ok = canonical(c.timetoken); !ok {
		return cursor{}, errors.New("subscribe reply: t.t: not a timetoken")
	}
	return c, nil
}

// canonical is a cursor's timetoken as the SDK repeats it: it reads an int64,
// and zero would mean from now on.
func canonical(timetoken string) (string, bool) {
	n, err := strconv.ParseInt(timetoken, 10, 64)
	if err != nil || n <= 0 || !isDigit(timetoken[0]) {
		return "", false
	}
	return strconv.FormatInt(n, 10), true
}

// parseMessage reads the message at reply[at]. It returns the offset behind it,
// or errSyntax. An odd one has no timetoken yet.
func parseMessage(reply []byte, at int) (msg message, end int, err error) {
	var channel, timetoken []byte
	if at >= len(reply) || reply[at] != '{' {
		if end, err = skipValue(reply, at, unlimited); err != nil {
			return msg, end, err
		}
		msg.odd = "envelope: not an object"
		msg.payload = reply[at:end]
	} else {
		m := newMembers(reply, at, unlimited)
		for name, value, ok := m.next(); ok; name, value, ok = m.next() {
			switch string(name) {
			case "c":
				channel = textOf(value)
			case "d":
				msg.payload = value
			case "i":
				msg.publisher = textOf(value)
			case "p":
				timetoken = publishTimetoken(value)
			case "u":
				msg.meta = value
			}
		}
		if end, err = m.at, m.err; err != nil {
			return msg, end, err
		}
		if timetoken == nil {
			msg.odd = "envelope: no publish timetoken"
		}
	}
	msg.name(channel, timetoken)
	return msg, end, nil
}

// name sets what a message is known by.
func (m *message) name(channel, timetoken []byte) {
	id := make([]byte, 0, 96)
	m.id = string(append(append(append(id, channel...), ':'), timetoken...))
	m.channel, m.timetoken = m.id[:len(channel)], m.id[len(channel)+1:]
}

// textOf is the string that value stands for; anything else counts as empty.
func textOf(value []byte) []byte {
	t, _ := parseText(value)
	return t.val
}

// publishTimetoken reads {"t":"<digits>"}, or the digits as a number.
func publishTimetoken(value []byte) []byte {
	if value[0] != '{' {
		return nil
	}
	var timetoken []byte
	m := newMembers(value, 0, unlimited)
	for name, value, ok := m.next(); ok; name, value, ok = m.next() {
		if string(name) == "t" {
			if timetoken = value; value[0] == '"' {
				timetoken = textOf(value)
			}
		}
	}
	if len(timetoken) == 0 || len(timetoken) > 20 || skipDigits(timetoken, 0) != len(timetoken) {
		return nil
	}
	return timetoken
}
