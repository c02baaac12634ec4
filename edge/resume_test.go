package edge

import (
	"context"
	"sync"
	"testing"
	"time"

	"reprise/hlc"
	"reprise/stream"
)

func TestLiveToAllDevicesOfTheUserOnly(t *testing.T) {
	t.Parallel()
	r := newRelay(t, Config{Node: "edge-1"})
	a1, a2 := r.joined(uuidA, uuidOf('a', 1), ""), r.joined(uuidA, uuidOf('a', 2), "")
	echo := r.joined(uuidA, uuidOf('a', 3), "&echo=1")
	b := r.joined(uuidB, uuidOf('a', 1), "") // the same device id: another user's all the same
	for n := range 30 {
		r.publish(uuidA, uuidOf('a', 1+n%3), n)
		r.publish(uuidB, "", 1000+n)
	}
	for n := range 30 {
		for i, d := range []*device{a1, a2, echo} {
			if d != echo && n%3 == i {
				continue // its own
			}
			if h := d.want("event"); h.N != n {
				t.Fatalf("device %d got %s, want event %d", i, h.text, n)
			}
		}
		if h := b.want("event"); h.N != 1000+n {
			t.Fatalf("the other user got %s, want event %d", h.text, 1000+n)
		}
	}
}

func TestResume(t *testing.T) {
	t.Parallel()
	r := newRelay(t, Config{TailPerUser: 16})
	const total = 5200
	for n := range total {
		r.publish(uuidA, "", n)
		if n%3 == 0 {
			r.publish(uuidB, "", n)
		}
	}
	r.flush()
	first := r.connect(uuidA, uuidOf('a', 1), "&since=earliest")
	if w := first.want("welcome"); !w.Resume.Complete || w.Resume.Since != hlc.Zero.String() {
		t.Errorf("welcome = %s, want complete from zeros", w.text)
	}
	all, end := first.until("caught_up")
	wantRun(t, all, 0, total, "")
	if end.Replayed != total || end.Hlc < all[total-1].Hlc {
		t.Errorf("caught_up = %s, want %d replayed up to %s at least", end.text, total, all[total-1].Hlc)
	}
	for n, missed := range []int{0, 1, 20, 300, 5000} {
		since := all[total-1-missed].Hlc
		d := r.connect(uuidA, uuidOf('b', n), "&since="+since)
		if w := d.want("welcome"); !w.Resume.Complete || w.Resume.Since != since {
			t.Errorf("welcome = %s, want complete from %s", w.text, since)
		}
		got, end := d.until("caught_up")
		wantRun(t, got, total-missed, total, since)
		if end.Replayed != missed {
			t.Errorf("caught_up = %s, want %d replayed", end.text, missed)
		}
	}
	r.publish(uuidA, "", total)
	if h := first.want("event"); h.N != total {
		t.Errorf("live event = %s, want %d", h.text, total)
	}
}

// Publishing at full speed during a replay changes nothing: each device sees
// one rising run of events.
func TestResumeWhilePublishing(t *testing.T) {
	t.Parallel()
	r := newRelay(t, Config{TailPerUser: 64})
	const before, during, devices = 1000, 2000, 4
	for n := range before {
		r.publish(uuidA, "", n)
	}
	r.flush()
	published := make(chan error, 1)
	go func() {
		for n := before; n < before+during; n++ {
			if err := r.tryAppend(stream.Event{User: uuidA}, n); err != nil {
				published <- err
				return
			}
		}
		published <- nil
	}()
	var wg sync.WaitGroup
	for n := range devices {
		wg.Go(func() {
			d := r.connect(uuidA, uuidOf('a', n), "&since=earliest")
			if w := d.want("welcome"); !w.Resume.Complete {
				t.Errorf("welcome = %s, want complete", w.text)
			}
			events, _ := d.until("caught_up")
			for len(events) < before+during {
				events = append(events, d.want("event"))
			}
			wantRun(t, events, 0, before+during, "")
		})
	}
	wg.Wait()
	if err := <-published; err != nil {
		t.Errorf("Append() = %v, want nil", err)
	}
}

