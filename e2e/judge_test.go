package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

const (
	alice, bob  = "aaaaaaaa-0000-4000-8000-000000000001", "bbbbbbbb-0000-4000-8000-000000000002"
	tv, phone   = "11111111-0000-4000-8000-000000000001", "22222222-0000-4000-8000-000000000002"
	bobsTablet  = "33333333-0000-4000-8000-000000000003"
	elsewhere   = "99999999-0000-4000-8000-000000000009"
	longExpired = 1_000 // milliseconds, a second before the story begins
	second      = 1_000_000_000
)

// stamp is the n-th stamp of a story.
func stamp(n int) string { return fmt.Sprintf("%016x", 0x019a3f2c8e410000+n) }

// noticeFrame is a notification that no device has caused.
func noticeFrame(hlc, text string) string {
	return `{"type":"notification","hlc":"` + hlc + `","data":{"text":"` + text + `"}}`
}

// progressFrame is a progress_update of device.
func progressFrame(hlc, device string, position int) string {
	return fmt.Sprintf(`{"type":"progress_update","hlc":"%s","content_id":"%s","position":%d,"device_id":"%s","timestamp":"1"}`,
		hlc, elsewhere, position, device)
}

func commandFrame(hlc string, expires int) string {
	return fmt.Sprintf(`{"type":"device_command","hlc":"%s","command":"pause","target_device":"%s","expires_at":%d,"timestamp":"1"}`,
		hlc, tv, expires)
}

func announcementFrame(text string) string {
	return `{"type":"announcement","data":{"text":"` + text + `"}}`
}

func welcomeFrame(user, device, since string) string {
	return fmt.Sprintf(`{"type":"welcome","connection_id":"%s","user_id":"%s","device_id":"%s","node":"n","server_time":20000,`+
		`"ping_interval_ms":30000,"idle_timeout_ms":60000,"resume":{"since":"%s","complete":true}}`, elsewhere, user, device, since)
}

func caughtUpFrame(hlc string, replayed int) string {
	return fmt.Sprintf(`{"type":"caught_up","hlc":"%s","replayed":%d}`, hlc, replayed)
}

func positionFrame(hlc string) string { return `{"type":"position","hlc":"` + hlc + `"}` }

