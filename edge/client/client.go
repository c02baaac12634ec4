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

	cursor  cursor // what was handed to OnFrame
	handled cursor // what OnFrame is through with
	updates *updates
	clock   hlc.Clock     // of the timestamps of updates
	changed chan struct{} // holds a token when there is something to save
	renewal chan struct{} // holds a token when the edge wants a fresh JWT

	// owned by Run's goroutine
	backoff backoff
	replay  replay
	acked   time.Time // when the edge was told the cursor last

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
	b := backoff{min: cfg.MinBackoff, max: cfg.MaxBackoff}
	c := &Client{cfg: cfg, url: u, backoff: b, updates: newUpdates(b), changed: make(chan struct{}, 1), renewal: make(chan struct{}, 1)}
	c.cursor.begin(cfg.Since)
	return c, nil
}

// Run stays connected until ctx ends, and returns nil then. It returns a
// [ClosedError] or a [RefusedError] when the edge will not have this device, and
// what [Store.Load] returns. It is called once.
func (c *Client) Run(ctx context.Context) error {
	if c.cfg.Store != nil {
		kept, err := c.cfg.Store.Load()
		if err != nil {
			c.updates.end()
			return err
		}
		if kept.Cursor != "" {
			c.cursor.begin(kept.Cursor)
			c.handled.begin(kept.Cursor)
		}
		c.updates.restore(kept.Updates)
		for _, u := range kept.Updates {
			c.follow(hlc.Origin(u.Timestamp))
		}
		done := make(chan struct{}) // closed here, at the end
		var keeping sync.WaitGroup
		defer keeping.Wait()
		defer close(done)
		keeping.Go(func() { c.keepSaved(done) })
	}
	defer c.updates.end() // before all is saved for the last time
	c.follow(c.cursor.position())
	for {
		reconnect, err := c.connect(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if c.isPermanent(err) {
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
	if c.cfg.Token != nil {
		watching.Go(func() { c.renew(ctx, done) })
	}
	welcomed := false

	c.cfg.Logger.LogAttrs(ctx, slog.LevelDebug, "connected", slog.String("url", c.url.Redacted()))
	reconnect := time.Duration(-1)
	for {
		// Background: a context that ends would cut the link instead of closing it.
		kind, raw, err := ws.Read(context.Background())
		if err != nil {
			_ = ws.CloseNow() // it is broken or closed already
			err = closedError(err)
			if closed := (*ClosedError)(nil); errors.As(err, &closed) {
				switch closed.Code {
				case tooManyMessages:
					c.updates.slower()
				case int(websocket.StatusMessageTooBig):
					if c.updates.tooLarge() {
						c.keep()
					}
				}
			}
			return reconnect, err
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
		if !welcomed {
			welcomed = true
			c.updates.again()
			watching.Go(func() { c.sendUpdates(ctx, done) })
		}
	}
}

// receive deals with one frame. It returns the wait that a reconnect frame
// asks for, and a negative one for all others.
func (c *Client) receive(raw []byte) (time.Duration, error) {
	reconnect := time.Duration(-1)
	c.cfg.OnRaw(raw)
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
		c.replay.begin(w.Resume)
	case "snapshot":
		var s struct {
			Progress []struct {
				Timestamp string `json:"timestamp"`
			} `json:"progress"`
		}
		if err := json.Unmarshal(raw, &s); err != nil {
			return reconnect, fmt.Errorf("client: snapshot: %w", err)
		}
		c.follow(f.Hlc)
		for _, p := range s.Progress {
			c.follow(hlc.Origin(p.Timestamp))
		}
		c.cursor.begin(f.Hlc.String())
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
		reconnect = time.Duration(min(max(0, r.AfterMs), longestWait.Milliseconds())) * time.Millisecond
	case "accepted", "error":
		c.answered(raw)
	case "token_expiring":
		select {
		case c.renewal <- struct{}{}:
		default:
		}
	default:
		if f.Hlc != hlc.Zero && !c.cursor.advance(f.Hlc) && f.IsEvent() {
			return reconnect, nil
		}
		if f.IsEvent() {
			c.heardOf(raw)
			c.replay.delivered++
		}
	}
	c.cfg.OnFrame(f)
	if f.Type == "caught_up" {
		c.cfg.OnResumed(c.replay.end(f))
	}
	// Until the app knows that something is missing, another process has to begin where
	// this one did, and is told.
	if f.Hlc != hlc.Zero && !(c.replay.running && !c.replay.Complete) {
		c.handled.begin(c.cursor.next())
		c.keep()
		c.acknowledge(f.Type == "caught_up")
	}
	return reconnect, nil
}

// acknowledge tells the edge how far this device has come, at the end of a replay and
// from time to time.
func (c *Client) acknowledge(now bool) {
	if c.cfg.AckEvery < 0 || !now && time.Since(c.acked) < c.cfg.AckEvery {
		return
	}
	c.acked = time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	_ = c.Send(ctx, []byte(`{"type":"ack","hlc":"`+c.cursor.next()+`"}`)) // a lost connection is noticed by the reader
}

// hold makes ws and l the connection that Cut and Send mean.
func (c *Client) hold(ws *websocket.Conn, l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ws, c.link = ws, l
}
