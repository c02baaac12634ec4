package client_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"reprise/edge/client"
)

// pipes is a listener whose connections are pipes, so that a whole server fits
// into a synctest bubble.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	device, edge := net.Pipe()
	select {
	case p.conns <- edge:
		return device, nil
	case <-p.closed:
		return nil, io.ErrClosedPipe
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// TestWatch tells a quiet link from a dead one, in fake time.
func TestWatch(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		answers string // what the edge does when it is pinged
		after   time.Duration
		cut     bool
	}{
		{"answers pings", "pong", 10 * time.Minute, false},
		{"answers nothing", "", 35 * time.Second, true},
		{"pings itself", "ping", 10 * time.Minute, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
				var serving sync.WaitGroup
				server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					serving.Add(1)
					defer serving.Done()
					ws, err := websocket.Accept(w, r, nil)
					if err != nil {
						return
					}
					defer ws.CloseNow()
					send(t, ws, welcome(zeros, true, ""), caughtUp(1))
					ctx, cancel := context.WithCancel(context.Background())
					defer cancel()
					if tt.answers == "ping" {
						serving.Go(func() {
							for every := time.Tick(20 * time.Second); ; {
								_ = ws.Ping(ctx)
								select {
								case <-every:
								case <-ctx.Done():
									return
								}
							}
						})
					}
					for {
						_, raw, err := ws.Read(context.Background())
						if err != nil {
							return
						}
						if tt.answers == "pong" && strings.Contains(string(raw), "ping") {
							send(t, ws, `{"type":"pong"}`)
						}
					}
				})}
				serving.Go(func() { _ = server.Serve(p) })

				began := time.Now()
				lost := make(chan time.Duration, 10)
				c, err := client.New(client.Config{
					URL: "ws://edge/ws", User: user, Device: device, Dial: p.dial,
					MinBackoff: time.Hour, MaxBackoff: time.Hour,
					OnDisconnect: func(error, time.Duration) { lost <- time.Since(began) },
				})
				if err != nil {
					t.Fatalf("New() error = %v", err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), tt.after+time.Second)
				defer cancel()
				if err := c.Run(ctx); err != nil {
					t.Errorf("Run() error = %v, want nil", err)
				}
				select {
				case at := <-lost:
					if !tt.cut || at != tt.after {
						t.Errorf("cut after %v, want %v (cut %v)", at, tt.after, tt.cut)
					}
				default:
					if tt.cut {
						t.Errorf("not cut within %v", tt.after)
					}
				}
				_ = server.Close()
				serving.Wait()
			})
		})
	}
}
