package bridge

import (
	"errors"
	"net/http"
	"strings"
	"time"
)

// Results of calls besides those of polls.
const (
	// callDisabled: PubNub says that the keyset lacks an add-on. class is
	// featureHistory or featureGroups.
	callDisabled pollResult = "disabled"
	callRefused  pollResult = "refused" // 200, but the reply says no
	callUnsent   pollResult = "unsent"  // the SDK has not sent the request
)

// callResults are all results that a callError may have.
var callResults = [...]pollResult{pollNetwork, pollTimeout, pollForbidden, pollThrottled, pollStatus, pollServer,
	pollBadReply, callDisabled, callRefused, callUnsent}

// Add-ons of a keyset that calls depend on.
const (
	featureHistory = "message persistence"
	featureGroups  = "stream controller"
)

// callError is a call that failed. Its text is a few words of our own, as a
// pollError's.
//
// A network error, a timeout or a bad reply does not say that PubNub has not
// done what it was asked to.
type callError struct {
	call       string // counts, fetch, group, publish
	result     pollResult
	class      string
	retryAfter time.Duration // what PubNub asked for; 0: nothing
}

func (e *callError) Error() string {
	return "bridge: pubnub: " + e.call + ": " + string(e.result) + ": " + e.class
}

// temporary reports whether the same call may succeed later.
func (e *callError) temporary() bool {
	switch e.result {
	case pollNetwork, pollTimeout, pollThrottled, pollServer, pollBadReply:
		return true
	}
	return false
}

// forbidden reports whether another token may help.
func (e *callError) forbidden() bool { return e.result == pollForbidden }

// disabled reports whether the keyset lacks an add-on: nothing helps but
// enabling it.
func (e *callError) disabled() bool { return e.result == callDisabled }

// lostCall is a call without a whole reply.
func lostCall(err error) *callError {
	e := networkError(err)
	return &callError{result: e.result, class: e.class}
}

// refusedCall classifies a reply whose status is not 200.
func refusedCall(resp *http.Response, body []byte) *callError {
	e := statusError(resp)
	c := &callError{result: e.result, class: e.class, retryAfter: e.retryAfter}
	switch {
	case resp.StatusCode == http.StatusRequestTimeout:
		c.result = pollTimeout
	case resp.StatusCode >= 400 && resp.StatusCode < 500 && missingFeature(body) != "":
		c.result, c.class = callDisabled, missingFeature(body)
	}
	return c
}

// badReply is a reply with status 200 that is not what was asked for; why says
// in which way. Without the add-on, history used to answer so.
func badReply(what string, body []byte, why string) *callError {
	if feature := missingFeature(body); feature != "" {
		return &callError{call: what, result: callDisabled, class: feature}
	}
	return &callError{call: what, result: pollBadReply, class: why}
}

// missingFeature is the add-on whose lack a reply complains of, "" if none. The
// service says "Use of the history API requires the Storage & Playback which is
// not enabled for this subscribe key" and "Use of Multiplexing requires Stream
// Controller to be enabled for this subscribe key".
func missingFeature(body []byte) string {
	text := strings.ToLower(complaint(body))
	switch {
	case strings.Contains(text, "storage & playback"), strings.Contains(text, featureHistory):
		return featureHistory
	case strings.Contains(text, featureGroups):
		return featureGroups
	}
	return ""
}

// complaint is what a reply says has gone wrong: error_message or message of
// an object, or the first string of an array (of an array in it, too).
func complaint(body []byte) string {
	at := skipSpace(body, 0)
	if at == len(body) {
		return ""
	}
	switch body[at] {
	case '{':
		if a, err := parseAnswer(body); err == nil {
			return a.text
		}
	case '[':
		e := newElements(body, at)
		for value, ok := e.next(); ok; value, ok = e.next() {
			if value[0] == '[' {
				inner := newElements(value, 0)
				value, ok = inner.next()
			}
			if ok && value[0] == '"' {
				return string(textOf(value))
			}
		}
	}
	return ""
}

// answer is what the objects that PubNub answers with have in common.
type answer struct {
	failed   bool
	text     string // error_message, else message
	channels []byte // nil: none
}

func parseAnswer(body []byte) (answer, error) {
	at := skipSpace(body, 0)
	if at == len(body) || body[at] != '{' {
		return answer{}, errors.New("not an object")
	}
	var a answer
	m := newMembers(body, at, unlimited)
	for name, value, ok := m.next(); ok; name, value, ok = m.next() {
		switch string(name) {
		case "error":
			a.failed = string(value) != "false" && string(value) != "0" && string(value) != "null"
		case "error_message":
			if t := textOf(value); len(t) > 0 {
				a.text = string(t)
			}
		case "message":
			if a.text == "" {
				a.text = string(textOf(value))
			}
		case "channels":
			a.channels = value
		}
	}
	if m.err != nil || skipSpace(body, m.at) != len(body) {
		return answer{}, errors.New("not JSON")
	}
	return a, nil
}
