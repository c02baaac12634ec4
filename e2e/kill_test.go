package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// TestResumeAfterKill kills the relay and its embedded log while devices are
// connected, publishes while there is no relay, starts it again on the same
// data, and lets the devices come back with their cursors. Three times over.
func TestResumeAfterKill(t *testing.T) {
	t.Parallel()
	for _, shards := range []string{"1", "8"} {
		t.Run(shards+" shards", func(t *testing.T) {
			t.Parallel()
			pubnub := emulator(t)
			relay := serve(t, pubnub.Addr(), "--stream-shards", shards)
			run := newRun(t, relay)
			var devices []*device
			var conns []*conn
			for u := range 3 {
				for n := range 2 {
					d := run.device(userNo(u), deviceNo(10*u+n))
					devices, conns = append(devices, d), append(conns, d.connect("latest"))
				}
			}
			p := run.publisher(pubnub.Addr())
			publish := func(what string) {
				for i := range 60 {
					p.publish(notice(userNo(i%3), fmt.Sprint(what, " ", i)))
				}
			}
			for kill := range 3 {
				publish(fmt.Sprint("live ", kill))
				for _, c := range conns {
					c.await("an event", ofType("notification", 1))
				}
				relay.proc.kill()
				publish(fmt.Sprint("while it is away ", kill))
				relay.start()
				for i, c := range conns {
					c.lost()
					conns[i] = devices[i].connect("cursor")
				}
				for _, c := range conns {
					c.caughtUp()
				}
			}
			run.judge(pubnub.Addr())
		})
	}
}

// TestKillWhilePublishing kills the relay again and again while several
// publishers publish as fast as they can, a burst at each start and one at each
// kill: how much there is to catch up with does not depend on the machine.
func TestKillWhilePublishing(t *testing.T) {
	t.Parallel()
	const kills, publishers, burst = 5, 4, 800
	pubnub := emulator(t)
	relay := serve(t, pubnub.Addr())
	run := newRun(t, relay)
	bursts, published := make(chan struct{}, 2*kills*burst), make(chan struct{})
	more := func() {
		for range burst {
			bursts <- struct{}{}
		}
	}
	go func() {
		defer close(published)
		parallel(publishers, func(i int) {
			p := run.publisher(pubnub.Addr())
			n := 0
			for range bursts {
				p.publish(progress(userNo(n%2), deviceNo(90+i), i*1_000_000+n))
				n++
			}
		})
	}()
	devices := []*device{run.device(userNo(0), deviceNo(1)), run.device(userNo(1), deviceNo(2))}
	for range kills {
		more()
		var conns []*conn
		for _, d := range devices {
			since := "cursor"
			if d.cursor == "" {
				since = "earliest"
			}
			conns = append(conns, d.connect(since))
		}
		for _, c := range conns {
			c.await("some events", ofType("progress_update", 200))
		}
		more()
		relay.restart()
		for _, c := range conns {
			c.lost()
		}
	}
	close(bursts)
	<-published
	for _, d := range devices {
		d.connect("cursor")
		run.device(d.user, deviceNo(7)).connect("earliest")
	}
	run.judge(pubnub.Addr())
}

// TestKillOfEverything runs PubNub in a process of its own, kills the relay, and
// in one of two cases PubNub too, which then has lost its memory.
func TestKillOfEverything(t *testing.T) {
	t.Parallel()
	for _, forgets := range []bool{false, true} {
		t.Run(fmt.Sprint("pubnub forgets ", forgets), func(t *testing.T) {
			t.Parallel()
			pubnub := launch(t, "emulator", "--emulator-listen", "127.0.0.1:0", "--log-format", "json")
			origin := pubnub.address(t, "emulator")
			relay := serve(t, origin)
			run := newRun(t, relay)
			d := run.device(userNo(1), deviceNo(1))
			c := d.connect("latest")
			c.caughtUp()
			p := run.publisher(origin)
			for i := range 30 {
				p.publish(progress(d.user, deviceNo(9), i))
			}
			c.await("30 events", ofType("progress_update", 30))
			relay.proc.kill()
			c.lost()
			for i := range 20 {
				p.publish(progress(d.user, deviceNo(9), 100+i))
			}
			if forgets {
				pubnub.kill()
				run.forget()
				run.excuse("upstream_gap")
				launch(t, "emulator", "--emulator-listen", origin, "--log-format", "json").address(t, "emulator")
				p = run.publisher(origin)
			}
			for i := range 20 {
				p.publish(progress(d.user, deviceNo(9), 200+i))
			}
			relay.start()
			back := d.connect("cursor")
			back.await("what came after", progress(d.user, deviceNo(9), 219).arrived())
			run.judge(origin)
		})
	}
}

// TestDevStory is what the program's manual tells a newcomer to do: everything
// in one process, two devices that come back by themselves, a publish from the
// command line, and a kill.
func TestDevStory(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	dev := func(addrs ...string) *process {
		return launch(t, "dev", "--data-dir", data, "--log-format", "json",
			"--listen", addrs[0], "--admin-listen", addrs[1], "--emulator-listen", addrs[2])
	}
	const free = "127.0.0.1:0"
	first := dev(free, free, free)
	devices, admin, origin := first.address(t, "devices"), first.address(t, "admin"), first.address(t, "emulator")
	relay := &relay{t: t, devices: devices, admin: admin, proc: first}
	relay.awaitPoll()
	user := userNo(1)
	tails := []*process{}
	for i := range 2 {
		tails = append(tails, launch(t, "tail", "--user", user, "--device", deviceNo(i), "--url", "ws://"+devices+"/ws",
			"--since", "earliest", "--json"))
	}
	texts := []string{}
	publish := func(text string) {
		texts = append(texts, text)
		p := launch(t, "publish", "--pubnub-origin", origin, "user."+user+".notifications", `{"text":"`+text+`"}`)
		if code := p.exit(t); code != 0 {
			t.Fatalf("reprise publish exits with %d, want 0:\n%s", code, p.said())
		}
	}
	arrived := func() {
		t.Helper()
		for _, tail := range tails {
			tail.printed(t, fmt.Sprint(len(texts), " notifications"), func(lines []string) bool {
				return fmt.Sprint(noticesIn(lines)) == fmt.Sprint(texts)
			})
		}
	}
	publish("one")
	publish("two")
	arrived()
	first.kill()
	relay.proc = dev(devices, admin, origin)
	relay.proc.address(t, "devices")
	publish("three")
	arrived()

	log := launch(t, "log", "--user", user, "--admin-url", "http://"+admin, "--json")
	if code := log.exit(t); code != 0 {
		t.Errorf("reprise log exits with %d, want 0:\n%s", code, log.said())
	}
	if got := noticesIn(log.stdout); fmt.Sprint(got) != fmt.Sprint(texts) {
		t.Errorf("reprise log prints %q, want %q", got, texts)
	}
}

// noticesIn is the texts of the notifications among lines of frames.
func noticesIn(lines []string) []string {
	texts := []string{}
	for _, line := range lines {
		var f struct {
			Type string
			Data struct{ Text string }
		}
		if strings.HasPrefix(line, "{") && json.Unmarshal([]byte(line), &f) == nil && f.Type == "notification" {
			texts = append(texts, f.Data.Text)
		}
	}
	return texts
}
