package edge

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"reprise/hlc"
	"reprise/stream"
)

// outbox is the first n entries of the outbox, in order, which are all of them.
func (r *relay) outbox(n int) []stream.Pending {
	r.t.Helper()
	ctx, stop := context.WithCancel(r.t.Context())
	defer stop()
	entries, ended := make(chan stream.Pending), make(chan error, 1)
	go func() {
		ended <- r.log.FollowOutbox(ctx, 0, func(p stream.Pending) {
			select {
			case entries <- p:
			case <-ctx.Done():
			}
		})
	}()
	var got []stream.Pending
	for give := time.After(patience); len(got) < n; {
		select {
		case p := <-entries:
			got = append(got, p)
		case <-give:
			r.t.Fatalf("FollowOutbox() = %d entries, want %d", len(got), n)
		}
	}
	r.wantDepth(n)
	stop()
	if err := <-ended; err != nil {
		r.t.Errorf("FollowOutbox() = %v, want nil", err)
	}
	return got
}

func (r *relay) wantDepth(n int) {
	r.t.Helper()
	if depth, err := r.log.OutboxDepth(r.t.Context()); err != nil || depth != uint64(n) {
		r.t.Errorf("OutboxDepth() = %d, %v, want %d", depth, err, n)
	}
}

func (d *device) wantAccepted(id string) {
	d.t.Helper()
	if h := d.want("accepted"); h.text != `{"type":"accepted","id":"`+id+`"}` {
		d.t.Errorf("answer = %s, want %s accepted", h.text, id)
	}
}

// wantError is an answer with the code, and whether that is said to be temporary.
func (d *device) wantError(id, code string, temporary bool) {
	d.t.Helper()
	h := d.want("error")
	if h.ID != id || h.Code != code || !strings.HasSuffix(h.text, fmt.Sprintf(`,"temporary":%v}`, temporary)) {
		d.t.Errorf("answer = %s, want the error %s for %s, temporary %v", h.text, code, id, temporary)
	}
}

func progress(id string, position int) string {
	return fmt.Sprintf(`{"type":"progress_update","id":"%s","content_id":"%s","position_seconds":%d,"timestamp":1}`, id, uuidB, position)
}

func progressBody(device string, position int) string {
	return fmt.Sprintf(`{"type":"progress_update","content_id":"%s","position_seconds":%d,"timestamp":"1","device_id":"%s"}`, uuidB, position, device)
}

