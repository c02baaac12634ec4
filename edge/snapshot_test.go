package edge

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"reprise/hlc"
	"reprise/stream"
)

// appendState appends an event of user with a frame of the protocol, the nth of a test,
// and returns its stamp.
func (r *relay) appendState(user string, n int, kind, members string) hlc.Timestamp {
	r.t.Helper()
	frame := fmt.Sprintf(`{"type":%q,"hlc":"0000000000000000",%s}`, kind, members)
	ev := stream.Event{ID: fmt.Sprintf("state:%s:%d", user, n), User: user, Frame: []byte(frame), StampAt: strings.Index(frame, "0000000000000000")}
	if err := r.writer.Append(r.t.Context(), ev); err != nil {
		r.t.Fatal(err)
	}
	if err := r.writer.Flush(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	return r.writer.Stats().Last.Hlc
}

// TestSnapshot has a user be quiet for longer than retention, and a new device come.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	l := openLog(t, stream.Config{Node: "edge-1", MaxAge: 4 * time.Second})
	w := acquireShard(t, l)
	r := serve(t, Config{TailPerUser: 1, TailLinger: time.Millisecond}, l)
	r.writer = w
	ctx, cancel := context.WithCancel(context.Background())
	var folding sync.WaitGroup
	folding.Go(func() { l.NewFolder(0).Run(ctx) })
	defer folding.Wait()
	defer cancel()

	before := r.appendState(uuidA, 0, "notification", `"data":{}`)
	r.appendState(uuidA, 1, "watchlist_update", `"content_id":"<f>","action":"add","unique_tag":"t"`)
	r.appendState(uuidA, 2, "progress_update", `"content_id":"<f>","position":7,"device_id":"tv","timestamp":"5"`)
	const state = `"watchlist":[{"content_id":"<f>","unique_tags":["t"]}],"progress":[{"content_id":"<f>","position":7,"device_id":"tv","timestamp":"5"}]}`
	r.await("the fold", func() bool {
		snap, ok, err := l.Snapshot(t.Context(), uuidA)
		return err == nil && ok && string(snap.Progress) != "[]"
	})
	devices := 0
	open := func(since, more string) (*device, heard) {
		devices++
		d := r.connect(uuidA, uuidOf('a', devices), "&since="+since+more)
		return d, d.want("welcome")
	}

	// While the log has everything a snapshot is for who begins at the beginning.
	d, hello := open("earliest", "&snapshot=1")
	snap := d.want("snapshot")
	if end := d.want("caught_up"); !hello.Resume.Complete || hello.Resume.Since != hlc.Zero.String() || end.Replayed != 0 || end.Hlc < snap.Hlc {
		t.Errorf("earliest: %s, then %s, want complete, and nothing replayed", hello.text, end.text)
	}
	if want := fmt.Sprintf(`{"type":"snapshot","hlc":%q,%s`, snap.Hlc, state); snap.text != want {
		t.Errorf("snapshot = %s, want %s", snap.text, want)
	}
	d, _ = open(before.String(), "&snapshot=1")
	d.want("watchlist_update")
	d.want("progress_update")
	d.want("caught_up")

	r.await("retention", func() bool {
		kept, err := l.Footprint(t.Context(), uuidA)
		return err == nil && kept.Events == 0
	})
	d, hello = open(before.String(), "&snapshot=0")
	if d.want("caught_up"); hello.Resume.Complete || hello.Resume.Reason != "trimmed" {
		t.Errorf("without a snapshot: %s, want trimmed", hello.text)
	}
	for _, since := range []string{before.String(), "earliest"} {
		d, hello = open(since, "&snapshot=1")
		snap = d.want("snapshot")
		if end := d.want("caught_up"); !hello.Resume.Complete || !strings.HasSuffix(snap.text, state) || end.Replayed != 0 {
			t.Errorf("since %s after retention: %s, %s, %s, want a complete snapshot", since, hello.text, snap.text, end.text)
		}
	}

	// What comes then follows it, and a cursor from behind it goes on without one.
	at := r.appendState(uuidA, 3, "notification", `"data":{"n":1}`)
	if e := d.want("notification"); e.Hlc != at.String() {
		t.Errorf("after the snapshot came %s, want the event at %s", e.text, at)
	}
	d, hello = open(snap.Hlc, "&snapshot=1")
	d.want("notification")
	if d.want("caught_up"); !hello.Resume.Complete {
		t.Errorf("a cursor that a snapshot gave: %s, want complete", hello.text)
	}
}
