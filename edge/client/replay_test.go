package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"reprise/edge/client"
	"reprise/hlc"
)

// What a welcome said to be missing is missing also when the replay is cut and the next
// welcome, which goes by the cursor that came, says that it is complete. Until the app
// has been told, a store is given nothing.
func TestIncompleteUntilTheAppIsTold(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "device.json")
	store := client.FileStore(path)
	if err := store.Save(client.Kept{Cursor: stamp(9)}); err != nil {
		t.Fatal(err)
	}
	since := make(chan string, 3)
	e := newEdge(t,
		func(t *testing.T, ws *websocket.Conn, r *http.Request) {
			since <- r.URL.Query().Get("since")
			send(t, ws, welcome(zeros, false, "future_cursor"), event(1), event(2)) // and it is cut
		},
		func(t *testing.T, ws *websocket.Conn, r *http.Request) {
			since <- r.URL.Query().Get("since")
			if kept, err := store.Load(); err != nil || kept.Cursor != stamp(9) {
				t.Errorf("kept meanwhile: %+v, %v, want the cursor from before", kept, err)
			}
			send(t, ws, welcome(stamp(2), true, ""), event(3), `{"type":"caught_up","hlc":"`+stamp(3)+`","replayed":1}`)
		},
		func(t *testing.T, ws *websocket.Conn, r *http.Request) {
			since <- r.URL.Query().Get("since")
			send(t, ws, welcome(stamp(3), true, ""), caughtUp(3))
			_ = stay(ws)
		})
	told := make(chan client.Resumed, 2)
	_, stop, result := run(t, client.Config{URL: e.URL, Store: store, OnResumed: func(r client.Resumed) { told <- r }})
	if got, want := <-told, (client.Resumed{Reason: "future_cursor", Replayed: 3}); got.Complete || got.Reason != want.Reason || got.Replayed != want.Replayed {
		t.Errorf("OnResumed(%+v), want incomplete, %s, and 3 events", got, want.Reason)
	}
	third, err := hlc.Parse(stamp(3))
	if got, want := <-told, (client.Resumed{Since: third, Complete: true}); err != nil || got != want {
		t.Errorf("OnResumed(%+v) the next time, want %+v", got, want)
	}
	for _, want := range []string{stamp(9), stamp(2), stamp(3)} {
		if got := <-since; got != want {
			t.Errorf("since = %s, want %s", got, want)
		}
	}
	stop()
	<-result
	if kept, err := store.Load(); err != nil || kept.Cursor != stamp(3) {
		t.Errorf("kept in the end: %+v, %v, want the cursor %s", kept, err, stamp(3))
	}
}

// An update that the edge closes the connection for is given up, and what waits behind
// it gets out.
func TestUpdateThatIsTooLarge(t *testing.T) {
	t.Parallel()
	e := newEdge(t,
		func(t *testing.T, ws *websocket.Conn, _ *http.Request) {
			send(t, ws, welcome(zeros, true, ""))
			for range 2 {
				receive(t, ws)
			}
			_ = ws.Close(websocket.StatusMessageTooBig, "")
		},
		func(t *testing.T, ws *websocket.Conn, _ *http.Request) {
			send(t, ws, welcome(zeros, true, ""))
			send(t, ws, accepted(receive(t, ws).ID))
			_ = stay(ws)
		})
	c, _, _ := run(t, client.Config{URL: e.URL})
	large := position("film", 1)
	large.Payload = json.RawMessage(`{"text":"` + strings.Repeat("x", 10_000) + `"}`)
	refused := make(chan error, 1)
	go func() { refused <- c.Submit(t.Context(), large) }()
	if err := c.Submit(t.Context(), position("another", 2)); err != nil {
		t.Errorf("Submit() = %v, want nil", err)
	}
	var bad *client.UpdateError
	if err := <-refused; !errors.As(err, &bad) || bad.Code != "too_large" {
		t.Errorf("Submit() of one that is too large = %v, want too_large", err)
	}
}

// The edge says that the token ends, and gets a fresh one on the connection. One that it
// does not take is no reason to end.
func TestTokenIsRenewed(t *testing.T) {
	t.Parallel()
	e := newEdge(t,
		func(t *testing.T, ws *websocket.Conn, r *http.Request) {
			if got := r.Header.Get("Authorization"); got != "Bearer 1" {
				t.Errorf("Authorization = %q, want the first token", got)
			}
			send(t, ws, welcome(zeros, true, ""), `{"type":"token_expiring","in_ms":30000}`)
			if _, raw, err := ws.Read(context.Background()); err != nil || string(raw) != `{"token":"2","type":"token"}` {
				t.Errorf("the device sent %s, %v, want the second token", raw, err)
			}
			_ = ws.Close(4501, "bad token")
		},
		func(t *testing.T, ws *websocket.Conn, r *http.Request) {
			if got := r.Header.Get("Authorization"); got != "Bearer 3" {
				t.Errorf("Authorization = %q, want the third token", got)
			}
			send(t, ws, welcome(zeros, true, ""), caughtUp(1))
			_ = stay(ws)
		})
	var n atomic.Int32
	back := make(chan struct{}, 1)
	run(t, client.Config{URL: e.URL,
		Token:     func(context.Context) (string, error) { return string('0' + rune(n.Add(1))), nil },
		OnResumed: func(client.Resumed) { back <- struct{}{} }})
	select {
	case <-back:
	case <-time.After(30 * time.Second):
		t.Error("the device does not come back")
	}
}

// What stands before the edge, and answers 404 while that is replaced, ends nothing.
func TestRefusalOfAProxyIsNotTheEdges(t *testing.T) {
	t.Parallel()
	var n atomic.Int32
	good := newEdge(t, func(t *testing.T, ws *websocket.Conn, _ *http.Request) {
		send(t, ws, welcome(zeros, true, ""), caughtUp(1))
		_ = stay(ws)
	})
	e := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) < 3 {
			http.NotFound(w, r)
			return
		}
		good.Config.Handler.ServeHTTP(w, r)
	}))
	t.Cleanup(e.Close)
	back := make(chan struct{}, 1)
	run(t, client.Config{URL: e.URL, OnResumed: func(client.Resumed) { back <- struct{}{} }})
	<-back
}