// story returns a good history in which everything happens that the judge looks
// at. Alice's log has the stamps 1 to 6, Bob's has 7. Her phone is cut after 2
// and comes back at once; her TV is there from 1 on, and has published 4 itself.
func story() History {
	at := func(texts ...string) []Frame {
		var frames []Frame
		now := int64(20 * second)
		for _, text := range texts {
			frames = append(frames, Frame{At: now, Text: text})
			if strings.Contains(text, "caught_up") {
				now = 60 * second // what was published meanwhile comes live
			}
		}
		return frames
	}
	event := func(publisher, user, frame string, sent int64) Publish {
		return Publish{Publisher: publisher, Channel: "user." + user + ".sync", User: user, Fate: Event,
			Frame: Blank(frame), Timetoken: "17", Sent: sent * second}
	}
	n := func(i int) string { return noticeFrame(stamp(i), fmt.Sprint("n", i)) }
	fourth, fifth, bobs := progressFrame(stamp(4), tv, 40), commandFrame(stamp(5), longExpired), noticeFrame(stamp(7), "bob")
	return History{
		Publishes: []Publish{
			event("p", alice, n(1), 1), event("p", alice, n(2), 2), event("q", bob, bobs, 2),
			event("p", alice, n(3), 3), event("p", alice, fourth, 4), event("p", alice, fifth, 5),
			{Publisher: "q", Channel: "user.nobody.sync", Fate: Refused, Mark: "poison", Timetoken: "17", Sent: 6 * second},
			{Publisher: "q", Channel: "global.announcements", Fate: Announcement, Frame: announcementFrame("1"), Timetoken: "17", Sent: 40 * second},
			{Publisher: "q", Channel: "global.announcements", Fate: Announcement, Frame: announcementFrame("2"), Timetoken: "17", Sent: 41 * second},
			event("p", alice, n(6), 42),
		},
		Logs: map[string][]Entry{
			alice: {{Hlc: stamp(1), Frame: n(1)}, {Hlc: stamp(2), Frame: n(2)}, {Hlc: stamp(3), Frame: n(3)},
				{Hlc: stamp(4), Frame: fourth}, {Hlc: stamp(5), Frame: fifth}, {Hlc: stamp(6), Frame: n(6)}},
			bob: {{Hlc: stamp(7), Frame: bobs}},
		},
		Connections: []Connection{
			{User: alice, Device: tv, Since: stamp(1), Stayed: true, Frames: at(
				welcomeFrame(alice, tv, stamp(1)), n(2), n(3), caughtUpFrame(stamp(5), 2),
				announcementFrame("1"), announcementFrame("2"), n(6), positionFrame(stamp(7)))},
			{User: alice, Device: phone, Since: "earliest", Cut: true, Frames: at(
				welcomeFrame(alice, phone, noStamp), n(1), n(2))},
			{User: alice, Device: phone, Since: stamp(2), Cut: true, Frames: at(
				welcomeFrame(alice, phone, stamp(2)), n(3), fourth, caughtUpFrame(stamp(5), 2), `{"type":"pong"}`)},
			{User: alice, Device: phone, Since: stamp(5), Frames: at(
				welcomeFrame(alice, phone, stamp(5)), caughtUpFrame(stamp(5), 0))},
			{User: bob, Device: bobsTablet, Since: "latest", Stayed: true, Frames: at(
				welcomeFrame(bob, bobsTablet, stamp(6)), bobs, caughtUpFrame(stamp(7), 1), announcementFrame("1"), announcementFrame("2"))},
			{User: bob, Device: bobsTablet, Since: "latest", Cut: true},
		},
	}
}

func TestJudgeIsSilentOnAGoodHistory(t *testing.T) {
	for _, v := range Judge(story()) {
		t.Errorf("Judge(story) says %s, want silence", v)
	}
}

func TestJudgeIsSilentOnAnEmptyHistory(t *testing.T) {
	if got := Judge(History{}); len(got) != 0 {
		t.Errorf("Judge(History{}) = %v, want nothing", got)
	}
}

// replace changes a frame's text wherever a connection has it.
func replace(c *Connection, old, new string) {
	for i := range c.Frames {
		if c.Frames[i].Text == old {
			c.Frames[i].Text = new
		}
	}
}

