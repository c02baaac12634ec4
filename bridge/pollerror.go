package bridge

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"
)

// pollResult is how a poll ended; metrics count by it.
type pollResult string

const (
	pollOK         pollResult = "ok"
	pollNetwork    pollResult = "network"      // no reply, or half of one
	pollTimeout    pollResult = "timeout"      // none within Config.PollTimeout
	pollForbidden  pollResult = "forbidden"    // 403: token expired or without rights
	pollThrottled  pollResult = "throttled"    // 429
	pollStatus     pollResult = "status"       // another status but 200 below 500
	pollServer     pollResult = "server_error" // 500 and above
	pollBadReply   pollResult = "bad_reply"    // 200 with something else than a subscribe reply
	pollStalled    pollResult = "stalled"      // the same messages at the same cursor again
	pollStore      pollResult = "store"        // the log did not take the reply
	pollSuperseded pollResult = "superseded"   // ended by a newer poll or a stop
)

var pollResults = [...]pollResult{pollOK, pollNetwork, pollTimeout, pollForbidden, pollThrottled, pollStatus, pollServer,
	pollBadReply, pollStalled, pollStore, pollSuperseded}

// pollError is a poll that failed. Its text is one of a few words of our own:
// errors of net/http hold the URL with its token, or a piece of the reply.
type pollError struct {
	result     pollResult
	class      string
	retryAfter time.Duration
}

func (e *pollError) Error() string { return string(e.result) + ": " + e.class }

// networkError classifies what a transport or the reading of a body returned.
func networkError(err error) *pollError {
	e := &pollError{result: pollNetwork, class: "other"}
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		e.result, e.class = pollTimeout, "no reply in time"
	case errors.As(err, &dns):
		e.class = "name not resolved"
	case errors.Is(err, syscall.ECONNREFUSED):
		e.class = "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		e.class = "connection reset"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		e.class = "connection closed"
	}
	return e
}

// statusError classifies a reply whose status is not 200.
func statusError(resp *http.Response) *pollError {
	e := &pollError{class: strconv.Itoa(resp.StatusCode), retryAfter: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	switch {
	case resp.StatusCode == http.StatusForbidden:
		e.result = pollForbidden
	case resp.StatusCode == http.StatusTooManyRequests:
		e.result = pollThrottled
	case resp.StatusCode >= 500:
		e.result = pollServer
	default:
		e.result = pollStatus
	}
	return e
}

// retryAfter reads RFC 9110 section 10.2.3: seconds or a date; 0 when absent,
// past or malformed.
func retryAfter(value string, now time.Time) time.Duration {
	if value == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}
