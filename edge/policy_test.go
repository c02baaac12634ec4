package edge

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"reprise/stream"
)

// bubble runs f in fake time.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

func TestPlayedRelay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := play(t, Config{Node: "edge-1"})
		before := p.event(uuidA, "", 0)
		a, b := p.connect(uuidA, uuidOf('a', 1), ""), p.connect(uuidA, uuidOf('a', 2), "&echo=1")
		for _, d := range []*device{a, b} {
			if w := d.want("welcome"); w.Resume.Since != before.Hlc.String() || !w.Resume.Complete || w.Node != "edge-1" {
				t.Errorf("welcome = %s, want since %s and complete", w.text, before.Hlc)
			}
			if c := d.want("caught_up"); c.Hlc != before.Hlc.String() || c.Replayed != 0 {
				t.Errorf("caught_up = %s, want %s and 0", c.text, before.Hlc)
			}
		}
		stranger := p.joined(uuidB, uuidOf('a', 1), "")
		p.event(uuidA, "", 1)
		p.event(uuidA, uuidOf('a', 1), 2) // a's own
		p.event(uuidA, uuidOf('a', 2), 3) // b's own, which asked for it
		p.step(stream.Record{Kind: stream.KindEvent, User: uuidA, Expires: time.Now().UnixMilli(), Frame: []byte(`{"type":"expired"}`)})
		p.step(stream.Record{Kind: stream.KindMarker})
		p.event(uuidB, "", 4)
		for _, n := range []int{1, 3} {
			if h := a.want("event"); h.N != n {
				t.Errorf("a got event %d, want %d", h.N, n)
			}
		}
		for _, n := range []int{1, 2, 3} {
			if h := b.want("event"); h.N != n {
				t.Errorf("b got event %d, want %d", h.N, n)
			}
		}
		if h := stranger.want("event"); h.N != 4 {
			t.Errorf("the other user got event %d, want 4", h.N)
		}
		p.Broadcast([]byte(`{"type":"announcement","data":{}}`))
		for _, d := range []*device{a, b, stranger} {
			d.want("announcement")
		}
		synctest.Wait()
		if st := p.Stats(); st.ActiveConnections != 3 || st.ActiveUsers != 2 || st.MessagesRelayed != 6 || st.BroadcastLatency.Samples != 6 {
			t.Errorf("Stats() = %+v, want 3 connections, 2 users, 6 messages", st)
		}
	})
}

func TestHeartbeat(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := play(t, Config{})
		d := p.joined(uuidA, uuidOf('a', 1), "")
		begin := time.Now()
		for range 10 {
			<-d.pings // the library answers, which keeps the connection
		}
		if took := time.Since(begin); took < 270*time.Second || took > 301*time.Second {
			t.Errorf("10 pings took %v, want 30 s each", took)
		}
	})
}

func TestSilentDeviceIsClosed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := play(t, Config{})
		raw := p.raw(uuidA, uuidOf('a', 1), "")
		begin := time.Now()
		if code := raw.closeCode(); code != codeHeartbeat {
			t.Errorf("close code = %d, want %d", code, codeHeartbeat)
		}
		if took := time.Since(begin); took < 60*time.Second || took > 61*time.Second {
			t.Errorf("closed after %v, want 60 s", took)
		}
	})
}

// A device that cannot see pings keeps its connection with frames of its own.
func TestAnyByteIsASignOfLife(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := play(t, Config{})
		raw := p.raw(uuidA, uuidOf('a', 1), "")
		go func() {
			for range 10 {
				time.Sleep(45 * time.Second)
				raw.write(opText, []byte(`{"type":"device_heartbeat"}`))
			}
		}()
		begin := time.Now()
		if code := raw.closeCode(); code != codeHeartbeat {
			t.Errorf("close code = %d, want %d", code, codeHeartbeat)
		}
		if took := time.Since(begin); took < 510*time.Second || took > 511*time.Second {
			t.Errorf("closed after %v, want 450 s of heartbeats and 60 s of silence", took)
		}
	})
}

