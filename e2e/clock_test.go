package e2e

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"reprise/stream"
)

// TestWallClockSetBack sets the relay's wall clock back by an hour, first while
// it runs and then over a restart, and forward again. Stamps rise all the same,
// and a cursor from before is good after.
func TestWallClockSetBack(t *testing.T) {
	t.Parallel()
	pubnub := emulator(t)
	var ahead atomic.Int64
	config := stream.Config{
		DataDir: t.TempDir(), Node: "clock",
		Wall: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
	}
	relay := &relay{t: t}
	run := newRun(t, relay)
	var p *parts
	start := func() {
		p = wire(t, config, pubnub.Addr())
		relay.devices, relay.admin = p.devices, p.admin
		if err := pubnub.WaitPolls(within(t), 1); err != nil {
			t.Fatalf("WaitPolls(1) = %v, want nil", err)
		}
	}
	start()
	user := userNo(1)
	d := run.device(user, deviceNo(1))
	c := d.connect("latest")
	c.caughtUp()
	source := run.publisher(pubnub.Addr())
	publish := func(what string) {
		for i := range 20 {
			source.publish(notice(user, fmt.Sprint(what, " ", i)))
		}
		c.await(what, notice(user, what+" 19").arrived())
	}
	publish("at first")
	for _, step := range []struct {
		name    string
		by      time.Duration
		restart bool
	}{
		{"set back while it runs", -time.Hour, false},
		{"set back over a restart", -2 * time.Hour, true},
		{"right again", 0, false},
		{"ahead over a restart", 30 * time.Second, true},
		{"back from there over a restart", 0, true},
	} {
		ahead.Store(int64(step.by))
		if step.restart {
			p.stop()
			c.lost()
			start()
			c = d.connect("cursor")
			c.caughtUp()
		}
		publish(step.name)
	}
	c.cut()
	d.connect("cursor").caughtUp()
	run.device(user, deviceNo(2)).connect("earliest").caughtUp()
	run.judge(pubnub.Addr())
}
