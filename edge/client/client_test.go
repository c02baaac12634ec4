package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"reprise/edge/client"
)

// seen returns an OnFrame that passes on events and caught_up frames.
func seen() (func(client.Frame), <-chan string) {
	frames := make(chan string, 100)
	return func(f client.Frame) {
		if f.IsEvent() || f.Type == "caught_up" {
			frames <- f.Type + " " + f.Hlc.String()
		}
	}, frames
}

// take reads n texts from frames.
func take(t *testing.T, frames <-chan string, n int) []string {
	t.Helper()
	var got []string
	for range n {
		select {
		case f := <-frames:
			got = append(got, f)
		case <-t.Context().Done():
			t.Fatal("the test was over first")
		}
	}
	return got
}

func TestRunResumesAfterTheCursor(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 10)
	note := func(r *http.Request) { asked <- r.URL.Query().Get("since") }
	e := newEdge(t,
		func(t *testing.T, ws *websocket.Conn, r *http.Request) {
			note(r)
			send(t, ws, welcome(zeros, true, ""), event(1), event(2), event(2), event(1), caughtUp(2), event(4))
		},
		func(t *testing.T, ws *websocket.Conn, r *http.Request) {
			note(r)
			send(t, ws, welcome(stamp(4), true, ""), event(4), event(5), caughtUp(7))
		},
		func(t *testing.T, ws *websocket.Conn, r *http.Request) {
			note(r)
			send(t, ws, welcome(stamp(7), true, ""), caughtUp(7), `{"type":"position","hlc":"`+stamp(9)+`"}`)
		},
		func(t *testing.T, ws *websocket.Conn, r *http.Request) {
			note(r)
			_ = stay(ws)
		},
	)
	on, frames := seen()
	c, _, _ := run(t, client.Config{URL: e.URL, Since: "earliest", OnFrame: on})

	want := []string{
		"notification " + stamp(1), "notification " + stamp(2), "caught_up " + stamp(2), "notification " + stamp(4),
		"notification " + stamp(5), "caught_up " + stamp(7), "caught_up " + stamp(7),
	}
	if got := take(t, frames, len(want)); !slices.Equal(got, want) {
		t.Errorf("frames = %q, want %q", got, want)
	}
	wantAsked := []string{"earliest", stamp(4), stamp(7), stamp(9)}
	if got := take(t, asked, len(wantAsked)); !slices.Equal(got, wantAsked) {
		t.Errorf("since = %q, want %q", got, wantAsked)
	}
	if got := c.Since(); got != stamp(9) {
		t.Errorf("Since() = %q, want %q", got, stamp(9))
	}
	if got := c.Cursor().String(); got != stamp(9) {
		t.Errorf("Cursor() = %q, want %q", got, stamp(9))
	}
}

func TestIncompleteForgetsTheCursor(t *testing.T) {
	t.Parallel()
	for _, reason := range []string{"trimmed", "future_cursor", "store_reset", "upstream_gap"} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			asked := make(chan string, 10)
			e := newEdge(t,
				func(t *testing.T, ws *websocket.Conn, r *http.Request) {
					asked <- r.URL.Query().Get("since")
					send(t, ws, welcome(zeros, false, reason)) // and nothing else
				},
				func(t *testing.T, ws *websocket.Conn, r *http.Request) {
					asked <- r.URL.Query().Get("since")
					send(t, ws, welcome(zeros, false, reason), event(3), event(4), caughtUp(4))
				},
				func(t *testing.T, ws *websocket.Conn, r *http.Request) {
					asked <- r.URL.Query().Get("since")
					_ = stay(ws)
				},
			)
			on, frames := seen()
			run(t, client.Config{URL: e.URL, Since: stamp(50), OnFrame: on})
			want := []string{"notification " + stamp(3), "notification " + stamp(4), "caught_up " + stamp(4)}
			if got := take(t, frames, 3); !slices.Equal(got, want) {
				t.Errorf("frames = %q, want %q", got, want)
			}
			wantAsked := []string{stamp(50), zeros, stamp(4)}
			if got := take(t, asked, 3); !slices.Equal(got, wantAsked) {
				t.Errorf("since = %q, want %q", got, wantAsked)
			}
		})
	}
}