func TestQuietDeviceIsToldItsPosition(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := play(t, Config{})
		d := p.joined(uuidA, uuidOf('a', 1), "")
		begin := time.Now()
		time.Sleep(4 * time.Minute)
		p.event(uuidA, "", 1)
		d.want("event")
		time.Sleep(time.Minute)
		marker := p.step(stream.Record{Kind: stream.KindMarker})
		if h := d.want("position"); h.Hlc != marker.Hlc.String() {
			t.Errorf("position = %s, want that of the marker %s", h.text, marker.Hlc)
		}
		if took := time.Since(begin); took < 14*time.Minute || took > 14*time.Minute+time.Second {
			t.Errorf("position came after %v, want 10 minutes after the event", took)
		}
		d.want("position")
		if took := time.Since(begin); took < 24*time.Minute || took > 24*time.Minute+time.Second {
			t.Errorf("second position came after %v, want 10 minutes later", took)
		}
		d.send(`{"type":"ack","hlc":"` + marker.Hlc.String() + `"}`)
		d.send(`{"type":"ping"}`)
		d.want("pong") // and no error before it
	})
}

func TestTokenExpiry(t *testing.T) {
	bubble(t, func(t *testing.T) {
		tokens := map[string]time.Duration{"first": 5 * time.Minute, "fresh": 10 * time.Minute}
		p := play(t, Config{PositionInterval: time.Hour, Authenticate: func(token string) (Identity, error) {
			life, ok := tokens[token]
			if !ok {
				return Identity{}, errors.New("bad")
			}
			return Identity{User: uuidA, Device: "", Expires: time.Now().Add(life)}, nil
		}})
		d := p.authenticated("first", uuidOf('a', 1))
		begin := time.Now()
		if h := d.want("token_expiring"); h.InMS < 29900 || h.InMS > 30000 {
			t.Errorf("token_expiring = %s, want 30000", h.text)
		}
		if took := time.Since(begin); took < 269*time.Second || took > 271*time.Second {
			t.Errorf("token_expiring came after %v, want 270 s", took)
		}
		d.send(`{"type":"token","token":"fresh"}`)
		if d.want("token_expiring"); time.Since(begin) < 839*time.Second {
			t.Errorf("second token_expiring came after %v, want 840 s", time.Since(begin))
		}
		if code := d.closed(); code != codeTokenExpired {
			t.Errorf("close code = %d, want %d", code, codeTokenExpired)
		}
		if took := time.Since(begin); took < 869*time.Second || took > 871*time.Second {
			t.Errorf("closed after %v, want 870 s", took)
		}
	})
}

func TestBadTokenFrame(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := play(t, Config{Authenticate: func(token string) (Identity, error) {
			switch token {
			case "good":
				return Identity{User: uuidA, Device: uuidOf('a', 1), Expires: time.Time{}}, nil
			case "stranger":
				return Identity{User: uuidB, Device: "", Expires: time.Time{}}, nil
			case "other device":
				return Identity{User: uuidA, Device: uuidOf('a', 2), Expires: time.Time{}}, nil
			case "old":
				return Identity{User: uuidA, Device: "", Expires: time.Now()}, nil
			}
			return Identity{}, errors.New("bad")
		}})
		for _, token := range []string{"stranger", "other device", "old", "nonsense"} {
			d := p.authenticated("good", uuidOf('a', 1))
			d.send(`{"type":"token","token":"good"}`)
			d.send(`{"type":"token","token":"` + token + `"}`)
			if h := d.want("error"); h.Code != "bad_token" {
				t.Errorf("%s: answer = %s, want bad_token", token, h.text)
			}
			if code := d.closed(); code != codeBadToken {
				t.Errorf("%s: close code = %d, want %d", token, code, codeBadToken)
			}
		}
	})
}

