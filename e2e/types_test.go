package e2e

import (
	"strings"
	"testing"
)

// TestRelayOfEachType publishes every kind of message and compares what two
// devices get with the protocol's frames, byte for byte.
func TestRelayOfEachType(t *testing.T) {
	t.Parallel()
	pubnub := emulator(t)
	run := newRun(t, serve(t, pubnub.Addr()))
	user, origin := userNo(1), deviceNo(9)
	sync, devices, notices := "user."+user+".sync", "user."+user+".devices", "user."+user+".notifications"
	item, target := content, deviceNo(2)

	first, second := run.device(user, deviceNo(1)).connect("latest"), run.device(user, deviceNo(2)).connect("latest")
	first.caughtUp()
	second.caughtUp()

	p := run.publisher(pubnub.Addr())
	for _, m := range []struct{ name, channel, payload, frame string }{
		{"watchlist add", sync,
			`{"type":"watchlist_update","operation":"add","content_id":"` + item + `","unique_tag":"tag 1","timestamp":1795437339530,"device_id":"` + origin + `"}`,
			`{"type":"watchlist_update","hlc":"#","content_id":"` + item + `","action":"add","unique_tag":"tag 1","device_id":"` + origin + `","timestamp":"1795437339530"}`},
		{"watchlist remove, in upper case, with a stamp of ours", sync,
			`{"type":"WATCHLIST_UPDATE","operation":"remove","content_id":"` + item + `","unique_tag":"tag 1","timestamp":"019a3f2c8e410003","device_id":"` + origin + `"}`,
			`{"type":"watchlist_update","hlc":"#","content_id":"` + item + `","action":"remove","unique_tag":"tag 1","device_id":"` + origin + `","timestamp":"019a3f2c8e410003"}`},
		{"progress", sync,
			`{"type":"progress_update","content_id":"` + item + `","position_seconds":1234,"duration_seconds":7200,"timestamp":"1795437339530","device_id":"` + origin + `","unknown":[1]}`,
			`{"type":"progress_update","hlc":"#","content_id":"` + item + `","position":1234,"duration":7200,"device_id":"` + origin + `","timestamp":"1795437339530"}`},
		{"progress without a duration, from a device with a name", sync,
			`{"type":"progress_update","content_id":"` + item + `","position_seconds":4294967295,"timestamp":7,"device_id":"tv"}`,
			`{"type":"progress_update","hlc":"#","content_id":"` + item + `","position":4294967295,"device_id":"tv","timestamp":"7"}`},
		{"handoff", sync,
			`{"type":"device_handoff","target_device_id":"` + target + `","content_id":"film-7","position_seconds":100,"timestamp":8,"device_id":"` + origin + `"}`,
			`{"type":"device_command","hlc":"#","command":"handoff:film-7","target_device":"` + target + `","payload":{"position_seconds":100},"device_id":"` + origin + `","timestamp":"8"}`},
		{"handoff without a position or an origin", sync,
			`{"type":"DEVICE_HANDOFF","target_device_id":"` + target + `","content_id":"film-7","timestamp":9}`,
			`{"type":"device_command","hlc":"#","command":"handoff:film-7","target_device":"` + target + `","timestamp":"9"}`},
		{"command", devices,
			`{"type":"device_command","target_device_id":"` + target + `","command":{"command_type":"volume","level":1.50,"deep":{"a":[1,2]}},"expires_at":4102444800000,"timestamp":10,"device_id":"` + origin + `"}`,
			`{"type":"device_command","hlc":"#","command":"volume","target_device":"` + target + `","payload":{"level":1.50,"deep":{"a":[1,2]}},"expires_at":4102444800000,"device_id":"` + origin + `","timestamp":"10"}`},
		{"command that never expires", devices,
			`{"type":"DEVICE_COMMAND","target_device_id":"` + target + `","command":{"x":9007199254740993,"command_type":"seek"},"expires_at":0,"timestamp":"11"}`,
			`{"type":"device_command","hlc":"#","command":"seek","target_device":"` + target + `","payload":{"x":9007199254740993},"timestamp":"11"}`},
		{"notification", notices,
			`{"title":"new","n":1.10,"type":"whatever","nested":{"b":1,"a":2}}`,
			`{"type":"notification","hlc":"#","data":{"title":"new","n":1.10,"type":"whatever","nested":{"b":1,"a":2}}}`},
		{"announcement", "global.announcements",
			`{"text":"maintenance at noon","at":17.0}`,
			`{"type":"announcement","data":{"text":"maintenance at noon","at":17.0}}`},
	} {
		owner := user
		if m.channel == "global.announcements" {
			owner = ""
		}
		want := message{m.channel, owner, m.payload, strings.Replace(m.frame, "#", noStamp, 1)}
		p.publish(want)
		first.await(m.name, want.arrived())
		second.await(m.name, want.arrived())
	}
	p.refused(devices, `{"type":"device_heartbeat","device_id":"heart-beat"}`, "heart-beat")
	run.judge(pubnub.Addr())
}

// TestDevicesDoNotHearThemselves lets one device publish: it hears itself only
// if it asked for that, live and in a replay.
func TestDevicesDoNotHearThemselves(t *testing.T) {
	t.Parallel()
	pubnub := emulator(t)
	run := newRun(t, serve(t, pubnub.Addr()))
	user := userNo(1)
	tv, phone := run.device(user, deviceNo(1)), run.device(user, deviceNo(2))
	loud := run.device(user, deviceNo(3))
	loud.echo = true

	p := run.publisher(pubnub.Addr())
	conns := []*conn{tv.connect("latest"), phone.connect("latest"), loud.connect("latest")}
	for _, c := range conns {
		c.caughtUp()
	}
	for i := range 30 {
		p.publish(progress(user, deviceNo(1+i%3), i))
	}
	for _, c := range conns {
		c.await("its last event", eventsOfOthers(c.device.id, 20))
		c.cut()
	}
	for _, d := range []*device{tv, phone, loud} {
		want := 20
		if d.echo {
			want = 30
		}
		if got := d.connect("earliest").caughtUp().Replayed; got != want {
			t.Errorf("device %s from the beginning: replayed = %d, want %d", d.id, got, want)
		}
	}
	run.judge(pubnub.Addr())
}

// TestUsersNeverSeeEachOther publishes to two users at once, each with devices
// of the same ids as the other's.
func TestUsersNeverSeeEachOther(t *testing.T) {
	t.Parallel()
	pubnub := emulator(t)
	run := newRun(t, serve(t, pubnub.Addr()))
	for u := range 2 {
		for d := range 2 {
			run.device(userNo(u), deviceNo(d)).connect("latest").caughtUp()
		}
	}
	parallel(4, func(i int) {
		p := run.publisher(pubnub.Addr())
		for n := range 100 {
			p.publish(progress(userNo(i%2), deviceNo(9), 1000*i+n))
		}
	})
	for u := range 2 {
		run.device(userNo(u), deviceNo(7)).connect("earliest")
	}
	run.judge(pubnub.Addr())
}
