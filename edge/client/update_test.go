package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	"reprise/edge/client"
	"reprise/hlc"
)

// receive is the next update that a device sends.
func receive(t *testing.T, ws *websocket.Conn) (u client.Update) {
	t.Helper()
	for {
		_, raw, err := ws.Read(context.Background())
		if err != nil {
			t.Errorf("Read() error = %v, want an update", err)
			return u
		}
		if strings.HasPrefix(string(raw), `{"type":"ack"`) {
			continue
		}
		if err := json.Unmarshal(raw, &u); err != nil {
			t.Errorf("the device sent %s: %v", raw, err)
		}
		return u
	}
}

func accepted(id string) string { return fmt.Sprintf(`{"type":"accepted","id":%q}`, id) }

func refused(id, code string, temporary bool) string {
	return fmt.Sprintf(`{"type":"error","id":%q,"code":%q,"message":"no","temporary":%v}`, id, code, temporary)
}

func position(content string, seconds uint32) client.Update {
	return client.Update{Type: "progress_update", ContentID: content, PositionSeconds: &seconds}
}

func TestSubmitIsRepeatedUntilItIsAnswered(t *testing.T) {
	t.Parallel()
	got := make(chan client.Update, 3)
	e := newEdge(t,
		func(t *testing.T, ws *websocket.Conn, _ *http.Request) {
			send(t, ws, welcome(zeros, true, ""))
			got <- receive(t, ws) // and it is cut without an answer
		},
		func(t *testing.T, ws *websocket.Conn, _ *http.Request) {
			send(t, ws, welcome(zeros, true, ""), caughtUp(1))
			u := receive(t, ws)
			got <- u
			send(t, ws, refused(u.ID, "outbox_full", true)) // for the moment
			u = receive(t, ws)
			got <- u
			send(t, ws, accepted(u.ID))
			_ = stay(ws)
		})
	c, _, _ := run(t, client.Config{URL: e.URL})
	if err := c.Submit(t.Context(), position("film", 7)); err != nil {
		t.Fatalf("Submit() = %v, want nil", err)
	}
	first := <-got
	if first.ID == "" || first.Timestamp == "" || *first.PositionSeconds != 7 {
		t.Errorf("the device sent %+v, want an id, a timestamp and what was submitted", first)
	}
	for range 2 {
		if again := <-got; !reflect.DeepEqual(again, first) {
			t.Errorf("the device sent %+v again, want %+v", again, first)
		}
	}
	if left := c.Pending(); len(left) > 0 {
		t.Errorf("Pending() = %v after everything was accepted", left)
	}
}

func TestSubmitRefused(t *testing.T) {
	t.Parallel()
	e := newEdge(t, func(t *testing.T, ws *websocket.Conn, _ *http.Request) {
		send(t, ws, welcome(zeros, true, ""))
		send(t, ws, refused(receive(t, ws).ID, "bad_field", false))
		_ = stay(ws)
	})
	c, _, _ := run(t, client.Config{URL: e.URL})
	var refusal *client.UpdateError
	if err := c.Submit(t.Context(), position("film", 7)); !errors.As(err, &refusal) || refusal.Code != "bad_field" || refusal.Update.ContentID != "film" {
		t.Errorf("Submit() = %v, want the edge's refusal", err)
	}
}

func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	c, err := client.New(client.Config{User: user, Device: device, QueueLimit: 2})
	if err != nil {
		t.Fatal(err)
	}
	at := func(n uint32) context.Context {
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // it stays in the queue
		return ctx
	}
	if err := c.Submit(at(1), position("one", 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("Submit() = %v, want canceled", err)
	}
	c.Submit(at(2), position("two", 2))
	if err := c.Submit(at(3), position("three", 3)); !errors.Is(err, client.ErrQueueFull) {
		t.Errorf("Submit() = %v, want %v", err, client.ErrQueueFull)
	}
	c.Submit(at(4), position("one", 4)) // in the place of the first
	var got []string
	for _, u := range c.Pending() {
		got = append(got, fmt.Sprint(u.ContentID, *u.PositionSeconds))
	}
	if want := []string{"two2", "one4"}; !reflect.DeepEqual(got, want) {
		t.Errorf("Pending() = %v, want %v", got, want)
	}
	if err := c.Submit(t.Context(), client.Update{Type: "device_command", Payload: []byte(`{`)}); err == nil {
		t.Error("Submit() took a payload that is no JSON")
	}
}