func TestTooManyMessages(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := play(t, Config{ReadOnly: true})
		d := p.joined(uuidA, uuidOf('a', 1), "")
		begin := time.Now()
		update := `{"type":"device_handoff","id":"` + uuidB + `","target_device_id":"` + uuidB + `","content_id":"x"}`
		go func() {
			for d.ws.Write(context.Background(), websocket.MessageText, []byte(update)) == nil {
			}
		}()
		answers := 0
		for h := range d.frames {
			if h.Type != "error" || h.Code != "read_only" || h.ID != uuidB {
				t.Fatalf("answer = %s, want read_only", h.text)
			}
			answers++
		}
		if code := d.closed(); code != codeTooMany {
			t.Errorf("close code = %d, want %d", code, codeTooMany)
		}
		if took := time.Since(begin); took < 10*time.Second || took > 11*time.Second {
			t.Errorf("closed after %v, want 10 s", took)
		}
		if answers < 395 || answers > 405 {
			t.Errorf("answers = %d, want 200 and 20 a second for 10 s", answers)
		}
	})
}

// A flood of pings, of the protocol's kind or as messages, slows down at first and
// then ends the connection; the other device hears nothing of it.
func TestPingFlood(t *testing.T) {
	for _, flood := range []struct {
		op      byte
		payload string
	}{{opPing, "flood"}, {opPong, ""}, {opText, `{"type":"ping"}`}, {opText, `{"type":"heartbeat"}`}} {
		t.Run(fmt.Sprintf("%x%s", flood.op, flood.payload), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := play(t, Config{})
				other := p.joined(uuidA, uuidOf('a', 2), "")
				r := p.raw(uuidA, uuidOf('a', 1), "")
				begin := time.Now()
				var closed atomic.Bool
				go func() {
					frame := append(maskedHeader(final|flood.op, len(flood.payload)), flood.payload...)
					for !closed.Load() { // time would stand still
						if _, err := r.nc.Write(frame); err != nil {
							return
						}
					}
				}()
				op, payload := r.frame()
				for op != opClose {
					op, payload = r.frame()
				}
				closed.Store(true)
				if code := binary.BigEndian.Uint16(payload); code != codeTooMany {
					t.Errorf("close code = %d, want %d", code, codeTooMany)
				}
				if took := time.Since(begin); took < excessTime || took > excessTime+time.Second {
					t.Errorf("closed after %v, want %v", took, excessTime)
				}
				r.nc.Close()
				p.event(uuidA, "", 1)
				other.want("event")
			})
		})
	}
}

// A reader that waits, here for the message rate, hears nothing: that is no
// silence of the device's, but what comes after it is.
func TestWaitingReaderIsNoSilence(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := play(t, Config{ReadOnly: true, MessageRate: 0.01})
		raw := p.raw(uuidA, uuidOf('a', 1), "")
		begin := time.Now()
		answers := make(chan int, 1)
		go func() {
			n := 0
			for ; ; n++ {
				for {
					op, _, err := raw.tryFrame()
					if err != nil {
						t.Errorf("tryFrame() = %v, want %d answers", err, messageBurst+1)
					}
					if err != nil || op == opText {
						break
					}
				}
				if n == messageBurst {
					break
				}
			}
			answers <- n + 1
		}()
		for range messageBurst + 1 {
			raw.write(opText, []byte(`{"type":"device_handoff","id":"`+uuidB+`","target_device_id":"`+uuidB+`","content_id":"x"}`))
		}
		if n := <-answers; n != messageBurst+1 || time.Since(begin) < 90*time.Second {
			t.Errorf("answers = %d after %v, want %d after 100 s", n, time.Since(begin), messageBurst+1)
		}
		begin = time.Now()
		if code := raw.closeCode(); code != codeHeartbeat {
			t.Errorf("close code = %d, want %d", code, codeHeartbeat)
		}
		if took := time.Since(begin); took < 60*time.Second || took > 61*time.Second {
			t.Errorf("closed %v after the last answer, want 60 s", took)
		}
	})
}

