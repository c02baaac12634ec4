package bridge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// callerConfig is what a caller is made from.
type callerConfig struct {
	origin       string // host or host:port
	tls          bool
	subscribeKey string
	publishKey   string // "" if nothing is published
	userID       string
	token        func() string     // called before every call, from its goroutine; nil: no token
	base         http.RoundTripper // nil: newCallTransport()
	timeout      time.Duration     // of one call, waiting for a connection included; 0: 10 s
	failed       func(*callError)  // told of each failure that retrying goes on after; nil: nobody
}

// caller carries out the bridge's calls to PubNub other than the poll: counting
// and reading history, filling channel groups, publishing.
//
// The SDK builds and authorises each request. What comes back it never sees:
// its parsers panic on ordinary replies and lose digits, its errors hold the URL
// with the token and the keys. The transport below it takes the raw reply and
// gives the SDK a fixed good one; the bridge's own scanner reads the other.
//
// A failed call returns a [*callError], or ctx's cause if ctx has ended, or
// errCallerClosed, or the text of a panic inside the SDK. No error holds a URL,
// a key, a token or a payload. Nothing is retried here, but see retrying.
//
// All methods may be called at any time from any goroutine. There are at most 32
// connections; further calls wait for one within their timeout.
type caller struct {
	// Static after construction.
	sdk     *calls
	token   func() string
	timeout time.Duration
	failed  func(*callError)

	inside sync.WaitGroup // one for each call; added to under mu, and not once closed

	mu     sync.Mutex // guards what follows
	closed bool
}

// errCallerClosed is returned by calls that begin after close.
var errCallerClosed = errors.New("closed")

func newCaller(cfg callerConfig) (*caller, error) {
	if cfg.base == nil {
		cfg.base = newCallTransport()
	}
	if cfg.timeout == 0 {
		cfg.timeout = 10 * time.Second
	}
	if cfg.token == nil {
		cfg.token = func() string { return "" }
	}
	if cfg.failed == nil {
		cfg.failed = func(*callError) {}
	}
	sdk, err := newCalls(sdkConfig{origin: cfg.origin, tls: cfg.tls, subscribeKey: cfg.subscribeKey,
		publishKey: cfg.publishKey, userID: cfg.userID}, capture{cfg.base})
	if err != nil {
		return nil, err
	}
	return &caller{sdk: sdk, token: cfg.token, timeout: cfg.timeout, failed: cfg.failed}, nil
}

// maxCallConns bounds the connections of a caller.
const maxCallConns = 32

func newCallTransport() *http.Transport {
	t := newTransport()
	t.MaxIdleConnsPerHost, t.MaxConnsPerHost = maxCallConns, maxCallConns
	return t
}

// close waits for the calls that are under way, each of which ends with its
// timeout at the latest, and ends the SDK's client. Later calls, and further
// closes, do nothing.
func (c *caller) close() error {
	c.mu.Lock()
	closed := c.closed
	c.closed = true
	c.mu.Unlock()
	if closed {
		return nil
	}
	c.inside.Wait()
	return c.sdk.destroy()
}

func (c *caller) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.inside.Add(1)
	}
	return !c.closed
}

// Replies that the SDK's parsers take without looking further.
const (
	goodObject  = `{"status":200,"error":false,"error_message":"","channels":{}}`
	goodPublish = `[1,"Sent","1"]`
)

// do carries out one call and returns the body of PubNub's reply, whose status
// was 200. good is the reply that the SDK gets.
func (c *caller) do(ctx context.Context, what, good string, call func(ctx context.Context, token string) error) ([]byte, error) {
	if !c.enter() {
		return nil, fmt.Errorf("bridge: pubnub: %s: %w", what, errCallerClosed)
	}
	defer c.inside.Done()
	x := &exchange{good: good}
	timed, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if ctx.Err() == nil {
		if err := call(context.WithValue(timed, exchangeKey{}, x), c.token()); err != nil {
			return nil, err
		}
	}
	switch {
	case x.sent && x.err == nil:
		return x.body, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("bridge: pubnub: %s: %w", what, context.Cause(ctx))
	case !x.sent:
		return nil, &callError{call: what, result: callUnsent, class: "not sent by the sdk"}
	}
	x.err.call = what
	return nil, x.err
}

// exchange is one request and what came of it. It is written by RoundTrip and
// read after the SDK has returned, both in the goroutine of the call.
type exchange struct {
	good string // what the SDK gets

	sent bool
	body []byte // of a reply with status 200
	err  *callError
}

type exchangeKey struct{} // of the exchange in a request's context

// capture is the transport under the SDK's client.
type capture struct{ base http.RoundTripper }

// errStray is for a request that the SDK makes on its own, such as /time or
// /leave: it is not sent.
var errStray = errors.New("bridge: pubnub sdk: a request that nobody asked for")

// RoundTrip implements [http.RoundTripper].
func (t capture) RoundTrip(req *http.Request) (*http.Response, error) {
	var sent []byte
	if req.Body != nil {
		sent, _ = io.ReadAll(req.Body) // bytes in memory: no error
		req.Body.Close()
	}
	x, ok := req.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		return nil, errStray
	}
	x.sent = true
	x.body, x.err = t.send(req, sent)
	return goodReply(req, x.good), nil
}

// send sends the SDK's request as it is. Only that the body's length is said
// beforehand, which the SDK does not: net/http would send it in chunks, and
// could not send it again over a new connection when the server has closed an
// idle one.
func (t capture) send(req *http.Request, sent []byte) ([]byte, *callError) {
	out := req.WithContext(req.Context())
	if req.Body != nil {
		out.ContentLength = int64(len(sent))
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(sent)), nil }
		out.Body, _ = out.GetBody()
	}
	resp, err := t.base.RoundTrip(out)
	if err != nil {
		return nil, lostCall(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	switch {
	case resp.StatusCode != http.StatusOK:
		return nil, refusedCall(resp, body)
	case err != nil:
		return nil, lostCall(err)
	case len(body) > maxReply:
		return nil, &callError{result: pollBadReply, class: "more than 16 MiB"}
	}
	return body, nil
}

// CloseIdleConnections is what the SDK calls at its end.
func (t capture) CloseIdleConnections() {
	if base, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

func goodReply(req *http.Request, body string) *http.Response {
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {"application/json"}},
		ContentLength: int64(len(body)),
		Body:          io.NopCloser(bytes.NewReader([]byte(body))),
		Request:       req,
	}
}
