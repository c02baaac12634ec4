package client

import (
	"context"
	"time"

	"github.com/coder/websocket"
)

// farewell is how long the closing handshake may take when Run is told to end.
const farewell = time.Second

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
