package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"github.com/coder/websocket"

	"reprise/hlc"
)

// Client is a device. It is made by [New].
type Client struct {
	// static after construction
	cfg Config
	url *url.URL

	cursor cursor

	// owned by Run's goroutine
	backoff backoff

	mu   sync.Mutex
	ws   *websocket.Conn // guarded by mu; nil while not connected
	link *link           // guarded by mu; nil while not connected
}

// New checks cfg. It neither connects nor starts anything.
func New(cfg Config) (*Client, error) {
	cfg, u, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, url: u, backoff: backoff{min: cfg.MinBackoff, max: cfg.MaxBackoff}}
	c.cursor.since = cfg.Since
	if at, err := hlc.Parse(cfg.Since); err == nil {
		c.cursor.at = at
	}
	return c, nil
}

// Run stays connected until ctx ends, and returns nil then. It returns a
// [ClosedError] or a [RefusedError] when the edge will not have this device.
// It is called once.
func (c *Client) Run(ctx context.Context) error {
	for {
		reconnect, err := c.connect(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if isPermanent(err) {
			return err
		}
		wait := c.backoff.wait(err, reconnect)
		c.cfg.Logger.LogAttrs(ctx, slog.LevelDebug, "disconnected", slog.Any("err", err), slog.Duration("wait", wait))
		c.cfg.OnDisconnect(err, wait)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// Cursor is the stamp up to which this device has seen everything; zero before
// the first welcome, unless Config.Since was a cursor.
func (c *Client) Cursor() hlc.Timestamp { return c.cursor.position() }

// Since is what to pass as [Config.Since] to go on from here; "" when nothing
// has been heard yet and nothing was asked for.
func (c *Client) Since() string { return c.cursor.next() }

// Cut closes the TCP connection, if there is one, without a word to the edge.
// Run connects again as after any loss.
func (c *Client) Cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link != nil {
		_ = c.link.Close() // it is being thrown away
	}
}

// Send sends one frame, a JSON object. It returns [ErrNotConnected] while
// there is no connection. When ctx ends during the write the connection is
// lost. A nil error means that the socket took it, not that the edge did.
func (c *Client) Send(ctx context.Context, frame []byte) error {
	c.mu.Lock()
	ws := c.ws
	c.mu.Unlock()
	if ws == nil {
		return ErrNotConnected
	}
	if err := ws.Write(ctx, websocket.MessageText, frame); err != nil {
		return fmt.Errorf("client: send: %w", plain(err))
	}
	return nil
}

// connect lives through one connection. It returns why it ended and the wait
// that the edge asked for, negative when it did not.
func (c *Client) connect(ctx context.Context) (time.Duration, error) {
	ws, l, err := c.dial(ctx)
	if err != nil {
		return -1, err
	}
	c.hold(ws, l)
	defer c.hold(nil, nil)

	var watching sync.WaitGroup
	defer watching.Wait()
	done := make(chan struct{}) // closed here, when the reading is over
	defer close(done)
	watching.Go(func() { c.watch(ctx, ws, l, done) })

	c.cfg.Logger.LogAttrs(ctx, slog.LevelDebug, "connected", slog.String("url", c.url.Redacted()))
	reconnect := time.Duration(-1)
	for {
		// Background: a context that ends would cut the link instead of closing it.
		kind, raw, err := ws.Read(context.Background())
		if err != nil {
			_ = ws.CloseNow() // it is broken or closed already
			return reconnect, closedError(err)
		}
		if kind != websocket.MessageText {
			_ = ws.CloseNow()
			return -1, errors.New("client: a binary message")
		}
		after, err := c.receive(raw)
		if err != nil {
			_ = ws.CloseNow()
			return -1, err
		}
		if after >= 0 {
			reconnect = after
		}
	}
}

// receive deals with one frame. It returns the wait that a reconnect frame
// asks for, and a negative one for all others.
func (c *Client) receive(raw []byte) (time.Duration, error) {
	reconnect := time.Duration(-1)
	f, err := Parse(raw)
	if err != nil {
		return reconnect, fmt.Errorf("client: a frame that is not JSON: %w", err)
	}
	switch f.Type {
	case "welcome":
		var w welcome
		if err := json.Unmarshal(raw, &w); err != nil {
			return reconnect, fmt.Errorf("client: welcome: %w", err)
		}
		c.cursor.welcome(w.Resume.Since, w.Resume.Complete)
	case "caught_up":
		c.backoff.caughtUp()
		c.cursor.advance(f.Hlc)
	case "reconnect":
		var r struct {
			AfterMs int64 `json:"after_ms"`
		}
		if err := json.Unmarshal(raw, &r); err != nil {
			return reconnect, fmt.Errorf("client: reconnect: %w", err)
		}
		reconnect = time.Duration(min(max(0, r.AfterMs), time.Hour.Milliseconds())) * time.Millisecond
	default:
		if f.Hlc != hlc.Zero && !c.cursor.advance(f.Hlc) && f.IsEvent() {
			return reconnect, nil
		}
	}
	c.cfg.OnFrame(f)
	return reconnect, nil
}

// hold makes ws and l the connection that Cut and Send mean.
func (c *Client) hold(ws *websocket.Conn, l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ws, c.link = ws, l
}
