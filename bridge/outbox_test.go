package bridge

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"reprise/bridge/pubnubtest"
	"reprise/stream"
)

// updates are what devices send up; update n of a device carries that number.
func update(user, device string, n int) stream.Update {
	return stream.Update{
		ID: fmt.Sprintf("%08x-0000-4000-8000-000000000000", n), User: user, Device: device, Channel: "user." + user + ".sync",
		Body: fmt.Appendf(nil, `{"type":"progress_update","content_id":%q,"position_seconds":%d,"timestamp":"1795437339530","device_id":%q}`, testContent, n, device),
	}
}

// submit stores updates in the outbox.
func (r *rig) submit(all ...stream.Update) {
	r.t.Helper()
	for _, u := range all {
		if err := r.log.Submit(testContext(r.t), u); err != nil {
			r.t.Fatalf("Submit(%s) = %v", u.ID, err)
		}
	}
}

// positions are the numbers in progress updates.
func positions(t *testing.T, records []stream.Record) []int {
	t.Helper()
	var all []int
	for _, rec := range records {
		var frame struct{ Position int }
		if err := json.Unmarshal(rec.Frame, &frame); err != nil {
			t.Fatal(err)
		}
		all = append(all, frame.Position)
	}
	return all
}

// emptied waits until nothing is left in the outbox.
func (r *rig) emptied() {
	r.t.Helper()
	ctx := testContext(r.t)
	if !until(patience, func() bool {
		n, err := r.log.OutboxDepth(ctx)
		if err != nil {
			r.t.Fatalf("OutboxDepth() = %v", err)
		}
		return n == 0
	}) {
		r.t.Fatal("the outbox is not empty")
	}
}

// outboxRig is a rig whose bridge may publish.
func outboxRig(t *testing.T, shards int) *rig {
	t.Helper()
	r := newRig(t, shards, pubnubtest.Config{})
	r.cfg.PublishKey = "demo"
	return r
}

// TestOutboxOrder publishes what several devices sent, through faults of every
// kind at the publish endpoint: each device's updates come back once, in order,
// under their own ids.
func TestOutboxOrder(t *testing.T) {
	t.Parallel()
	r := outboxRig(t, 2)
	r.follow()
	r.start()
	for _, f := range []pubnubtest.Fault{
		{Kind: pubnubtest.Hangup}, {Kind: pubnubtest.Hangup, AfterWork: true}, {Kind: pubnubtest.Reset, AfterWork: true},
		{Kind: pubnubtest.Status, Status: 500, AfterWork: true}, {Kind: pubnubtest.Status, Status: 503}, {Kind: pubnubtest.CutJSON},
	} {
		f.Endpoint, f.Probability = pubnubtest.Publish, 0.04
		r.pubnub.Inject(f)
	}
	const users, each = 4, 50
	for n := range each {
		for u := range users {
			r.submit(update(userN(u), testDevice, n))
		}
	}
	byUser := make(map[string][]stream.Record)
	for _, rec := range r.events(users * each) {
		byUser[rec.User] = append(byUser[rec.User], rec)
	}
	for user, records := range byUser {
		for n, at := range positions(t, records) {
			if want := "out:" + user + ":" + testDevice + ":" + update(user, testDevice, n).ID; at != n || records[n].ID != want {
				t.Errorf("user %s: event %d is update %d under %s, want %s", user, n, at, records[n].ID, want)
			}
		}
	}
	r.pubnub.ClearFaults()
	r.emptied()
	r.noMore(userN(0))
}

// TestOutboxWhilePubNubIsDown accepts updates while PubNub cannot be reached.
func TestOutboxWhilePubNubIsDown(t *testing.T) {
	t.Parallel()
	r := outboxRig(t, 1)
	r.follow()
	r.start()
	r.submit(update(userN(0), testDevice, 0))
	all := r.events(1)
	r.pubnub.Stop()
	for n := 1; n < 20; n++ {
		r.submit(update(userN(0), testDevice, n))
	}
	if err := r.logged.wait(testContext(t), "poll failed", 1); err != nil {
		t.Fatal(err)
	}
	if err := r.pubnub.Restart(); err != nil {
		t.Fatal(err)
	}
	if got := positions(t, append(all, r.events(19)...)); fmt.Sprint(got) != "[0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19]" {
		t.Errorf("updates %v, want 0 to 19", got)
	}
	r.emptied()
	r.noMore(userN(0))
}

// TestOutboxIDIsRemembered sends one id again: at once, after a restart of the
// bridge, and when neither window nor memory know it any more. It is stored once.
func TestOutboxIDIsRemembered(t *testing.T) {
	t.Parallel()
	r := outboxRig(t, 1)
	r.follow()
	stop := r.start()
	r.submit(update(userN(0), testDevice, 1))
	r.events(1)
	for round := range 3 {
		stop()
		// A new outbox has no memory of its own.
		if err := r.jetStream().DeleteStream(testContext(t), "REPRISE_OUTBOX"); err != nil {
			t.Fatal(err)
		}
		other, err := stream.Open(testContext(t), stream.Config{URL: r.log.ClientURL(), Node: "other"})
		if err != nil {
			t.Fatal(err)
		}
		other.Close()
		stop = r.start()
		r.submit(update(userN(0), testDevice, 1))
		r.emptied()
		if s := r.b.Stats(); s.Published != 0 {
			t.Errorf("round %d: Stats() = %+v, want nothing published", round, s)
		}
	}
	r.noMore(userN(0))
}