// The position that caught_up names is a valid cursor also for a user who never
// had an event, and a quiet user's cursor stays complete.
func TestCaughtUpIsACursor(t *testing.T) {
	t.Parallel()
	r := newRelay(t, Config{})
	r.publish(uuidB, "", 0)
	last := r.flush()
	d := r.connect(uuidA, uuidOf('a', 1), "&since=earliest")
	d.want("welcome")
	end := d.want("caught_up")
	if end.Hlc < last.Hlc.String() || end.Replayed != 0 {
		t.Errorf("caught_up = %s, want 0 replayed, %s at least", end.text, last.Hlc)
	}
	d.ws.CloseNow()
	for n := range 5 {
		r.publish(uuidB, "", 1+n)
	}
	r.publish(uuidA, "", 0)
	r.flush()
	back := r.connect(uuidA, uuidOf('a', 1), "&since="+end.Hlc)
	if w := back.want("welcome"); !w.Resume.Complete {
		t.Errorf("welcome = %s, want complete", w.text)
	}
	events, _ := back.until("caught_up")
	wantRun(t, events, 0, 1, end.Hlc)
}

func TestFutureCursor(t *testing.T) {
	t.Parallel()
	r := newRelay(t, Config{})
	r.publish(uuidA, "", 0)
	r.flush()
	d := r.connect(uuidA, uuidOf('a', 1), "&since="+hlc.New(time.Now().Add(time.Hour).UnixMilli(), 0).String())
	if w := d.want("welcome"); w.Resume.Complete || w.Resume.Reason != "future_cursor" {
		t.Errorf("welcome = %s, want future_cursor", w.text)
	}
	events, _ := d.until("caught_up")
	wantRun(t, events, 0, 1, "")
}

func TestGapIsToldAtTheNextWelcome(t *testing.T) {
	t.Parallel()
	r := newRelay(t, Config{})
	r.publish(uuidA, "", 0)
	before := r.flush()
	a, b := r.joined(uuidA, uuidOf('a', 1), ""), r.joined(uuidB, uuidOf('a', 1), "")
	if err := r.writer.Gap(t.Context(), stream.Gap{From: before.Hlc, To: before.Hlc + 1, User: uuidA}); err != nil {
		t.Fatal(err)
	}
	if code := a.closed(); code != codeResumeAgain {
		t.Errorf("close code = %d, want %d", code, codeResumeAgain)
	}
	r.flush()
	again := r.connect(uuidA, uuidOf('a', 1), "&since="+before.Hlc.String())
	if w := again.want("welcome"); w.Resume.Complete || w.Resume.Reason != "upstream_gap" {
		t.Errorf("welcome = %s, want upstream_gap", w.text)
	}
	r.publish(uuidB, "", 1)
	if h := b.want("event"); h.N != 1 {
		t.Errorf("the other user got %s, want event 1", h.text)
	}
}

func TestExpiredCommandsAndEchoInAReplay(t *testing.T) {
	t.Parallel()
	r := newRelay(t, Config{TailPerUser: 2})
	now := time.Now().UnixMilli()
	r.append(stream.Event{User: uuidA, Expires: now - 1000}, 0)
	r.append(stream.Event{User: uuidA, Expires: now + 3_600_000}, 1)
	r.append(stream.Event{User: uuidA, Device: uuidOf('a', 1)}, 2)
	r.append(stream.Event{User: uuidA, Device: uuidOf('a', 2)}, 3)
	r.flush()
	d := r.connect(uuidA, uuidOf('a', 1), "&since=earliest")
	d.want("welcome")
	events, end := d.until("caught_up")
	if len(events) != 2 || events[0].N != 1 || events[1].N != 3 || end.Replayed != 2 {
		t.Errorf("replay = %v, %s, want events 1 and 3", events, end.text)
	}
	e := r.connect(uuidA, uuidOf('a', 1), "&since=earliest&echo=1")
	e.want("welcome")
	if events, end := e.until("caught_up"); len(events) != 3 || end.Replayed != 3 {
		t.Errorf("replay with echo = %v, %s, want events 1, 2, 3", events, end.text)
	}
}

// Without since a device goes on where it last acknowledged: also when the
// server has been restarted since.
func TestAcknowledgedCursor(t *testing.T) {
	t.Parallel()
	r := newRelay(t, Config{})
	d := r.connect(uuidA, uuidOf('a', 1), "") // nothing kept: latest
	d.want("welcome")
	d.want("caught_up")
	var at []string
	for n := range 10 {
		r.publish(uuidA, "", n)
		at = append(at, d.want("event").Hlc)
	}
	d.send(`{"type":"ack","hlc":"` + at[6] + `"}`)
	d.send(`{"type":"ack","hlc":"` + at[3] + `"}`) // stale
	d.send(`{"type":"ack","hlc":"` + hlc.New(time.Now().Add(time.Hour).UnixMilli(), 0).String() + `"}`)
	if h := d.want("error"); h.Code != "bad_field" {
		t.Errorf("answer to an ack above what was sent = %s, want bad_field", h.text)
	}
	d.ws.CloseNow()
	resumed := func(r *relay) {
		t.Helper()
		d := r.connect(uuidA, uuidOf('a', 1), "")
		if w := d.want("welcome"); !w.Resume.Complete || w.Resume.Since != at[6] {
			t.Errorf("welcome = %s, want complete from %s", w.text, at[6])
		}
		events, _ := d.until("caught_up")
		wantRun(t, events, 7, 10, at[6])
	}
	resumed(r)
	r.stop()
	if err := <-r.ended; err != nil {
		t.Errorf("Run() = %v, want nil", err)
	}
	r.ended <- nil
	resumed(serve(t, Config{}, r.log))
}