// What is accepted is in the outbox, as it will be published, once for an id.
func TestAcceptedIsInTheOutbox(t *testing.T) {
	t.Parallel()
	r := newRelay(t, Config{})
	phone, tv := uuidOf('a', 1), uuidOf('a', 2)
	d, other := r.joined(uuidA, phone, ""), r.joined(uuidA, tv, "")
	later := time.Now().Add(time.Hour).UnixMilli()
	sync, devices := "user."+uuidA+".sync", "user."+uuidA+".devices"
	sent := []struct {
		members string
		want    stream.Update
	}{
		{`"type":"watchlist_update","operation":"add","content_id":"` + uuidB + `","unique_tag":"<\ud83d>","timestamp":"019a3f2c8e410003"`,
			stream.Update{Channel: sync, Body: []byte(`{"type":"watchlist_update","operation":"add","content_id":"` + uuidB + `","unique_tag":"<\ud83d>","timestamp":"019a3f2c8e410003","device_id":"` + phone + `"}`)}},
		{`"type":"progress_update","content_id":"` + uuidB + `","position_seconds":9,"duration_seconds":10,"timestamp":17`,
			stream.Update{Channel: sync, Body: []byte(`{"type":"progress_update","content_id":"` + uuidB + `","position_seconds":9,"timestamp":"17","device_id":"` + phone + `","duration_seconds":10}`)}},
		{fmt.Sprintf(`"type":"device_command","target_device_id":"%s","command_type":"seek","payload":{ "to" : 1.50 },"expires_at":%d,"timestamp":17`, tv, later),
			stream.Update{Channel: devices, Expires: later, Body: fmt.Appendf(nil, `{"type":"device_command","target_device_id":"%s","command":{"command_type":"seek","to":1.50},"timestamp":"17","device_id":"%s","expires_at":%d}`, tv, phone, later)}},
		{`"type":"device_handoff","target_device_id":"` + tv + `","content_id":"x","position_seconds":3,"timestamp":"17"`,
			stream.Update{Channel: sync, Body: []byte(`{"type":"device_handoff","target_device_id":"` + tv + `","content_id":"x","timestamp":"17","position_seconds":3,"device_id":"` + phone + `"}`)}},
	}
	for n := range sent {
		u := &sent[n].want
		u.ID, u.User, u.Device = uuidOf('c', n), uuidA, phone
		frame := `{"id":"` + u.ID + `",` + sent[n].members + `}`
		for range 2 { // a resend is accepted again, and not stored again
			d.send(frame)
			d.wantAccepted(u.ID)
			r.wantDepth(n + 1)
		}
	}
	other.send(progress(uuidOf('c', 0), 1)) // an id of its own: the scope is the device
	other.wantAccepted(uuidOf('c', 0))
	entries := r.outbox(len(sent) + 1)
	for n := range sent {
		got, want := entries[n].Update, sent[n].want
		if got.ID != want.ID || got.User != want.User || got.Device != want.Device || got.Channel != want.Channel || got.Expires != want.Expires || string(got.Body) != string(want.Body) {
			t.Errorf("outbox entry %d = %+v %s\nwant %+v %s", n, got, got.Body, want, want.Body)
		}
	}
	if got := entries[len(sent)]; got.Device != tv || string(got.Body) != progressBody(tv, 1) {
		t.Errorf("outbox entry of the other device = %s %s, want its own", got.Device, got.Body)
	}
	if got := r.Stats().Updates; len(got) != 1 || got["accepted"] != int64(2*len(sent)+1) {
		t.Errorf("Stats().Updates = %v, want %d accepted", got, 2*len(sent)+1)
	}
}

// A timestamp that is missing is the server's, above all that the device has seen.
func TestMissingTimestamp(t *testing.T) {
	t.Parallel()
	r := newRelay(t, Config{})
	d := r.joined(uuidA, uuidOf('a', 1), "")
	r.publish(uuidA, "", 1)
	last := d.want("event").Hlc
	for n := range 3 {
		d.send(`{"type":"device_handoff","id":"` + uuidOf('c', n) + `","target_device_id":"` + uuidB + `","content_id":"x"}`)
		d.wantAccepted(uuidOf('c', n))
	}
	for _, p := range r.outbox(3) {
		_, rest, _ := strings.Cut(string(p.Body), `"timestamp":"`)
		stamp, _, _ := strings.Cut(rest, `"`)
		at, err := hlc.Parse(stamp)
		if err != nil || stamp <= last || time.Since(time.UnixMilli(at.Millis())).Abs() > patience {
			t.Errorf("timestamp = %s, want a stamp of now above %s", stamp, last)
		}
		last = stamp
	}
}

// Updates that a device sends without waiting are stored and answered in its
// order, whatever others do.
func TestOrderOfADevicesUpdates(t *testing.T) {
	t.Parallel()
	r := newRelay(t, Config{})
	const devices, each = 3, messageBurst
	var ds []*device
	for n := range devices {
		ds = append(ds, r.joined(uuidA, uuidOf('a', n), ""))
	}
	for n := range each {
		for _, d := range ds {
			d.send(progress(uuidOf('c', n), n))
		}
	}
	for n := range each {
		for _, d := range ds {
			d.wantAccepted(uuidOf('c', n))
		}
	}
	next := map[string]int{}
	for _, p := range r.outbox(devices * each) {
		if want := progressBody(p.Device, next[p.Device]); string(p.Body) != want {
			t.Fatalf("outbox entry of %s = %s, want %s", p.Device, p.Body, want)
		}
		next[p.Device]++
	}
}

