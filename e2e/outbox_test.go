package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"reprise/bridge/pubnubtest"
)

// sendUp sends the n-th position as c's device sees it, and records it as
// published by that device. It is not waited for.
func (c *conn) sendUp(n int) *Publish {
	c.run.t.Helper()
	m := progress(c.device.user, c.device.id, n)
	record := &Publish{Publisher: c.device.id, Channel: m.channel, User: m.user, Fate: Event, Frame: m.frame, Sent: time.Now().UnixNano()}
	c.run.record(record)
	c.send(progressUpdate(n))
	return record
}

// progressUpdate is the frame with which a device sends its n-th position.
func progressUpdate(n int) string {
	return fmt.Sprintf(`{"type":"progress_update","id":"%s","content_id":"%s","position_seconds":%d,"duration_seconds":7200,"timestamp":%d}`,
		updateNo(n), content, n, 1_795_437_339_530+n)
}

// command sends a command that must reach nobody, and holds mark.
func (c *conn) command(n int, mark string, expires int64) {
	c.run.t.Helper()
	c.run.record(&Publish{Publisher: c.device.id, Channel: "user." + c.device.user + ".devices", Fate: Refused, Mark: mark, Sent: time.Now().UnixNano()})
	c.send(fmt.Sprintf(`{"type":"device_command","id":"%s","target_device_id":"%s","command_type":"show","payload":{"text":"%s"},"expires_at":%d}`,
		updateNo(n), deviceNo(1), mark, expires))
}

// answered waits until the n-th update is answered on c, and returns the answer.
func (c *conn) answered(n int) string {
	c.run.t.Helper()
	answer := ""
	c.await("an answer to update "+updateNo(n), func(frames []Frame) bool {
		for _, f := range frames {
			if strings.Contains(f.Text, `"id":"`+updateNo(n)+`"`) {
				answer = f.Text
			}
		}
		return answer != ""
	})
	return answer
}

// accepted waits until the n-th update is answered, and expects accepted.
func (c *conn) accepted(n int) {
	c.run.t.Helper()
	if got, want := c.answered(n), `{"type":"accepted","id":"`+updateNo(n)+`"}`; got != want {
		c.run.t.Errorf("device %s: the answer to update %d is %s, want %s", c.device.id, n, got, want)
	}
}

// sendAll sends the positions from first on, and waits until all are accepted.
func (c *conn) sendAll(first, n int) {
	c.run.t.Helper()
	var records []*Publish
	for i := range n {
		records = append(records, c.sendUp(first+i))
	}
	for i, record := range records {
		c.accepted(first + i)
		record.Timetoken = "accepted"
	}
}

// TestOutbox sends updates from two devices while PubNub loses replies, refuses
// one of them for good, and is away for a time in which the program is killed;
// it is killed again while it works off the outbox, and the devices send again
// what has been accepted. A third device gets every update once, in the order of
// its device, and what has expired or was refused nobody gets.
func TestOutbox(t *testing.T) {
	t.Parallel()
	const each = 30
	pubnub := emulator(t)
	relay := serve(t, pubnub.Addr())
	run := newRun(t, relay)
	user := userNo(1)
	tv := run.device(user, deviceNo(1))
	seen := tv.connect("latest")
	seen.caughtUp()
	devices := []*device{run.device(user, deviceNo(2)), run.device(user, deviceNo(3))}
	var conns []*conn
	connect := func(since string) {
		conns = nil
		for _, d := range devices {
			conns = append(conns, d.connect(since))
		}
	}
	restart := func() {
		relay.proc.kill()
		relay.start()
		seen.lost()
		for _, c := range conns {
			c.lost()
		}
	}

	connect("latest")
	lost := pubnub.Inject(pubnubtest.Fault{Kind: pubnubtest.Hangup, Endpoint: pubnubtest.Publish, AfterWork: true, Nth: 5, Times: 3})
	poison := pubnub.Inject(pubnubtest.Fault{Kind: pubnubtest.Status, Status: http.StatusRequestEntityTooLarge, Endpoint: pubnubtest.Publish,
		Match: func(r pubnubtest.Request) bool { return strings.Contains(r.URI+string(r.Body), "poison") }})
	conns[0].sendAll(0, each)
	conns[0].command(900, "poison", 0)
	conns[0].accepted(900)
	conns[1].sendAll(0, each)
	conns[0].sendAll(each, each)
	seen.await("all updates", ofType("progress_update", 3*each))
	if lost.Hits() != 3 || poison.Hits() == 0 {
		t.Errorf("%d replies were lost and %d publishes refused, want 3 and some", lost.Hits(), poison.Hits())
	}
	if got := relay.metric(`reprise_dead_letters_total{reason="too_large"`); got != 1 {
		t.Errorf("dead letters that PubNub found too large = %v, want 1", got)
	}

	pubnub.Stop()
	expires := time.Now().Add(2 * time.Second)
	conns[0].command(901, "fleeting", expires.UnixMilli())
	conns[0].accepted(901)
	parallel(len(conns), func(i int) { conns[i].sendAll(1000, each) })
	restart()
	connect("cursor")
	for _, c := range conns { // they have never heard that it was accepted, say
		for i := range each {
			c.send(progressUpdate(1000 + i))
		}
		c.send(progressUpdate(each - 1)) // and this has even come back
		c.accepted(each - 1)
		c.accepted(1000 + each - 1)
	}
	conns[0].command(902, "bygone", 1000)
	if got := conns[0].answered(902); !strings.Contains(got, `"code":"expired","`) {
		t.Errorf("the answer to a command that has expired is %s, want expired", got)
	}
	<-time.After(time.Until(expires))
	requests := len(pubnub.Journal())
	if err := pubnub.Restart(); err != nil {
		t.Fatalf("Restart() = %v, want nil", err)
	}
	relay.awaitExpired(1)
	if _, err := pubnub.WaitRequest(within(t), requests, func(r pubnubtest.Request) bool { return r.Endpoint == pubnubtest.Publish }); err != nil {
		t.Fatalf("nothing is published after the outage: %v", err)
	}
	restart()

	seen = tv.connect("cursor")
	connect("cursor")
	for _, c := range conns {
		c.send(progressUpdate(1000)) // once more
		c.accepted(1000)
	}
	run.awaitLog(user, 5*each) // nothing but the outbox says when it is empty
	run.judge(pubnub.Addr())
}

// awaitExpired waits until updates have been dropped because they had expired.
func (r *relay) awaitExpired(n float64) {
	r.t.Helper()
	r.await("update that has expired", func() bool { return r.metric(`reprise_outbox_updates_total{result="expired"`) >= n })
}

// TestReadOnly has no publish key: devices are told that nothing is taken.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	pubnub := emulator(t)
	run := newRun(t, serveBare(t, pubnub.Addr(), "--auth", "none", "--pubnub-subscribe-key", "demo"))
	c := run.device(userNo(1), deviceNo(1)).connect("latest")
	c.send(progressUpdate(1))
	if got := c.answered(1); !strings.Contains(got, `"code":"read_only","`) {
		t.Errorf("the answer without a publish key is %s, want read_only", got)
	}
	run.judge(pubnub.Addr())
}