func TestAnnouncementsAreLiveOnly(t *testing.T) {
	t.Parallel()
	r := newRelay(t, Config{})
	early := r.joined(uuidA, uuidOf('a', 1), "")
	other := r.joined(uuidB, uuidOf('a', 2), "")
	announce := func(id int, typ string) {
		if _, err := r.log.Announce(t.Context(), uuidOf('c', id), []byte(`{"type":"`+typ+`","data":{}}`)); err != nil {
			t.Fatal(err)
		}
	}
	// The following of announcements begins by itself; the first one that
	// arrives shows that it has. The last of all comes after those.
	id := 0
	r.await("the first announcement", func() bool { id++; announce(id, "announcement"); return r.announcements.next() > 0 })
	announce(id+1, "last")
	for _, d := range []*device{early, other} {
		for h := d.want("announcement"); h.Type != "last"; h = d.next() {
			if h.Type != "announcement" {
				t.Fatalf("next() = %s, want an announcement", h.text)
			}
		}
	}
	late := r.joined(uuidA, uuidOf('a', 3), "")
	r.publish(uuidA, "", 1)
	if h := late.want("event"); h.N != 1 {
		t.Errorf("late got %s, want event 1", h.text)
	}
}

// Users of all shards at once: each connection has its own shard's positions.
func TestEightShards(t *testing.T) {
	t.Parallel()
	l := openLog(t, stream.Config{Node: "edge-1", Shards: 8})
	r := serve(t, Config{TailPerUser: 4}, l)
	const users, events = 24, 40
	writers := make([]*stream.Writer, l.Shards())
	for n := range writers {
		w, err := l.Acquire(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { w.Close(context.Background()) })
		writers[n] = w
	}
	used := map[int]bool{}
	var live []*device
	for u := range users {
		live = append(live, r.joined(uuidOf('b', u), uuidOf('a', 1), ""))
		used[l.Shard(uuidOf('b', u))] = true
	}
	if len(used) < 2 {
		t.Fatalf("shards used = %v, want several", used)
	}
	for n := range events {
		for u := range users {
			r.writer = writers[l.Shard(uuidOf('b', u))]
			r.publish(uuidOf('b', u), "", 1000*u+n)
		}
	}
	for u, d := range live {
		var got []heard
		for range events {
			got = append(got, d.want("event"))
		}
		wantRun(t, got, 1000*u, 1000*u+events, "")
		back := r.connect(uuidOf('b', u), uuidOf('a', 2), "&since="+got[9].Hlc)
		if w := back.want("welcome"); !w.Resume.Complete {
			t.Errorf("welcome = %s, want complete", w.text)
		}
		missed, _ := back.until("caught_up")
		wantRun(t, missed, 1000*u+10, 1000*u+events, got[9].Hlc)
	}
}

// An ack behind the cursor with which a device came back is as stale as one
// behind its last ack.
func TestStaleAckOnNewConnection(t *testing.T) {
	t.Parallel()
	r := newRelay(t, Config{})
	phone := uuidOf('a', 1)
	for n := range 5 {
		r.publish(uuidA, "", n)
	}
	r.flush()
	ack := func(d *device, hlc string) {
		d.send(`{"type":"ack","hlc":"` + hlc + `"}`)
		d.send(`{"type":"ping"}`)
		d.want("pong")
	}
	d := r.connect(uuidA, phone, "&since=earliest")
	d.want("welcome")
	events, _ := d.until("caught_up")
	ack(d, events[4].Hlc)
	d.ws.CloseNow()
	d = r.connect(uuidA, phone, "")
	if w := d.want("welcome"); w.Resume.Since != events[4].Hlc {
		t.Fatalf("welcome = %s, want since %s", w.text, events[4].Hlc)
	}
	d.want("caught_up")
	ack(d, events[0].Hlc)
	d.ws.CloseNow()
	d = r.connect(uuidA, phone, "")
	if w := d.want("welcome"); w.Resume.Since != events[4].Hlc {
		t.Errorf("welcome after a stale ack = %s, want since %s", w.text, events[4].Hlc)
	}
}