func TestCloseCodes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		code websocket.StatusCode
		ends bool
	}{
		{1000, false}, {1001, false}, {1003, false}, {1009, false}, {1012, false},
		{4000, false}, {4001, false}, {4002, false}, {4004, false}, {4499, false},
		{4500, true}, {4501, true}, {4509, true}, {4999, true},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(int(tt.code)), func(t *testing.T) {
			t.Parallel()
			again := make(chan string, 1)
			e := newEdge(t,
				func(t *testing.T, ws *websocket.Conn, _ *http.Request) {
					send(t, ws, welcome(zeros, true, ""), caughtUp(1))
					_ = ws.Close(tt.code, "because")
				},
				func(t *testing.T, ws *websocket.Conn, _ *http.Request) {
					again <- "again"
					_ = stay(ws)
				})
			_, _, result := run(t, client.Config{URL: e.URL})
			select {
			case err := <-result:
				var closed *client.ClosedError
				if !errors.As(err, &closed) || closed.Code != int(tt.code) || closed.Reason != "because" {
					t.Errorf("Run() error = %v, want a ClosedError with %d because", err, tt.code)
				}
				if !tt.ends {
					t.Errorf("Run() ended after %d, want another connection", tt.code)
				}
			case <-again:
				if tt.ends {
					t.Errorf("Run() connected again after %d, want an end", tt.code)
				}
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status     int
		retryAfter string
		ends       bool
		least      time.Duration
	}{
		{status: 400, ends: true},
		{status: 401, ends: true},
		{status: 403, ends: true},
		{status: 404, ends: true},
		{status: 426, ends: true},
		{status: 302},
		{status: 429, retryAfter: "7", least: 7 * time.Second},
		{status: 500},
		{status: 503, retryAfter: "30", least: 30 * time.Second},
		{status: 503, retryAfter: "soon"},
		{status: 503, retryAfter: time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), least: 50 * time.Minute},
		{status: 503, retryAfter: "2592000", least: time.Hour},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.status, tt.retryAfter), func(t *testing.T) {
			t.Parallel()
			e := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if tt.retryAfter != "" {
					w.Header().Set("Retry-After", tt.retryAfter)
				}
				w.WriteHeader(tt.status)
				fmt.Fprint(w, `{"error":{"code":"since","message":"no such cursor"}}`)
			}))
			t.Cleanup(e.Close)
			waits := make(chan time.Duration, 100)
			refused := make(chan error, 100)
			_, _, result := run(t, client.Config{
				URL: e.URL, MinBackoff: time.Minute, MaxBackoff: time.Hour,
				OnDisconnect: func(err error, wait time.Duration) {
					refused <- err
					waits <- wait
				}})
			var err error
			select {
			case err = <-result:
				if !tt.ends {
					t.Errorf("Run() ended after %d, want another attempt", tt.status)
				}
			case err = <-refused:
				if tt.ends {
					t.Errorf("Run() tries again after %d, want an end", tt.status)
				}
				wait := <-waits
				if tt.least > 0 && (wait < tt.least || wait > tt.least+2*time.Hour) {
					t.Errorf("wait after Retry-After %q = %v, want at least %v", tt.retryAfter, wait, tt.least)
				}
			}
			var answer *client.RefusedError
			if !errors.As(err, &answer) || answer.Status != tt.status || answer.Code != "since" || answer.Message != "no such cursor" {
				t.Errorf("error = %v, want a RefusedError with %d since", err, tt.status)
			}
		})
	}
}

func TestReconnectFrameIsObeyed(t *testing.T) {
	t.Parallel()
	e := newEdge(t, func(t *testing.T, ws *websocket.Conn, _ *http.Request) {
		send(t, ws, welcome(zeros, true, ""), caughtUp(1), `{"type":"reconnect","after_ms":86400,"reason":"drain"}`)
		_ = ws.Close(1012, "")
	})
	waits := make(chan time.Duration, 1)
	run(t, client.Config{URL: e.URL, OnDisconnect: func(_ error, wait time.Duration) { waits <- wait }})
	if got, want := <-waits, 86400*time.Millisecond; got != want {
		t.Errorf("wait = %v, want %v", got, want)
	}
}

func TestCutResumes(t *testing.T) {
	t.Parallel()
	connected := make(chan string, 10)
	e := newEdge(t, func(t *testing.T, ws *websocket.Conn, r *http.Request) {
		connected <- r.URL.Query().Get("since")
		send(t, ws, welcome(stamp(1), true, ""), caughtUp(1))
		_ = stay(ws)
	})
	on, frames := seen()
	c, _, _ := run(t, client.Config{URL: e.URL, OnFrame: on, MinBackoff: time.Microsecond, MaxBackoff: time.Millisecond})
	for i := range 5 {
		take(t, frames, 1)
		want := stamp(1)
		if i == 0 {
			want = ""
		}
		if got := <-connected; got != want {
			t.Errorf("connection %d: since = %q, want %q", i, got, want)
		}
		c.Cut()
	}
}

func TestStopClosesInGoodOrder(t *testing.T) {
	t.Parallel()
	left := make(chan error, 1)
	e := newEdge(t, func(t *testing.T, ws *websocket.Conn, _ *http.Request) {
		send(t, ws, welcome(zeros, true, ""), caughtUp(1))
		left <- stay(ws)
	})
	on, frames := seen()
	_, stop, result := run(t, client.Config{URL: e.URL, OnFrame: on})
	take(t, frames, 1)
	stop()
	if err := <-result; err != nil {
		t.Errorf("Run() error = %v, want nil", err)
	}
	if got := websocket.CloseStatus(<-left); got != websocket.StatusNormalClosure {
		t.Errorf("close code = %d, want %d", got, websocket.StatusNormalClosure)
	}
}