// Acknowledging each event of a long replay is not too much.
func TestAcknowledgementsAreFree(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := play(t, Config{})
		d := p.joined(uuidA, uuidOf('a', 1), "")
		for n := range 5000 {
			at := p.event(uuidA, "", n)
			d.want("event")
			d.send(`{"type":"ack","hlc":"` + at.Hlc.String() + `"}`)
		}
		d.send(`{"type":"ping"}`)
		d.want("pong")
		if at, ok, err := p.cursors.acked(t.Context(), uuidA, uuidOf('a', 1)); !ok || err != nil || at != p.shards[0].dispatched().Hlc {
			t.Errorf("acked() = %s, %v, %v, want %s", at, ok, err, p.shards[0].dispatched().Hlc)
		}
	})
}

func TestDrainSpreadsTheCloses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := play(t, Config{})
		const devices = 50
		ends := make(chan time.Duration, devices)
		begin := time.Now()
		for n := range devices {
			d := p.joined(uuidOf('b', n), uuidOf('a', n), "")
			go func() {
				for h := range d.frames {
					if h.Type != "reconnect" || h.AfterMS < 100 || h.AfterMS > 1500 {
						t.Errorf("frame = %s, want a reconnect", h.text)
					}
				}
				<-d.ended
				if code := websocket.CloseStatus(d.err); code != codeRestart {
					t.Errorf("close code = %d, want %d", code, codeRestart)
				}
				ends <- time.Since(begin)
			}()
		}
		if err := p.Drain(t.Context(), 20*time.Second); err != nil {
			t.Errorf("Drain() = %v, want nil", err)
		}
		if took := time.Since(begin); took < 18*time.Second || took > 22*time.Second {
			t.Errorf("Drain() took %v, want 20 s", took)
		}
		early := 0
		for range devices {
			if <-ends < 10*time.Second {
				early++
			}
		}
		if early < devices/2-3 || early > devices/2+3 {
			t.Errorf("%d of %d were let go in the first half, want half", early, devices)
		}
	})
}

func TestDrainCutsWhoDoesNotAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := play(t, Config{})
		p.raw(uuidA, uuidOf('a', 1), "") // reads nothing any more
		begin := time.Now()
		if err := p.Drain(t.Context(), 0); err != nil {
			t.Errorf("Drain() = %v, want nil", err)
		}
		if took := time.Since(begin); took > 2*partingTime+time.Second/2 {
			t.Errorf("Drain() took %v, want at most %v", took, 2*partingTime)
		}
	})
}

func TestSlowDeviceIsClosed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := play(t, Config{})
		raw := p.raw(uuidA, uuidOf('a', 1), "")
		fast := p.joined(uuidA, uuidOf('a', 2), "")
		for n := range 100 {
			p.event(uuidA, "", n)
		}
		for n := range 100 {
			if h := fast.want("event"); h.N != n {
				t.Fatalf("the other device got %d, want %d", h.N, n)
			}
		}
		time.Sleep(29 * time.Second)
		if got := p.Stats().ConnectionsClosed; len(got) != 0 {
			t.Errorf("ConnectionsClosed after 29 s = %v, want none", got)
		}
		time.Sleep(time.Second + time.Millisecond)
		synctest.Wait()
		if got := p.Stats(); got.ConnectionsClosed["4002"] != 1 || got.ActiveConnections != 1 {
			t.Errorf("Stats() after 30 s = %+v, want one 4002 and the other device", got)
		}
		// It wakes up within the second: what it was being sent ends whole, and
		// then it learns why.
		if code := raw.closeCode(); code != codeSlow {
			t.Errorf("close code = %d, want %d", code, codeSlow)
		}
	})
}

// A device that takes a little now and then is slow, but alive.
func TestTricklingDeviceStays(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := play(t, Config{IdleTimeout: time.Hour})
		raw := p.raw(uuidA, uuidOf('a', 1), "")
		for n := range 100 {
			p.event(uuidA, "", n)
		}
		for range 20 {
			time.Sleep(25 * time.Second)
			raw.skip(10)
		}
		if got := p.Stats(); got.ActiveConnections != 1 {
			t.Errorf("Stats() after 500 s of trickling = %+v, want the connection", got)
		}
	})
}

