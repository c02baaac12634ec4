package bridge

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"math"
	"net/url"
	"strconv"
)

const (
	// maxCountChannels is how many channels PubNub counts in one request.
	maxCountChannels = 100
	// maxCount is where it stops counting a channel's messages.
	maxCount = 10_000
	// maxFetch is the most messages in one page of history.
	maxFetch = 100
	// maxNames bounds the bytes of names in one URL, of which 32 KiB are allowed.
	maxNames = 28_000
)

// counts returns how many stored messages each of channels has with a timetoken
// of at least from; maxCount stands for that many or more. Channels without any
// are not in the map. Signals and what was published without storing do not
// count, nor, where retention is unlimited, what is older than 30 days.
//
// It makes as many requests as it takes, one after the other, and fails with
// the first that fails: give it maxCountChannels at a time if it is to be
// retried. PubNub documents from both as inclusive and as exclusive; the
// emulator includes it. Do not depend on either.
func (c *caller) counts(ctx context.Context, channels []string, from string) (map[string]int, error) {
	since, ok := timetokenBound(from)
	if !ok || since == 0 {
		return nil, errors.New("bridge: pubnub: counts: from is not a timetoken")
	}
	found := make(map[string]int)
	for part := range batches(channels, maxCountChannels) {
		body, err := c.do(ctx, "counts", goodObject, func(ctx context.Context, token string) error {
			return c.sdk.messageCounts(ctx, token, part, since)
		})
		if err != nil {
			return nil, err
		}
		if err := parseCounts(body, found); err != nil {
			return nil, badReply("counts", body, err.Error())
		}
	}
	return found, nil
}

// fetch returns one page of a channel's history, oldest first: the newest most
// messages, at most maxFetch (0: that many), whose timetoken is at least end
// and below start. An empty start is now, an empty end the beginning.
//
// Payload and meta are the bytes that were published; meta is nil if there is
// none, and for a published meta of "" or null. A message that makes no sense is
// odd, as in a poll, but its id is made from its bytes.
//
// A page of fewer than most messages is the last. Else the next one ends at the
// first message of this that is not odd.
func (c *caller) fetch(ctx context.Context, channel, start, end string, most int) ([]message, error) {
	before, ok1 := timetokenBound(start)
	since, ok2 := timetokenBound(end)
	if !ok1 || !ok2 {
		return nil, errors.New("bridge: pubnub: fetch: start or end is not a timetoken")
	}
	if most < 1 || most > maxFetch {
		most = maxFetch
	}
	body, err := c.do(ctx, "fetch", goodObject, func(ctx context.Context, token string) error {
		return c.sdk.fetch(ctx, token, channel, before, since, most)
	})
	if err != nil {
		return nil, err
	}
	messages, err := parseHistory(body, channel)
	if err != nil {
		return nil, badReply("fetch", body, err.Error())
	}
	return messages, nil
}

// timetokenBound reads a bound of history; "" is 0.
func timetokenBound(timetoken string) (int64, bool) {
	if timetoken == "" {
		return 0, true
	}
	if _, ok := canonical(timetoken); !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(timetoken, 10, 64)
	return n, err == nil
}

// batches cuts names into pieces that fit into a URL, of at most most names.
func batches(names []string, most int) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		from, size := 0, 0
		for i, name := range names {
			n := len(url.QueryEscape(name)) + 1
			if i > from && (i-from == most || size+n > maxNames) {
				if !yield(names[from:i]) {
					return
				}
				from, size = i, 0
			}
			size += n
		}
		if from < len(names) {
			yield(names[from:])
		}
	}
}

// parseCounts adds the counts of a reply that are above 0 to found.
func parseCounts(body []byte, found map[string]int) error {
	a, err := parseAnswer(body)
	switch {
	case err != nil:
		return err
	case a.failed:
		return errors.New("an error with status 200")
	case len(a.channels) == 0 || a.channels[0] != '{':
		return errors.New("no channels")
	}
	m := newMembers(a.channels, 0, unlimited)
	for name, value, ok := m.next(); ok; name, value, ok = m.next() {
		n, bad := number("count", value, math.MaxInt32)
		if bad != nil {
			return errors.New("a count is not a number")
		}
		if n > 0 {
			found[string(name)] = int(n)
		}
	}
	return nil
}

// parseHistory reads the messages of channel, the only one that was asked for.
func parseHistory(body []byte, channel string) ([]message, error) {
	a, err := parseAnswer(body)
	switch {
	case err != nil:
		return nil, err
	case a.failed:
		return nil, errors.New("an error with status 200")
	case len(a.channels) == 0 || a.channels[0] != '{':
		return nil, errors.New("no channels")
	}
	var list []byte
	m := newMembers(a.channels, 0, unlimited)
	for name, value, ok := m.next(); ok; name, value, ok = m.next() {
		if string(name) != channel {
			return nil, errors.New("another channel")
		}
		list = value
	}
	if list == nil {
		return nil, nil // nothing stored
	}
	if list[0] != '[' {
		return nil, errors.New("messages are not an array")
	}
	var all []message
	e := newElements(list, 0)
	for value, ok := e.next(); ok; value, ok = e.next() {
		all = append(all, parseStored(value, channel))
	}
	return all, nil
}

// parseStored reads one message of history.
func parseStored(value []byte, channel string) message {
	var msg message
	var timetoken []byte
	if value[0] != '{' {
		msg.odd = "history: not an object"
		msg.payload = value
	} else {
		m := newMembers(value, 0, unlimited)
		for name, value, ok := m.next(); ok; name, value, ok = m.next() {
			switch string(name) {
			case "message":
				msg.payload = value
			case "timetoken":
				timetoken = storedTimetoken(value)
			case "uuid":
				msg.publisher = textOf(value)
			case "meta":
				// What was published without meta has "" here.
				if msg.meta = value; bytes.Equal(value, []byte(`""`)) || bytes.Equal(value, []byte(`null`)) {
					msg.meta = nil
				}
			}
		}
	}
	if timetoken == nil && msg.odd == "" {
		msg.odd = "history: no timetoken"
	}
	if msg.odd != "" {
		// Whatever page it is on, it has the same name.
		sum := sha256.Sum256(value)
		timetoken = []byte("0." + hex.EncodeToString(sum[:8]))
	}
	msg.id = fmt.Sprintf("%s:%s", channel, timetoken)
	msg.channel, msg.timetoken = msg.id[:len(channel)], msg.id[len(channel)+1:]
	return msg
}

// storedTimetoken reads "<digits>", or the digits as a number; nil if it is
// neither.
func storedTimetoken(value []byte) []byte {
	if value[0] == '"' {
		value = textOf(value)
	}
	if len(value) == 0 || len(value) > 20 || skipDigits(value, 0) != len(value) {
		return nil
	}
	return value
}
