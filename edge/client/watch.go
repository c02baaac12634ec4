package client

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/coder/websocket"
)

// farewell is how long the closing handshake may take when Run is told to end.
const farewell = time.Second

// renew sends a fresh JWT whenever the edge asks for one, until done is closed.
func (c *Client) renew(ctx context.Context, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-c.renewal:
		}
		asking, cancel := context.WithTimeout(ctx, c.cfg.DialTimeout)
		token, err := c.cfg.Token(asking)
		if err == nil {
			frame, _ := json.Marshal(map[string]string{"type": "token", "token": token}) // two strings
			err = c.Send(asking, frame)
		}
		cancel()
		if err != nil { // the edge closes with 4004, and the next connection asks again
			c.cfg.Logger.LogAttrs(ctx, slog.LevelDebug, "token not renewed", slog.Any("err", err))
		}
	}
}

// watch looks after a connection until done is closed: it asks for a sign of
// life when the link is silent, cuts it when none comes, and closes it in good
// order when ctx ends.
func (c *Client) watch(ctx context.Context, ws *websocket.Conn, l *link, done <-chan struct{}) {
	timer := time.NewTimer(c.cfg.PingInterval)
	defer timer.Stop()
	for {
		select {
		case <-done:
			return
		case <-ctx.Done():
			_ = l.SetDeadline(time.Now().Add(farewell)) // fails only on a closed one
			_ = ws.Close(websocket.StatusNormalClosure, "")
			return
		case <-timer.C:
		}
		silence := l.silence()
		switch {
		case silence >= c.cfg.PingInterval+c.cfg.PingTimeout:
			_ = l.Close() // the reader reports the loss
			return
		case silence >= c.cfg.PingInterval:
			_ = l.SetWriteDeadline(time.Now().Add(c.cfg.PingTimeout))
			err := ws.Write(context.Background(), websocket.MessageText, []byte(`{"type":"ping"}`))
			if err != nil {
				_ = l.Close()
				return
			}
			_ = l.SetWriteDeadline(time.Time{})
			timer.Reset(c.cfg.PingTimeout)
		default:
			timer.Reset(c.cfg.PingInterval - silence)
		}
	}
}