// TestStore has a device end with an update that nobody answered, and another process
// go on.
func TestStore(t *testing.T) {
	t.Parallel()
	store := client.FileStore(filepath.Join(t.TempDir(), "device.json"))
	sent := make(chan client.Update, 2)
	since := make(chan string, 2)
	e := newEdge(t, func(t *testing.T, ws *websocket.Conn, r *http.Request) {
		since <- r.URL.Query().Get("since")
		send(t, ws, welcome(zeros, true, ""), event(1), event(2), caughtUp(3))
		sent <- receive(t, ws)
		_ = stay(ws)
	})
	on, frames := seen()
	c, stop, ended := run(t, client.Config{URL: e.URL, Store: store, Since: "earliest", OnFrame: on})
	take(t, frames, 3)
	ctx, cancel := context.WithCancel(t.Context())
	submitted := make(chan error, 1)
	go func() { submitted <- c.Submit(ctx, position("film", 7)) }()
	first := <-sent
	cancel()
	<-submitted
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	_, stop, ended = run(t, client.Config{URL: e.URL, Store: store, Since: "earliest"})
	if again := <-sent; !reflect.DeepEqual(again, first) {
		t.Errorf("the next process sent %+v, want %+v", again, first)
	}
	if got := [2]string{<-since, <-since}; got != [2]string{"earliest", stamp(3)} {
		t.Errorf("the processes began at %v, want earliest and %s", got, stamp(3))
	}
	stop()
	<-ended
}

func TestStoreThatCannotBeRead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "device.json")
	if err := os.WriteFile(path, []byte(`{"cursor":`), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.Config{User: user, Device: device, Store: client.FileStore(path)})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "store") {
		t.Errorf("Run() = %v, want an error of the store", err)
	}
}

// TestSnapshotTakesThePlaceOfTheCursor has an edge send a snapshot that is older than the
// device, of whose log the end was lost.
func TestSnapshotTakesThePlaceOfTheCursor(t *testing.T) {
	t.Parallel()
	e := newEdge(t, func(t *testing.T, ws *websocket.Conn, r *http.Request) {
		if q := r.URL.Query(); q.Get("snapshot") != "1" || q.Get("echo") != "1" {
			t.Errorf("asked for %s, want a snapshot and what the device did itself since", r.URL)
		}
		send(t, ws, welcome(stamp(9), false, "store_reset"),
			fmt.Sprintf(`{"type":"snapshot","hlc":%q,"watchlist":[],"progress":[]}`, stamp(4)), event(5), caughtUp(6))
		_ = stay(ws)
	})
	on, frames := seen()
	resumed := make(chan client.Resumed, 1)
	c, _, _ := run(t, client.Config{URL: e.URL, Since: stamp(9), Snapshot: true, OnFrame: on, OnResumed: func(r client.Resumed) { resumed <- r }})
	take(t, frames, 1)
	if r := <-resumed; r.Complete || r.Reason != "store_reset" || r.Since.String() != stamp(9) {
		t.Errorf("OnResumed(%+v), want not complete since %s", r, stamp(9))
	}
	if got := c.Since(); got != stamp(6) {
		t.Errorf("Since() = %s, want %s", got, stamp(6))
	}
}