func TestJudgeSaysWhatIsBroken(t *testing.T) {
	const (
		tvOnly, phoneReplay, bobOnly = 0, 2, 4
	)
	remove := func(c *Connection, i int) { c.Frames = slices.Delete(c.Frames, i, i+1) }
	insert := func(c *Connection, i int, text string) {
		c.Frames = slices.Insert(c.Frames, i, Frame{At: c.Frames[i-1].At, Text: text})
	}
	swap := func(c *Connection, i, k int) { c.Frames[i], c.Frames[k] = c.Frames[k], c.Frames[i] }
	incomplete := func(c *Connection, reason string) {
		c.Frames[0].Text = strings.Replace(c.Frames[0].Text, `true}`, `false,"reason":"`+reason+`"}`, 1)
	}
	for _, tt := range []struct {
		name  string
		spoil func(*History)
		want  []Rule
	}{
		{"lost live", func(h *History) { remove(&h.Connections[tvOnly], 6) }, []Rule{Lost}},
		{"lost in the replay", func(h *History) {
			remove(&h.Connections[tvOnly], 1)
			replace(&h.Connections[tvOnly], caughtUpFrame(stamp(5), 2), caughtUpFrame(stamp(5), 1))
		}, []Rule{Lost}},
		{"lost in a cut replay", func(h *History) { remove(&h.Connections[1], 1) }, []Rule{Lost}},
		{"lost behind a reconnect", func(h *History) {
			h.Connections[3].Frames = nil
			h.Connections[2].Frames = h.Connections[2].Frames[:1]
			insert(&h.Connections[2], 1, progressFrame(stamp(4), tv, 40))
		}, []Rule{Lost, Misplaced}},
		{"lost at the end", func(h *History) { h.Connections[3].Stayed = true }, []Rule{Lost, Lost, Lost}},
		{"lost before the log", func(h *History) {
			h.Logs[bob] = nil
			remove(&h.Connections[bobOnly], 1)
			replace(&h.Connections[bobOnly], caughtUpFrame(stamp(7), 1), caughtUpFrame(stamp(7), 0))
		}, []Rule{Lost}},
		{"lost announcement", func(h *History) { remove(&h.Connections[tvOnly], 4) }, []Rule{Lost}},
		{"doubled live", func(h *History) { insert(&h.Connections[tvOnly], 7, h.Connections[tvOnly].Frames[6].Text) }, []Rule{Doubled}},
		{"doubled over the reconnect", func(h *History) {
			insert(&h.Connections[phoneReplay], 1, noticeFrame(stamp(2), "n2"))
			replace(&h.Connections[phoneReplay], caughtUpFrame(stamp(5), 2), caughtUpFrame(stamp(5), 3))
		}, []Rule{Doubled}},
		{"doubled in the log", func(h *History) {
			h.Logs[bob] = append(h.Logs[bob], Entry{Hlc: stamp(8), Frame: noticeFrame(stamp(8), "bob")})
			insert(&h.Connections[bobOnly], 3, noticeFrame(stamp(8), "bob"))
		}, []Rule{Doubled}},
		{"one stamp twice in the log", func(h *History) { h.Logs[bob] = append(h.Logs[bob], h.Logs[bob][0]) }, []Rule{Doubled, Doubled}},
		{"doubled announcement", func(h *History) { insert(&h.Connections[bobOnly], 5, announcementFrame("1")) }, []Rule{Doubled}},
		{"swapped in the replay", func(h *History) { swap(&h.Connections[phoneReplay], 1, 2) }, []Rule{Swapped}},
		{"swapped in the log", func(h *History) {
			l := h.Logs[alice]
			l[0], l[1] = l[1], l[0]
		}, []Rule{Swapped, Swapped}},
		{"a publisher's order", func(h *History) { swapPublishes(h, 0, 1) }, []Rule{Swapped}},
		{"swapped announcements", func(h *History) { swap(&h.Connections[tvOnly], 4, 5) }, []Rule{Swapped}},
		{"foreign event", func(h *History) { insert(&h.Connections[bobOnly], 3, noticeFrame(stamp(3), "n3")) }, []Rule{Foreign}},
		{"foreign event with the frame of an own one", func(h *History) {
			h.Publishes = append(h.Publishes, Publish{Publisher: "r", User: alice, Fate: Event, Frame: h.Publishes[2].Frame})
			insert(&h.Connections[tvOnly], 8, h.Logs[bob][0].Frame)
		}, []Rule{Foreign}},
		{"foreign event in the log", func(h *History) {
			h.Logs[bob] = append(h.Logs[bob], Entry{Hlc: stamp(8), Frame: noticeFrame(stamp(8), "n6")})
			h.Logs[alice] = h.Logs[alice][:5]
			remove(&h.Connections[tvOnly], 6)
		}, []Rule{Foreign, Lost}},
		{"foreign welcome", func(h *History) {
			replace(&h.Connections[bobOnly], welcomeFrame(bob, bobsTablet, stamp(6)), welcomeFrame(alice, bobsTablet, stamp(6)))
		}, []Rule{Foreign}},
		{"unknown event", func(h *History) { insert(&h.Connections[tvOnly], 7, noticeFrame(stamp(9), "forged")) }, []Rule{Unknown}},
		{"unknown event in the log", func(h *History) {
			h.Logs[alice][5].Frame = noticeFrame(stamp(6), "forged")
			replace(&h.Connections[tvOnly], noticeFrame(stamp(6), "n6"), noticeFrame(stamp(6), "forged"))
		}, []Rule{Unknown, Lost}},
		{"unknown announcement", func(h *History) { insert(&h.Connections[tvOnly], 5, announcementFrame("forged")) }, []Rule{Unknown}},
		{"altered for one device", func(h *History) {
			replace(&h.Connections[phoneReplay], noticeFrame(stamp(3), "n3"), strings.Replace(noticeFrame(stamp(3), "n3"), `"data":`, `"data": `, 1))
		}, []Rule{Altered}},
		{"another stamp in the record", func(h *History) { h.Logs[bob][0].Hlc = stamp(8) }, []Rule{Altered, Unknown, Lost}},
		{"dead letter relayed", func(h *History) { insert(&h.Connections[tvOnly], 7, noticeFrame(stamp(9), "poison")) }, []Rule{Leaked}},
		{"dead letter stored", func(h *History) {
			h.Logs[alice] = append(h.Logs[alice], Entry{Hlc: stamp(9), Frame: noticeFrame(stamp(9), "poison")})
			insert(&h.Connections[tvOnly], 8, noticeFrame(stamp(9), "poison"))
		}, []Rule{Leaked, Leaked}},
		{"dead letter announced", func(h *History) { insert(&h.Connections[tvOnly], 5, announcementFrame("poison")) }, []Rule{Leaked}},
		{"echo", func(h *History) {
			insert(&h.Connections[tvOnly], 3, progressFrame(stamp(4), tv, 40))
			replace(&h.Connections[tvOnly], caughtUpFrame(stamp(5), 2), caughtUpFrame(stamp(5), 3))
		}, []Rule{Echoed}},
		{"no echo where asked for", func(h *History) { h.Connections[tvOnly].Echo = true }, []Rule{Lost}},
		{"expired command", func(h *History) {
			insert(&h.Connections[tvOnly], 3, commandFrame(stamp(5), longExpired))
			replace(&h.Connections[tvOnly], caughtUpFrame(stamp(5), 2), caughtUpFrame(stamp(5), 3))
		}, []Rule{Expired}},
		{"false complete", func(h *History) {
			h.Logs[alice][1].Trimmed = true
			remove(&h.Connections[tvOnly], 1)
			replace(&h.Connections[tvOnly], caughtUpFrame(stamp(5), 2), caughtUpFrame(stamp(5), 1))
		}, []Rule{FalseComplete}},
		{"incomplete without cause", func(h *History) { incomplete(&h.Connections[tvOnly], "trimmed") }, []Rule{Needless}},
		{"incomplete for another cause", func(h *History) {
			h.Excuses = []string{"trimmed"}
			incomplete(&h.Connections[tvOnly], "future_cursor")
		}, []Rule{Needless}},
		{"missing caught_up", func(h *History) { h.Connections[3].Frames = h.Connections[3].Frames[:1] }, []Rule{NoCaughtUp}},
		{"second caught_up", func(h *History) { insert(&h.Connections[tvOnly], 4, caughtUpFrame(stamp(5), 0)) }, []Rule{Misplaced}},
		{"second welcome", func(h *History) { insert(&h.Connections[tvOnly], 4, h.Connections[tvOnly].Frames[0].Text) }, []Rule{Misplaced}},
		{"no welcome", func(h *History) { remove(&h.Connections[tvOnly], 0) }, []Rule{Misplaced}},
		{"no frame at all", func(h *History) { h.Connections[3].Frames = nil }, []Rule{Misplaced}},
		{"wrong replayed", func(h *History) {
			replace(&h.Connections[phoneReplay], caughtUpFrame(stamp(5), 2), caughtUpFrame(stamp(5), 3))
		}, []Rule{WrongReplayed}},
		{"caught_up before since", func(h *History) {
			replace(&h.Connections[3], caughtUpFrame(stamp(5), 0), caughtUpFrame(stamp(4), 0))
		}, []Rule{WrongCursor}},
		{"caught_up before the replayed", func(h *History) {
			replace(&h.Connections[phoneReplay], caughtUpFrame(stamp(5), 2), caughtUpFrame(stamp(3), 2))
		}, []Rule{WrongCursor}},
		{"caught_up ahead of the log", func(h *History) {
			replace(&h.Connections[tvOnly], caughtUpFrame(stamp(5), 2), caughtUpFrame(stamp(6), 2))
		}, []Rule{WrongCursor, WrongCursor}},
		{"position goes back", func(h *History) { replace(&h.Connections[tvOnly], positionFrame(stamp(7)), positionFrame(stamp(5))) }, []Rule{WrongCursor}},
		{"position before caught_up", func(h *History) { insert(&h.Connections[tvOnly], 3, positionFrame(stamp(3))) }, []Rule{Misplaced}},
		{"another cursor than asked for", func(h *History) { h.Connections[tvOnly].Since = stamp(0) }, []Rule{WrongCursor}},
		{"earliest is not zeros", func(h *History) { h.Connections[tvOnly].Since = "earliest" }, []Rule{WrongCursor}},
		{"no frame of the protocol", func(h *History) { insert(&h.Connections[tvOnly], 4, `{"type":"hello"}`) }, []Rule{Misplaced}},
		{"no JSON", func(h *History) { insert(&h.Connections[tvOnly], 4, `{"type"`) }, []Rule{Misplaced}},
		{"announcement in the replay", func(h *History) { swap(&h.Connections[bobOnly], 2, 3) }, []Rule{Misplaced}},
		{"a log is not recorded", func(h *History) { delete(h.Logs, bob) }, []Rule{Lost, Unrecorded, Unrecorded}},
		{"two messages alike", func(h *History) { h.Publishes = append(h.Publishes, h.Publishes[0]) }, []Rule{Unrecorded, Lost}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := story()
			tt.spoil(&h)
			found := Judge(h)
			var got []Rule
			for _, v := range found {
				got = append(got, v.Rule)
			}
			slices.Sort(got)
			slices.Sort(tt.want)
			if !slices.Equal(got, tt.want) {
				t.Errorf("Judge(%s) = %q, want %q\n%v", tt.name, got, tt.want, found)
			}
		})
	}
}