// TestOutboxPoison has PubNub refuse one update for good: it becomes a dead
// letter, and what is behind it goes on. A command that has expired is dropped.
func TestOutboxPoison(t *testing.T) {
	t.Parallel()
	r := outboxRig(t, 1)
	r.follow()
	r.start()
	r.pubnub.Inject(pubnubtest.Fault{Kind: pubnubtest.Status, Status: 413, Endpoint: pubnubtest.Publish,
		Match: func(q pubnubtest.Request) bool { return strings.Contains(string(q.Body), `"position_seconds":7,`) }})
	expired := update(userN(0), testDevice, 8)
	expired.Expires = time.Now().Add(-time.Second).UnixMilli()
	r.submit(update(userN(0), testDevice, 6), update(userN(0), testDevice, 7), expired, update(userN(0), testDevice, 9))
	if got := positions(t, r.events(2)); fmt.Sprint(got) != "[6 9]" {
		t.Errorf("updates %v, want 6 and 9", got)
	}
	m := r.dead(1)[0]
	if id := m.Headers().Get("Nats-Msg-Id"); m.Subject() != "reprise.dead.too_large" || id != "out:"+userN(0)+":"+testDevice+":"+update(userN(0), testDevice, 7).ID {
		t.Errorf("dead letter %s on %s, want update 7 as too_large", id, m.Subject())
	}
	r.emptied()
	if s := r.b.Stats(); s.Published != 2 || s.Expired != 1 || s.Dead != 1 {
		t.Errorf("Stats() = %+v, want 2 published, 1 expired, 1 dead", s)
	}
	// The rules of the log are kept by it: a retry puts it there.
	if got, err := r.log.Ask(testContext(t), 0, []byte(`{"op":"retry_dead","seq":1}`)); err != nil || string(got) != `{"result":"stored"}` {
		t.Errorf("Ask(retry 1) = %s, %v, want stored", got, err)
	}
	if got := positions(t, r.events(1)); got[0] != 7 {
		t.Errorf("retried update %d, want 7", got[0])
	}
}

// TestOutboxForbidden has PubNub refuse many users' channels for now: the others
// are carried all the while, and the refused ones as soon as they are let in.
func TestOutboxForbidden(t *testing.T) {
	t.Parallel()
	r := outboxRig(t, 1)
	r.follow()
	r.start()
	refused := r.pubnub.Inject(pubnubtest.Fault{Kind: pubnubtest.Status, Status: 403, Endpoint: pubnubtest.Publish,
		Match: func(q pubnubtest.Request) bool { return !strings.Contains(q.URI, userN(99)) }})
	for u := range 2 * publishAtOnce {
		r.submit(update(userN(u), testDevice, 1))
	}
	if err := refused.WaitHits(testContext(t), 2*publishAtOnce); err != nil {
		t.Fatal(err)
	}
	r.submit(update(userN(99), testDevice, 2))
	if got := positions(t, r.events(1)); got[0] != 2 {
		t.Errorf("update %d, want that of the user who is not refused", got[0])
	}
	refused.Clear()
	r.events(2 * publishAtOnce)
	r.emptied()
	r.noMore(userN(99))
}

// TestOutboxWithoutKey leaves the outbox alone.
func TestOutboxWithoutKey(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, pubnubtest.Config{})
	r.follow()
	r.start()
	r.submit(update(userN(0), testDevice, 1))
	r.noMore(userN(0))
	if n, err := r.log.OutboxDepth(testContext(t)); n != 1 || err != nil {
		t.Errorf("OutboxDepth() = %d, %v, want 1", n, err)
	}
}

// TestOwnID takes ids of our form and of the channel's user only.
func TestOwnID(t *testing.T) {
	t.Parallel()
	const other = "99999999-0000-4000-8000-000000000000"
	good := updateID(testUser, testDevice, other)
	for _, c := range []struct {
		name, meta, want string
	}{
		{"ours", string(updateMeta(good)), good},
		{"as text", `"{\"reprise_id\":\"` + good + `\"}"`, good},
		{"beside others", ` {"x":1,"reprise_id":"` + good + `","traceparent":"y"}`, good},
		{"none", ``, ""},
		{"null", `null`, ""},
		{"another user's", string(updateMeta(updateID(other, testDevice, other))), ""},
		{"no UUID", string(updateMeta(updateID(testUser, testDevice, strings.Repeat("x", 36)))), ""},
		{"too long", string(updateMeta(good + "0")), ""},
		{"not JSON", `{"reprise_id":"` + good, ""},
		{"a number", `{"reprise_id":5}`, ""},
	} {
		if got := ownID(testUser, []byte(c.meta)); got != c.want {
			t.Errorf("%s: ownID(%s) = %q, want %q", c.name, c.meta, got, c.want)
		}
	}
}