func TestTailLingers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := play(t, Config{TailLinger: time.Minute})
		d := p.joined(uuidA, uuidOf('a', 1), "")
		p.event(uuidA, "", 1)
		d.want("event")
		d.ws.CloseNow()
		synctest.Wait()
		time.Sleep(50 * time.Second)
		p.event(uuidA, "", 2)
		sh := p.shards[0]
		if tl := sh.users[uuidA]; tl == nil || tl.window.n != 2 {
			t.Fatalf("tail after 50 s = %+v, want 2 events", tl)
		}
		back := p.joined(uuidA, uuidOf('a', 1), "")
		time.Sleep(2 * time.Minute)
		if sh.users[uuidA] == nil {
			t.Error("tail of a connected user = gone, want kept")
		}
		back.ws.CloseNow()
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if tl := sh.users[uuidA]; tl != nil || p.budget.used.Load() != 0 {
			t.Errorf("tail after 61 s = %+v with %d bytes, want it gone", tl, p.budget.used.Load())
		}
	})
}

// A cursor ahead of this edge's feed waits for it: caught_up comes neither
// early nor with an event twice.
func TestCursorAheadOfTheFeed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := play(t, Config{})
		r := p.openedAt(uuidA, uuidOf('a', 1), at(4))
		heard := make(chan string, 10)
		go func() {
			for op, payload, err := r.tryFrame(); err == nil; op, payload, err = r.tryFrame() {
				if op == opText {
					heard <- string(payload)
				}
			}
		}()
		p.event(uuidA, "", 2)
		p.step(stream.Record{Kind: stream.KindMarker})
		synctest.Wait()
		if n := len(heard); n != 0 {
			t.Fatalf("frames before the feed is there = %d, want none", n)
		}
		p.event(uuidB, "", 4) // what brings the feed there concerns another user
		if got, want := <-heard, string(appendCaughtUp(nil, at(4).Hlc, 0)); got != want {
			t.Errorf("frame = %s, want %s", got, want)
		}
		last := p.event(uuidA, "", 5)
		if got, want := <-heard, string(eventFrame(last.Hlc, 5)); got != want {
			t.Errorf("frame = %s, want %s", got, want)
		}
	})
}

func TestFeedTroublesCloseWhoIsConcerned(t *testing.T) {
	for _, c := range []struct {
		name    string
		record  stream.Record
		closesB bool
	}{
		{"gap of a user", stream.Record{Kind: stream.KindGap, GapUser: uuidA}, false},
		{"gap of anybody", stream.Record{Kind: stream.KindGap}, true},
		{"lost", stream.Record{Kind: stream.KindLost, Position: at(100)}, true},
		{"reset", stream.Record{Kind: stream.KindReset, Position: at(1)}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := play(t, Config{})
				a, b := p.joined(uuidA, uuidOf('a', 1), ""), p.joined(uuidB, uuidOf('a', 2), "")
				p.event(uuidA, "", 1)
				a.want("event")
				end := p.step(c.record)
				if code := a.closed(); code != codeResumeAgain {
					t.Errorf("close code = %d, want %d", code, codeResumeAgain)
				}
				if c.closesB {
					if code := b.closed(); code != codeResumeAgain {
						t.Errorf("close code of the other user = %d, want %d", code, codeResumeAgain)
					}
				}
				if got := p.shards[0].dispatched(); got != end {
					t.Errorf("dispatched() = %v, want %v", got, end)
				}
				synctest.Wait()
				want := 1
				if c.closesB {
					want = 0
				}
				if st := p.Stats(); st.ActiveConnections != want || st.ActiveUsers != int64(want) {
					t.Errorf("Stats() = %+v, want %d connection", st, want)
				}
			})
		})
	}
}