func TestOutboxFull(t *testing.T) {
	t.Parallel()
	r := newRelay(t, Config{})
	d, other := r.joined(uuidA, uuidOf('a', 1), ""), r.joined(uuidB, uuidOf('a', 1), "")
	stored := 0
	for ; ; stored++ {
		err := r.log.Submit(t.Context(), stream.Update{ID: uuidOf('e', stored), User: uuidA, Device: uuidB, Channel: "user." + uuidA + ".sync", Body: []byte(`{}`)})
		if errors.Is(err, stream.ErrOutboxFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	d.send(progress(uuidOf('c', 1), 1))
	d.wantError(uuidOf('c', 1), "outbox_full", true)
	other.send(progress(uuidOf('c', 1), 1))
	other.wantAccepted(uuidOf('c', 1))
	if err := r.log.Settle(t.Context(), r.outbox(stored + 1)[0]); err != nil {
		t.Fatal(err)
	}
	d.send(progress(uuidOf('c', 1), 1))
	d.wantAccepted(uuidOf('c', 1))
	r.wantDepth(stored + 1)
	if got := r.Stats().Updates; got["accepted"] != 2 || got["outbox_full"] != 1 {
		t.Errorf("Stats().Updates = %v, want 2 accepted and 1 outbox_full", got)
	}
}

// What is not accepted is answered, with the connection open, and not stored.
func TestRefusedUpdates(t *testing.T) {
	t.Parallel()
	r := newRelay(t, Config{})
	d := r.joined(uuidA, uuidOf('a', 1), "")
	id := uuidOf('c', 1)
	command := func(more string) string {
		return `{"type":"device_command","id":"` + id + `","target_device_id":"` + uuidB + `","command_type":"x","timestamp":1,` + more + `}`
	}
	for _, c := range []struct{ frame, code string }{
		{command(fmt.Sprintf(`"expires_at":%d`, time.Now().UnixMilli()-1)), "expired"},
		{command(`"payload":{"command_type":"y"}`), "bad_field"},
		{command(`"payload":{"a":` + strings.Repeat("[", 31) + strings.Repeat("]", 31) + `}`), "bad_field"},
		{command(`"payload":{"a":"` + strings.Repeat("x", maxBody-len(command(`"payload":{"a":""}`))) + `"}`), "bad_field"}, // what is published is longer
		{strings.Replace(progress(id, 1), ":1,", ":1.0,", 1), "bad_field"},
	} {
		d.send(c.frame)
		d.wantError(id, c.code, false)
	}
	r.wantDepth(0)
	if got := r.Stats(); len(got.Updates) != 1 || got.Updates["expired"] != 1 || got.BadFrames["bad_field"] != 4 {
		t.Errorf("Stats() = %v, %v, want 1 expired and 4 bad_field", got.Updates, got.BadFrames)
	}
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	r := newRelay(t, Config{ReadOnly: true})
	d := r.joined(uuidA, uuidOf('a', 1), "")
	for n, members := range []string{
		`"type":"watchlist_update","operation":"add","content_id":"` + uuidB + `","unique_tag":"t"`,
		`"type":"progress_update","content_id":"` + uuidB + `","position_seconds":1`,
		`"type":"device_command","target_device_id":"` + uuidB + `","command_type":"x"`,
		`"type":"device_handoff","target_device_id":"` + uuidB + `","content_id":"x"`,
	} {
		d.send(`{"id":"` + uuidOf('c', n) + `",` + members + `}`)
		d.wantError(uuidOf('c', n), "read_only", false)
	}
	r.wantDepth(0)
	if got := r.Stats().Updates; len(got) != 1 || got["read_only"] != 4 {
		t.Errorf("Stats().Updates = %v, want 4 read_only", got)
	}
}

// apart is a relay whose log is a link away.
func apart(t *testing.T, cfg Config) (*relay, *link) {
	t.Helper()
	server := openLog(t, stream.Config{Node: "server", Listen: "127.0.0.1:0"})
	way := newLink(t, server.ClientURL())
	l, err := stream.Open(t.Context(), stream.Config{URL: way.ln.Addr().String(), Node: "edge-1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	r := serve(t, cfg, l)
	r.writer = acquireShard(t, server)
	return r, way
}

// awaitHeld waits until the reader of the user's one connection waits for the log.
func (r *relay) awaitHeld(user string) {
	r.t.Helper()
	r.await("the reader's wait", func() bool { return time.Duration(r.connections(user)[0].wire.lastRead.Load()) == held })
}

// While an update waits for a log that does not answer, the device hears what
// there is to hear and does not count as silent; then it is told to try again.
func TestUpdateWhileTheLogIsOutOfReach(t *testing.T) {
	t.Parallel()
	r, way := apart(t, Config{PingInterval: 200 * time.Millisecond, IdleTimeout: 3 * time.Second})
	d := r.joined(uuidA, uuidOf('a', 1), "")
	way.set(true)
	begin := time.Now()
	d.send(progress(uuidOf('c', 1), 1))
	r.awaitHeld(uuidA)
	for len(d.pings) > 0 {
		<-d.pings
	}
	for range 3 { // the writer does not wait
		r.Broadcast([]byte(`{"type":"announcement","data":{}}`))
		d.want("announcement")
		select {
		case <-d.pings:
		case <-time.After(patience):
			t.Fatal("pings = none while an update waits for the log, want one every 200 ms")
		}
	}
	d.wantError(uuidOf('c', 1), "outbox_full", true)
	if took := time.Since(begin); took < submitTime {
		t.Errorf("answer after %v, want %v", took, submitTime)
	}
	way.set(false)
	for {
		d.send(progress(uuidOf('c', 1), 1))
		h := d.next()
		if h.Type == "accepted" {
			break
		}
		if h.Code != "outbox_full" {
			t.Fatalf("answer = %s, want it accepted, or outbox_full until the log is back", h.text)
		}
	}
	r.outbox(1)
	if got := r.Stats(); got.Updates["unanswered"] == 0 || got.Updates["accepted"] != 1 || len(got.ConnectionsClosed) != 0 {
		t.Errorf("Stats() = %+v, want an unanswered and an accepted update, and no connection closed", got)
	}
}

// A drain does not wait for an update that waits for the log.
func TestDrainDuringASubmit(t *testing.T) {
	t.Parallel()
	r, way := apart(t, Config{})
	d := r.joined(uuidA, uuidOf('a', 1), "")
	way.set(true)
	d.send(progress(uuidOf('c', 1), 1))
	r.awaitHeld(uuidA)
	begin := time.Now()
	if err := r.Drain(t.Context(), time.Millisecond); err != nil {
		t.Errorf("Drain() = %v, want nil", err)
	}
	if took := time.Since(begin); took > submitTime-2*time.Second {
		t.Errorf("Drain() took %v, want it not to wait for the log", took)
	}
	d.want("reconnect")
	if code := d.closed(); code != codeRestart {
		t.Errorf("close code = %d, want %d", code, codeRestart)
	}
	way.set(false)
}

// Devices that send, are cut, resend what was not accepted, and send on: in the
// end everything accepted is in the outbox once, and each device's in its order.
func TestResendsAfterCuts(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	r := newRelay(t, Config{})
	const total = 60
	device := uuidOf('a', 1)
	d := r.joined(uuidA, device, "")
	for done := 0; done < total; {
		upTo := min(total, done+1+random.IntN(10))
		for n := done; n < upTo; n++ {
			d.send(progress(uuidOf('c', n), n))
		}
		heard := random.IntN(upTo - done + 1)
		for range heard {
			d.wantAccepted(uuidOf('c', done))
			done++
		}
		if done < upTo {
			d.ws.CloseNow()
			d = r.joined(uuidA, device, "")
		}
	}
	for n, p := range r.outbox(total) {
		if p.ID != uuidOf('c', n) || string(p.Body) != progressBody(device, n) {
			t.Fatalf("outbox entry %d = %s %s, want update %d", n, p.ID, p.Body, n)
		}
	}
}
