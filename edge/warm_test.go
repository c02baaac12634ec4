package edge

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"reprise/stream"
)

// An edge that begins has the recent log in its tails: who comes back then is
// not read for from the log, user by user.
func TestWarm(t *testing.T) {
	t.Parallel()
	l := openLog(t, stream.Config{Node: "edge-1"})
	r := &relay{t: t, writer: acquireShard(t, l)}
	const events = 40
	for n := range events {
		r.publish(uuidA, "", n)
		r.publish(uuidB, "", 1000+n)
	}
	if err := r.writer.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	all, err := l.Read(t.Context(), uuidA, stream.Position{}, r.writer.Stats().Last)
	if err != nil || len(all.Records) != events {
		t.Fatalf("Read() = %d events, %v, want %d", len(all.Records), err, events)
	}
	since := all.Records[events/2-1].Hlc.String()

	writer := r.writer
	r = serve(t, Config{Warm: time.Hour}, l)
	r.writer = writer
	for range cap(r.recent) {
		r.recent <- struct{}{} // whoever reads from the log waits for ever
	}
	d := r.connect(uuidA, uuidOf('a', 1), "&since="+since)
	if w := d.want("welcome"); !w.Resume.Complete {
		t.Errorf("welcome = %s, want complete", w.text)
	}
	got, _ := d.until("caught_up")
	wantRun(t, got, events/2, events, since)
	quiet := r.connect("00000000-0000-4000-8000-00000000000c", uuidOf('a', 1), "&since="+since)
	if w := quiet.want("welcome"); !w.Resume.Complete {
		t.Errorf("welcome of a user without events = %s, want complete", w.text)
	}
	quiet.want("caught_up")
	r.publish(uuidA, "", events)
	if h := d.want("event"); h.N != events {
		t.Errorf("live event = %s, want %d", h.text, events)
	}
}

// Whoever comes, goes and is swept away, while tails are warmed and after: a
// user's tail has every event after its floor.
func TestFloorOfNewTails(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var now time.Duration
		sh := &shard{limit: 3, budget: &budget{limit: 1 << 10}, linger: 2, elapsed: func() time.Duration { return now }, users: map[string]*tail{}}
		user := func() string { return fmt.Sprint("user", rapid.IntRange(0, 4).Draw(rt, "user")) }
		log, begin := map[string][]int{}, rapid.IntRange(0, 5).Draw(rt, "begin")
		seated := map[string][]*tail{}
		seq := begin
		sh.handle(&stream.Record{Kind: stream.KindStart, Position: at(begin), Warm: true})
		rt.Repeat(map[string]func(*rapid.T){
			"event": func(rt *rapid.T) {
				seq++
				u := user()
				log[u] = append(log[u], seq)
				sh.handle(&stream.Record{Kind: stream.KindEvent, User: u, Position: at(seq), Frame: make([]byte, 100)})
			},
			"current": func(rt *rapid.T) {
				sh.handle(&stream.Record{Kind: stream.KindCurrent, Position: at(seq)})
			},
			"come": func(rt *rapid.T) {
				u := user()
				tl := sh.reserve(u, "device", 100)
				seated[u] = append(seated[u], tl)
			},
			"go": func(rt *rapid.T) {
				u := user()
				if n := len(seated[u]); n > 0 {
					sh.release(seated[u][n-1])
					seated[u] = seated[u][:n-1]
				}
			},
			"sweep": func(rt *rapid.T) {
				now++
				sh.sweep()
				for u, tl := range sh.users {
					if sh.warming == 0 && tl.seats == 0 && now-tl.empty >= sh.linger {
						rt.Fatalf("%s left at %d and still has a tail at %d", u, tl.empty, now)
					}
				}
			},
			"": func(rt *rapid.T) {
				for u, tl := range sh.users {
					var want []int
					for _, n := range log[u] {
						if n > int(tl.window.floor.Seq) {
							want = append(want, n)
						}
					}
					if len(want) != tl.window.n {
						rt.Fatalf("%s has %d events after %v, want %v", u, tl.window.n, tl.window.floor, want)
					}
				}
				for u := range log {
					if sh.users[u] == nil && len(log[u]) > 0 && log[u][len(log[u])-1] > int(sh.floor.Seq) {
						rt.Fatalf("%s has no tail and an event after the floor %v", u, sh.floor)
					}
				}
			},
		})
	})
}

// Devices that read far back, as many as may read at a time, do not keep one
// waiting that was away for a moment.
func TestDeepReadsHaveALane(t *testing.T) {
	t.Parallel()
	r := newRelay(t, Config{TailPerUser: 1})
	for n := range 10 {
		r.publish(uuidA, "", n)
	}
	all := r.replayed(uuidA)
	for range cap(r.deep) {
		r.deep <- struct{}{}
	}
	deep := r.connect(uuidA, uuidOf('a', 1), "&since=earliest")
	deep.want("welcome")
	d := r.connect(uuidA, uuidOf('a', 2), "&since="+all[4].Hlc)
	d.want("welcome")
	got, _ := d.until("caught_up")
	wantRun(t, got, 5, 10, all[4].Hlc)
	for range cap(r.deep) {
		<-r.deep
	}
	got, _ = deep.until("caught_up")
	wantRun(t, got, 0, 10, "")
}

// replayed is what a device of user gets that has nothing yet.
func (r *relay) replayed(user string) []heard {
	r.t.Helper()
	r.flush()
	d := r.connect(user, uuidOf('f', 1), "&since=earliest")
	d.want("welcome")
	all, _ := d.until("caught_up")
	return all
}
