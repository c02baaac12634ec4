package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// subprotocol is the one that edges of this version speak.
const subprotocol = "reprise.v1"

// link is the TCP connection below a WebSocket. It notes when bytes came, so
// that pings and pongs, which the library swallows, count as signs of life.
type link struct {
	net.Conn
	began time.Time
	heard atomic.Int64 // when bytes came last, a time.Duration since began
}

func (l *link) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if n > 0 {
		l.heard.Store(int64(time.Since(l.began)))
	}
	return n, err
}

func (l *link) silence() time.Duration { return time.Since(l.began) - time.Duration(l.heard.Load()) }

// dial makes one connection. A refusal is a [RefusedError].
func (c *Client) dial(ctx context.Context) (*websocket.Conn, *link, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.DialTimeout)
	defer cancel()
	header := http.Header{}
	if c.cfg.Token != nil {
		token, err := c.cfg.Token(ctx)
		if err != nil {
			return nil, nil, fmt.Errorf("client: token: %w", err)
		}
		header.Set("Authorization", "Bearer "+token)
	}
	var l *link
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			nc, err := c.cfg.Dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			l = &link{Conn: nc, began: time.Now()}
			return l, nil
		},
		TLSClientConfig:   c.cfg.TLS,
		DisableKeepAlives: true,
	}
	ws, resp, err := websocket.Dial(ctx, c.target(), &websocket.DialOptions{
		HTTPClient: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		HTTPHeader:   header,
		Subprotocols: []string{subprotocol},
	})
	if err == nil {
		ws.SetReadLimit(c.cfg.MaxFrame)
		return ws, l, nil
	}
	if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, nil, refusal(resp)
	}
	return nil, nil, fmt.Errorf("client: %s: %w", c.url.Host, plain(err))
}

// target is the URL of the next connection.
func (c *Client) target() string {
	u := *c.url
	q := u.Query()
	if c.cfg.Device != "" {
		q.Set("device_id", c.cfg.Device)
	}
	if c.cfg.User != "" {
		q.Set("user_id", c.cfg.User)
	}
	if since := c.cursor.next(); since != "" {
		q.Set("since", since)
	}
	for name, wanted := range map[string]bool{"echo": c.cfg.Echo, "snapshot": c.cfg.Snapshot, "coalesce": c.cfg.Coalesce} {
		if wanted {
			q.Set(name, "1")
		}
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// refusal reads an answer that is no upgrade.
func refusal(resp *http.Response) *RefusedError {
	e := &RefusedError{Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header.Get("Retry-After"))}
	if resp.Body == nil {
		return e
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return e
	}
	var answer struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &answer) == nil {
		e.Code, e.Message = answer.Error.Code, answer.Error.Message
	}
	return e
}

// longestWait bounds the wait that an edge, or what is before it, asks for.
const longestWait = time.Hour

// retryAfter reads the header of that name: seconds or a date (RFC 9110,
// section 10.2.3). What it cannot read is 0.
func retryAfter(value string) time.Duration {
	if n, err := strconv.ParseUint(value, 10, 31); err == nil {
		return min(longestWait, time.Duration(n)*time.Second)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(longestWait, max(0, time.Until(at)))
	}
	return 0
}