func swapPublishes(h *History, i, k int) {
	h.Publishes[i], h.Publishes[k] = h.Publishes[k], h.Publishes[i]
}

func TestJudgeExcuses(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(*History)
	}{
		{"what PubNub never confirmed may be missing", func(h *History) {
			h.Publishes = append(h.Publishes, Publish{Publisher: "p", User: alice, Fate: Event, Frame: Blank(noticeFrame(stamp(8), "late"))})
		}},
		{"what PubNub forgot may be missing", func(h *History) {
			h.Publishes = append(h.Publishes, Publish{Publisher: "p", User: alice, Fate: Event, Frame: Blank(noticeFrame(stamp(8), "late")),
				Timetoken: "17", Forgotten: true})
		}},
		{"what was trimmed before an incomplete resume", func(h *History) {
			h.Logs[alice][1].Trimmed = true
			h.Excuses = []string{"trimmed"}
			c := &h.Connections[0]
			c.Frames = slices.Delete(c.Frames, 1, 2)
			replace(c, caughtUpFrame(stamp(5), 2), caughtUpFrame(stamp(5), 1))
			c.Frames[0].Text = strings.Replace(c.Frames[0].Text, `true}`, `false,"reason":"trimmed"}`, 1)
		}},
		{"what was trimmed after it was delivered", func(h *History) { h.Logs[alice][1].Trimmed = true }},
		{"a cursor of the future is served from the beginning", func(h *History) {
			h.Excuses = []string{"future_cursor"}
			h.Connections[1].Since = stamp(99)
			c := &h.Connections[1]
			c.Frames[0].Text = strings.Replace(c.Frames[0].Text, `true}`, `false,"reason":"future_cursor"}`, 1)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := story()
			tt.spoil(&h)
			if got := Judge(h); len(got) != 0 {
				t.Errorf("Judge(%s) = %v, want nothing", tt.name, got)
			}
		})
	}
}