func TestRequest(t *testing.T) {
	t.Parallel()
	requests := make(chan *http.Request, 2)
	e := newEdge(t,
		func(_ *testing.T, _ *websocket.Conn, r *http.Request) { requests <- r },
		func(_ *testing.T, ws *websocket.Conn, r *http.Request) {
			requests <- r
			_ = stay(ws)
		})
	calls := 0
	run(t, client.Config{
		URL: e.URL + "/?coalesce=1", User: user, Since: "latest", Echo: true,
		Token: func(context.Context) (string, error) {
			calls++
			return fmt.Sprintf("token-%d", calls), nil
		}})
	for i := range 2 {
		r := <-requests
		if got, want := r.Header.Get("Authorization"), fmt.Sprintf("Bearer token-%d", i+1); got != want {
			t.Errorf("Authorization = %q, want %q", got, want)
		}
		if got, want := r.Header.Get("Sec-WebSocket-Protocol"), "reprise.v1"; got != want {
			t.Errorf("Sec-WebSocket-Protocol = %q, want %q", got, want)
		}
		want := "/ws?coalesce=1&device_id=" + device + "&echo=1&since=latest&user_id=" + user
		if got := r.URL.String(); got != want {
			t.Errorf("URL = %q, want %q", got, want)
		}
	}
}

func TestSend(t *testing.T) {
	t.Parallel()
	got := make(chan string, 1)
	e := newEdge(t, func(t *testing.T, ws *websocket.Conn, _ *http.Request) {
		send(t, ws, welcome(zeros, true, ""), caughtUp(1))
		_, raw, err := ws.Read(context.Background())
		if err != nil {
			t.Errorf("Read() error = %v", err)
		}
		got <- string(raw)
		_ = stay(ws)
	})
	idle, err := client.New(client.Config{URL: e.URL, User: user, Device: device})
	if err != nil {
		t.Fatalf("New() error = %v", err)
	}
	if err := idle.Send(t.Context(), []byte(`{}`)); !errors.Is(err, client.ErrNotConnected) {
		t.Errorf("Send() error = %v, want %v", err, client.ErrNotConnected)
	}
	on, frames := seen()
	c, _, _ := run(t, client.Config{URL: e.URL, OnFrame: on, AckEvery: -1})
	take(t, frames, 1)
	if err := c.Send(t.Context(), []byte(`{"type":"ack"}`)); err != nil {
		t.Errorf("Send() error = %v, want nil", err)
	}
	if got, want := <-got, `{"type":"ack"}`; got != want {
		t.Errorf("the edge read %q, want %q", got, want)
	}
}

func TestNewRejects(t *testing.T) {
	t.Parallel()
	good := client.Config{User: user, Device: device}
	if _, err := client.New(good); err != nil {
		t.Fatalf("New(%+v) error = %v, want nil", good, err)
	}
	for name, change := range map[string]func(*client.Config){
		"no device":      func(c *client.Config) { c.Device = "" },
		"upper case":     func(c *client.Config) { c.Device = "0B6D5C1E-4C0E-4F0A-9F57-3F6F0C0B7A11" },
		"user":           func(c *client.Config) { c.User = "me" },
		"nobody":         func(c *client.Config) { c.User = "" },
		"since":          func(c *client.Config) { c.Since = "019A3F2C8E410003" },
		"scheme":         func(c *client.Config) { c.URL = "ftp://localhost/ws" },
		"host":           func(c *client.Config) { c.URL = "ws:///ws" },
		"backoff":        func(c *client.Config) { c.MinBackoff, c.MaxBackoff = 2, 1 },
		"negative limit": func(c *client.Config) { c.MaxFrame = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := good
			change(&cfg)
			if _, err := client.New(cfg); err == nil {
				t.Errorf("New(%+v) error = nil, want one", cfg)
			}
		})
	}
}

// TestErrorsHoldNoURL holds that what goes into logs names neither the user nor
// the cursor.
func TestErrorsHoldNoURL(t *testing.T) {
	t.Parallel()
	e := newEdge(t, func(*testing.T, *websocket.Conn, *http.Request) {})
	address := e.URL
	errs := make(chan error, 100)
	on := func(err error, _ time.Duration) {
		select {
		case errs <- err:
		default:
		}
	}
	run(t, client.Config{URL: address, Since: stamp(1), OnDisconnect: on})
	lost := <-errs
	e.Close()
	run(t, client.Config{URL: address, Since: stamp(1), OnDisconnect: on})
	for _, err := range []error{lost, <-errs, <-errs} {
		for _, secret := range []string{user, stamp(1), "failed to"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("OnDisconnect(%q), want no %q in it", err, secret)
			}
		}
	}
}