// Who waits when Run ends is told, who comes later as well, and what waited is kept.
func TestSubmitEndsWithRun(t *testing.T) {
	t.Parallel()
	e := newEdge(t, func(t *testing.T, ws *websocket.Conn, _ *http.Request) {
		send(t, ws, welcome(zeros, true, ""))
		receive(t, ws)
		_ = ws.Close(4509, "")
	})
	store := client.FileStore(filepath.Join(t.TempDir(), "device.json"))
	c, _, _ := run(t, client.Config{URL: e.URL, Store: store})
	for range 2 {
		if err := c.Submit(t.Context(), position("film", 7)); !errors.Is(err, client.ErrEnded) {
			t.Errorf("Submit() = %v, want ErrEnded", err)
		}
	}
	for {
		kept, err := store.Load()
		if err != nil {
			t.Fatal(err)
		}
		if len(kept.Updates) == 1 {
			break
		}
		time.Sleep(time.Millisecond)
	}
}

// What a device makes after what it has seen is newer: after a snapshot, and in the next
// process after the cursor and the updates that were kept.
func TestUpdatesAreNewerThanWhatWasSeen(t *testing.T) {
	t.Parallel()
	ahead := func(d time.Duration) string { return hlc.New(time.Now().Add(d).UnixMilli(), 0).String() }
	kept := position("film", 7)
	kept.ID, kept.Timestamp = uuid.NewString(), ahead(40*time.Second)
	for _, tt := range []struct {
		name   string
		store  client.Store
		frames []string
		least  string
	}{
		{"a snapshot's stamp", nil, []string{snapshot(ahead(20*time.Second), "1")}, ahead(20 * time.Second)},
		{"a snapshot's position", nil, []string{snapshot(stamp(1), ahead(30*time.Second))}, ahead(30 * time.Second)},
		{"a kept cursor", &inMemory{kept: client.Kept{Cursor: ahead(20 * time.Second)}}, nil, ahead(20 * time.Second)},
		{"a kept update", &inMemory{kept: client.Kept{Updates: []client.Update{kept}}}, nil, kept.Timestamp},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			sent := make(chan client.Update, 1)
			e := newEdge(t, func(t *testing.T, ws *websocket.Conn, _ *http.Request) {
				send(t, ws, append(append([]string{welcome(zeros, true, "")}, tt.frames...), caughtUp(1))...)
				u := receive(t, ws)
				for u.ContentID == kept.ContentID {
					send(t, ws, accepted(u.ID))
					u = receive(t, ws)
				}
				send(t, ws, accepted(u.ID))
				sent <- u
				_ = stay(ws)
			})
			resumed := make(chan struct{})
			c, _, _ := run(t, client.Config{URL: e.URL, Store: tt.store, Since: "earliest", Snapshot: true, OnResumed: func(client.Resumed) { close(resumed) }})
			<-resumed
			if err := c.Submit(t.Context(), position("another", 1)); err != nil {
				t.Fatal(err)
			}
			if u := <-sent; u.Timestamp <= tt.least {
				t.Errorf("the update's timestamp is %s, want one after %s", u.Timestamp, tt.least)
			}
		})
	}
}

func snapshot(at, timestamp string) string {
	return fmt.Sprintf(`{"type":"snapshot","hlc":%q,"watchlist":[],"progress":[{"content_id":"film","position":1,"device_id":%q,"timestamp":%q}]}`, at, device, timestamp)
}

// inMemory is a Store for one process.
type inMemory struct {
	mu   sync.Mutex
	kept client.Kept // guarded by mu
}

func (s *inMemory) Load() (client.Kept, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept, nil
}

func (s *inMemory) Save(k client.Kept) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = k
	return nil
}

// Of two positions of a content that wait the newer one stays, whichever came first.
func TestNewestPositionWaits(t *testing.T) {
	t.Parallel()
	c, err := client.New(client.Config{User: user, Device: device})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, at := range []string{"1795437339530", "1795437339550", "1795437339540"} {
		u := position("film", 1)
		u.Timestamp = at
		if err := c.Submit(ctx, u); err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if all := c.Pending(); len(all) != 1 || all[0].Timestamp != "1795437339550" {
		t.Errorf("Pending() = %+v, want the newest", all)
	}
}
