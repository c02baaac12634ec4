package bridge

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"reprise/bridge/pubnubtest"
)

// TestRelayTable publishes every case of the table to the emulator and finds
// each in the log, among the dead letters, among the announcements, or with
// the heartbeats: in order, once, and with the bytes that the table says.
func TestRelayTable(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, pubnubtest.Config{})
	announced := r.followAnnouncements()
	r.follow()
	stop := r.start()
	var frames, announcements, reasons, beats []string
	for _, c := range bodyCases(t) {
		reaches := c.channel == broadcastChannel || strings.HasPrefix(c.channel, "user.") && strings.Count(c.channel, ".") < 3
		if c.ids != "" || !reaches || !json.Valid([]byte(c.payload)) {
			continue // opaque ids need another bridge; what is not JSON cannot come from PubNub
		}
		r.pubnub.Publish(c.channel, []byte(c.payload), pubnubtest.From("publisher-7"))
		switch {
		case c.reason != "":
			reasons = append(reasons, c.reason+" "+clean(c.channel)+" "+c.payload)
		case c.heartbeat != "":
			beats = append(beats, c.heartbeat)
		case c.channel == broadcastChannel:
			announcements = append(announcements, c.frame)
		default:
			frames = append(frames, c.frame)
		}
	}
	last := ""
	for i, rec := range r.events(len(frames)) {
		stamp := rec.Hlc.String()
		if want := strings.Replace(frames[i], noStamp, stamp, 1); string(rec.Frame) != want || stamp <= last || rec.User != testUser {
			t.Errorf("event %d = %s %s, want %s after %s", i, rec.User, rec.Frame, want, last)
		}
		last = stamp
	}
	r.noMore(testUser)
	for i, want := range announcements {
		if got := <-announced; got != want {
			t.Errorf("announcement %d = %s, want %s", i, got, want)
		}
	}
	got := make(map[string]int)
	for _, m := range r.dead(len(reasons)) {
		h := m.Headers()
		reason := h.Get("Reprise-Reason")
		got[reason+" "+h.Get("Reprise-Channel")+" "+string(m.Data())]++
		if m.Subject() != "reprise.dead."+reason || h.Get("Reprise-Publisher") != "publisher-7" || h.Get("Reprise-Timetoken") == "" ||
			h.Get("Nats-Msg-Id") != h.Get("Reprise-Channel")+":"+h.Get("Reprise-Timetoken") && !strings.Contains(h.Get("Reprise-Channel"), `\`) {
			t.Errorf("dead letter on %s with %v", m.Subject(), h)
		}
	}
	for _, want := range reasons {
		if got[want]--; got[want] < 0 {
			t.Errorf("no dead letter %.300s", want)
		}
	}
	present := func() []string {
		devices, err := r.log.Present(testContext(t), testUser)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, d := range devices {
			names = append(names, d.Device)
		}
		return names
	}
	want := slices.Compact(slices.Sorted(slices.Values(beats)))
	for ctx := testContext(t); !slices.Equal(present(), want); {
		if ctx.Err() != nil {
			t.Fatalf("Present() = %v, want %v", present(), want)
		}
	}
	stop()
	s := r.b.Stats()
	if s.Stored != uint64(len(frames)+1) || s.Dead != uint64(len(reasons)) || s.Announcements != uint64(len(announcements)) || s.Heartbeats != uint64(len(beats)) {
		t.Errorf("Stats() = %+v, want %d stored, %d dead, %d announcements, %d heartbeats", s, len(frames)+1, len(reasons), len(announcements), len(beats))
	}
}

// TestHeaders looks at a stored event's headers.
func TestHeaders(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, pubnubtest.Config{})
	r.follow()
	r.start()
	tt := r.pubnub.Publish("user."+testUser+".devices", []byte(`{"type":"device_command","target_device_id":"`+testDevice+
		`","command":{"command_type":"pause"},"timestamp":5,"device_id":"tv-1","expires_at":99}`))
	r.events(1)
	c, err := r.jetStream().OrderedConsumer(testContext(t), "REPRISE_EVENTS_0", jetstream.OrderedConsumerConfig{FilterSubjects: []string{"reprise.ev.0." + testUser}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Next(jetstream.FetchMaxWait(patience))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"Nats-Msg-Id": "user." + testUser + ".devices:" + formatTT(tt), "Reprise-Timetoken": formatTT(tt), "Reprise-Device": "tv-1", "Reprise-Expires": "99",
		"traceparent": "", "tracestate": "",
	} {
		if got := m.Headers().Get(name); got != want {
			t.Errorf("header %s = %q, want %q", name, got, want)
		}
	}
}
