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

// parsePage reads the body of a subscribe reply. What makes the cursor
// unusable is an error, and the reply as a whole counts for nothing; a message
// that makes no sense does not hold up its neighbours.
func parsePage(reply []byte) (page, error) {
	at := skipSpace(reply, 0)
	if at >= len(reply) || reply[at] != '{' {
		return page{}, errors.New("subscribe reply: not an object")
	}
	var position, list []byte
	m := newMembers(reply, at, unlimited)
	for name, value, ok := m.next(); ok; name, value, ok = m.next() {
		switch string(name) {
		case "t":
			position = value
		case "m":
			list = value
		}
	}
	if m.err != nil || skipSpace(reply, m.at) != len(reply) {
		return page{}, errors.New("subscribe reply: not JSON")
	}
	next, err := parseCursor(position)
	if err != nil {
		return page{}, err
	}
	p := page{next: next}
	if list == nil {
		return p, nil
	}
	if list[0] != '[' {
		return page{}, errors.New("subscribe reply: m: not an array")
	}
	e := newElements(list, 0)
	for value, ok := e.next(); ok; value, ok = e.next() {
		p.messages = append(p.messages, parseMessage(value, next, len(p.messages)))
	}
	return p, nil
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

// parseMessage reads the i-th message of a reply whose cursor is next.
func parseMessage(value []byte, next cursor, i int) message {
	var channel, publisher, timetoken []byte
	msg := message{}
	if value[0] != '{' {
		msg.odd = "envelope: not an object"
		msg.payload = value
	} else {
		m := newMembers(value, 0, unlimited)
		for name, value, ok := m.next(); ok; name, value, ok = m.next() {
			switch string(name) {
			case "c":
				channel = textOf(value)
			case "d":
				msg.payload = value
			case "i":
				publisher = textOf(value)
			case "p":
				timetoken = publishTimetoken(value)
			case "u":
				msg.meta = value
			}
		}
	}
	if timetoken == nil && msg.odd == "" {
		msg.odd = "envelope: no publish timetoken"
	}
	if msg.odd != "" {
		// Its place in the reply is the only name it has.
		timetoken = []byte(next.timetoken + "." + strconv.Itoa(i))
	}
	id := make([]byte, 0, 96)
	id = append(append(append(id, channel...), ':'), timetoken...)
	msg.id = string(id)
	msg.channel, msg.timetoken = msg.id[:len(channel)], msg.id[len(channel)+1:]
	msg.publisher = publisher
	return msg
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
