package client_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"reprise/edge/client"
)

const (
	user   = "5f0c1f0e-8a52-4a53-9d3b-5e8a4c1f7d10"
	device = "0b6d5c1e-4c0e-4f0a-9f57-3f6f0c0b7a11"
	zeros  = "0000000000000000"
)

// scene is what the edge does on one connection. When it returns, the
// connection is cut.
type scene func(t *testing.T, ws *websocket.Conn, r *http.Request)

// edge is a WebSocket server that plays one scene for each connection, and the
// last one for all that follow.
type edge struct {
	*httptest.Server

	mu     sync.Mutex
	scenes []scene
}

func newEdge(t *testing.T, scenes ...scene) *edge {
	t.Helper()
	e := &edge{scenes: scenes}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		play := e.next()
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"reprise.v1"}})
		if err != nil {
			t.Errorf("Accept() error = %v", err)
			return
		}
		defer ws.CloseNow()
		play(t, ws, r)
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *edge) next() scene {
	e.mu.Lock()
	defer e.mu.Unlock()
	play := e.scenes[0]
	if len(e.scenes) > 1 {
		e.scenes = e.scenes[1:]
	}
	return play
}

// send sends text frames.
func send(t *testing.T, ws *websocket.Conn, frames ...string) {
	t.Helper()
	for _, f := range frames {
		if err := ws.Write(context.Background(), websocket.MessageText, []byte(f)); err != nil {
			t.Logf("write: %v", err) // the device may have cut already
			return
		}
	}
}

// stay reads until the device goes, and returns how it went.
func stay(ws *websocket.Conn) error {
	for {
		if _, _, err := ws.Read(context.Background()); err != nil {
			return err
		}
	}
}

func welcome(since string, complete bool, reason string) string {
	more := ""
	if reason != "" {
		more = fmt.Sprintf(`,"reason":%q`, reason)
	}
	return fmt.Sprintf(`{"type":"welcome","connection_id":"c","resume":{"since":%q,"complete":%v%s}}`, since, complete, more)
}

func event(n int) string {
	return fmt.Sprintf(`{"type":"notification","hlc":%q,"data":{"n":%d}}`, stamp(n), n)
}

func caughtUp(n int) string {
	return fmt.Sprintf(`{"type":"caught_up","hlc":%q,"replayed":0}`, stamp(n))
}

// stamp is the n-th stamp of these tests.
func stamp(n int) string { return fmt.Sprintf("%016x", 0x1000+n) }

// run runs a client of e until the test ends or stop is called, and returns it
// with what Run returned.
func run(t *testing.T, cfg client.Config) (c *client.Client, stop func(), result <-chan error) {
	t.Helper()
	if cfg.User == "" && cfg.Token == nil {
		cfg.User = user
	}
	cfg.Device = device
	if cfg.MinBackoff == 0 {
		cfg.MinBackoff, cfg.MaxBackoff = time.Microsecond, time.Millisecond
	}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatalf("New(%+v) error = %v", cfg, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	var running sync.WaitGroup
	running.Go(func() { ended <- c.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return c, cancel, ended
}
