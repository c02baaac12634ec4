package e2e

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// TestResume cuts a device, publishes what it misses and lets it come back with
// its cursor: it gets exactly that, and then what is published live. With one
// shard and with eight.
func TestResume(t *testing.T) {
	t.Parallel()
	for _, shards := range []string{"1", "8"} {
		t.Run(shards+" shards", func(t *testing.T) {
			t.Parallel()
			pubnub := emulator(t)
			run := newRun(t, serve(t, pubnub.Addr(), "--stream-shards", shards))
			for i, missed := range []int{0, 1, 20, 5_000} {
				user := userNo(i)
				p := run.publisher(pubnub.Addr())
				d := run.device(user, deviceNo(1))
				c := d.connect("latest")
				c.caughtUp()
				p.publish(notice(user, "before the cut"))
				c.await("the event before the cut", notice(user, "before the cut").arrived())
				c.cut()

				publishMany(run, pubnub.Addr(), user, missed)
				run.awaitLog(user, 1+missed)
				back := d.connect("cursor")
				if got := back.caughtUp().Replayed; got != missed {
					t.Errorf("resume after %d missed events: replayed = %d, want %d", missed, got, missed)
				}
				p.publish(notice(user, "live again"))
				back.await("a live event", notice(user, "live again").arrived())
				if w := back.first("welcome"); !w.Resume.Complete {
					t.Errorf("resume after %d missed events: %+v, want complete", missed, w.Resume)
				}
			}
			run.judge(pubnub.Addr())
		})
	}
}

// publishMany publishes n positions of user from four publishers at once.
func publishMany(r *run, origin, user string, n int) {
	const publishers = 4
	parallel(publishers, func(i int) {
		p := r.publisher(origin)
		for k := i; k < n; k += publishers {
			p.publish(progress(user, deviceNo(9), k))
		}
	})
}

// TestPublishingDuringAResume publishes hundreds of events a second while devices come
// back to thousands of missed events, from every kind of cursor. Not at full speed:
// with the race detector a publisher is as fast as a replay, which then chases it.
func TestPublishingDuringAResume(t *testing.T) {
	t.Parallel()
	pubnub := emulator(t)
	run := newRun(t, serve(t, pubnub.Addr()))
	user := userNo(1)
	away := run.device(user, deviceNo(1))
	c := away.connect("latest")
	c.caughtUp()
	c.cut()
	const missed = 3_000
	publishMany(run, pubnub.Addr(), user, missed)
	run.awaitLog(user, missed)

	var stop atomic.Bool
	published := make(chan struct{})
	go func() {
		defer close(published)
		p := run.publisher(pubnub.Addr())
		for n := missed; !stop.Load(); n++ {
			p.publish(progress(user, deviceNo(9), n))
			time.Sleep(2 * time.Millisecond)
		}
	}()
	defer func() { stop.Store(true); <-published }() // whatever fails, nobody publishes on
	for round := range 5 {
		back := away.connect("cursor")
		for i, since := range []string{"earliest", "latest"} {
			run.device(user, deviceNo(10+2*round+i)).connect(since)
		}
		back.caughtUp()
		back.await("live events", ofType("progress_update", back.caughtUp().Replayed+10))
		back.cut()
	}
	stop.Store(true)
	<-published
	away.connect("cursor")
	run.judge(pubnub.Addr())
}

// TestCursorKeptByTheServer leaves out since: the device goes on from what it
// has acknowledged, and another one that never did from now.
func TestCursorKeptByTheServer(t *testing.T) {
	t.Parallel()
	pubnub := emulator(t)
	relay := serve(t, pubnub.Addr())
	run := newRun(t, relay)
	user := userNo(1)
	p := run.publisher(pubnub.Addr())
	d := run.device(user, deviceNo(1))
	c := d.connect("")
	c.caughtUp()
	var stamps []string
	for i := range 6 {
		m := notice(user, fmt.Sprint("n", i))
		p.publish(m)
		c.await("a notification", m.arrived())
		stamps = append(stamps, last(c.frames()).Hlc)
	}
	c.send(`{"type":"ack","hlc":"` + stamps[2] + `"}`)
	c.send(`{"type":"ack","hlc":"` + stamps[1] + `"}`) // stale, ignored
	c.send(`{"type":"ping"}`)
	c.await("a pong", ofType("pong", 1))
	c.cut()
	back := func() facts {
		conn := d.connect("")
		defer conn.cut()
		conn.caughtUp()
		return conn.first("welcome")
	}
	relay.await("the acknowledged cursor", func() bool { return back().Resume.Since == stamps[2] })
	if got := d.connect("").caughtUp().Replayed; got != 3 {
		t.Errorf("resume without since, 3 of 6 acknowledged: replayed = %d, want 3", got)
	}
	if got := run.device(user, deviceNo(2)).connect("").caughtUp().Replayed; got != 0 {
		t.Errorf("first connection without since: replayed = %d, want 0", got)
	}
	run.judge(pubnub.Addr())
}

// last is the newest frame.
func last(frames []Frame) facts {
	f, _ := parseFrame(frames[len(frames)-1].Text) // what is no frame has no facts
	return f
}

// TestCursorOfTheFuture resumes from above the log's last stamp: the device is
// told, and served everything.
func TestCursorOfTheFuture(t *testing.T) {
	t.Parallel()
	pubnub := emulator(t)
	run := newRun(t, serve(t, pubnub.Addr()))
	run.excuse("future_cursor")
	user := userNo(1)
	publishMany(run, pubnub.Addr(), user, 10)
	run.awaitLog(user, 10)
	c := run.device(user, deviceNo(1)).connect("fffffffffffffffe")
	if got := c.caughtUp().Replayed; got != 10 {
		t.Errorf("resume from the future: replayed = %d, want 10", got)
	}
	if w := c.first("welcome"); w.Resume.Complete || w.Resume.Reason != "future_cursor" {
		t.Errorf("resume from the future: %+v, want incomplete for future_cursor", w.Resume)
	}
	run.judge(pubnub.Addr())
}

// TestExpiredCommandsAreNotReplayed publishes commands that have expired, that
// will and that never do, and replays them.
func TestExpiredCommandsAreNotReplayed(t *testing.T) {
	t.Parallel()
	pubnub := emulator(t)
	run := newRun(t, serve(t, pubnub.Addr()))
	user := userNo(1)
	p := run.publisher(pubnub.Addr())
	for i, expires := range []string{"1000", "4102444800000", "0", "1001"} {
		at := `,"expires_at":` + expires
		m := message{channel: "user." + user + ".devices", user: user,
			payload: fmt.Sprintf(`{"type":"device_command","target_device_id":"%s","command":{"command_type":"seek","to":%d},"timestamp":1%s}`, deviceNo(1), i, at)}
		if expires == "0" {
			at = ""
		}
		m.frame = fmt.Sprintf(`{"type":"device_command","hlc":"%s","command":"seek","target_device":"%s","payload":{"to":%d}%s,"timestamp":"1"}`, noStamp, deviceNo(1), i, at)
		p.publish(m)
	}
	run.awaitLog(user, 4)
	if got := run.device(user, deviceNo(1)).connect("earliest").caughtUp().Replayed; got != 2 {
		t.Errorf("replay of 4 commands, 2 of them expired: replayed = %d, want 2", got)
	}
	run.judge(pubnub.Addr())
}
