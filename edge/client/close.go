package client

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/coder/websocket"
)

// ErrNotConnected is returned by [Client.Send] while there is no connection.
var ErrNotConnected = errors.New("client: not connected")

// A RefusedError is an answer other than an upgrade.
type RefusedError struct {
	// Status is the HTTP status.
	Status int
	// Code and Message are the edge's; "" when something else answered.
	Code, Message string
	// RetryAfter is the header of that name; 0 when there was none.
	RetryAfter time.Duration
}

func (e *RefusedError) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("client: refused with status %d", e.Status)
	}
	return fmt.Sprintf("client: refused with status %d: %s: %s", e.Status, e.Code, e.Message)
}

// permanent tells whether asking again in the same way is pointless. An answer that is
// not an edge's, but of something before it, may be another one soon.
func (e *RefusedError) permanent() bool {
	switch e.Status {
	case 408, 425, 429:
		return false
	}
	return e.Status >= 400 && e.Status < 500 && e.Code != ""
}

// badToken tells whether it was the token that the edge did not take.
func badToken(err error) bool {
	var refused *RefusedError
	var closed *ClosedError
	return errors.As(err, &refused) && refused.Status == http.StatusUnauthorized || errors.As(err, &closed) && closed.Code == tokenRefused
}

// tokenRefused is the close code after a renewal with a token that is not valid.
const tokenRefused = 4501

// A ClosedError is a close frame from the edge.
type ClosedError struct {
	Code   int    // RFC 6455 section 7.4, or 4000 to 4999
	Reason string // the edge's words, may be empty
}

func (e *ClosedError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("client: closed with %d", e.Code)
	}
	return fmt.Sprintf("client: closed with %d: %s", e.Code, e.Reason)
}

// permanent tells whether the edge asked not to come back unchanged.
func (e *ClosedError) permanent() bool { return e.Code >= 4500 && e.Code <= 4999 }

// closedError turns the end of a read into a [ClosedError] where a close frame
// was the reason.
func closedError(err error) error {
	var ce websocket.CloseError
	if errors.As(err, &ce) {
		return &ClosedError{Code: int(ce.Code), Reason: ce.Reason}
	}
	return fmt.Errorf("client: connection lost: %w", plain(err))
}

// plain is err without the layers that say that something failed, and without
// the URL, which holds a user and a cursor.
func plain(err error) error {
	var request *url.Error
	if errors.As(err, &request) {
		return request.Err
	}
	var network *net.OpError
	if errors.As(err, &network) {
		return network
	}
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// isPermanent tells whether err ends Run. Of a token that is not taken there may be a
// better one.
func (c *Client) isPermanent(err error) bool {
	if badToken(err) {
		return c.cfg.Token == nil
	}
	var refused *RefusedError
	if errors.As(err, &refused) {
		return refused.permanent()
	}
	var closed *ClosedError
	return errors.As(err, &closed) && closed.permanent()
}
