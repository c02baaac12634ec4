package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A tale is a history in the making: users, publishers, devices that come and
// go, and a relay that makes no mistake, in any order of what happens.
type tale struct {
	*rapid.T
	h    History
	now  int64
	last int // the newest stamp
	open []*teller
	held map[string]string // cursors, by device
}

// A teller is the relay's end of an open connection.
type teller struct {
	conn     int // index in the history
	position string
	sent     int
	caughtUp bool
}

var (
	taleUsers   = []string{alice, bob}
	taleDevices = map[string][]string{alice: {tv, phone}, bob: {bobsTablet}}
)

func newTale(t *rapid.T) *tale {
	return &tale{T: t, h: History{Logs: map[string][]Entry{alice: nil, bob: nil}}, held: make(map[string]string)}
}

func (t *tale) tick() int64 { t.now += second; return t.now }

func (t *tale) pick(what string, from ...string) string {
	return rapid.SampledFrom(from).Draw(t.T, what)
}

// publish lets a message become an event of user, caused by device or by none.
func (t *tale) publish(user, device string) {
	t.last++
	n := len(t.h.Publishes)
	frame := noticeFrame(stamp(t.last), fmt.Sprint("event ", n))
	if device != "" {
		frame = progressFrame(stamp(t.last), device, n)
	}
	t.h.Publishes = append(t.h.Publishes, Publish{Publisher: t.pick("publisher", "p", "q"), Channel: "user." + user + ".sync",
		User: user, Fate: Event, Frame: Blank(frame), Timetoken: fmt.Sprint(n), Sent: t.tick()})
	t.h.Logs[user] = append(t.h.Logs[user], Entry{Hlc: stamp(t.last), Frame: frame})
}

func (t *tale) announce() {
	frame := announcementFrame(fmt.Sprint("to all ", len(t.h.Publishes)))
	t.h.Publishes = append(t.h.Publishes, Publish{Publisher: t.pick("publisher", "p", "q"), Channel: "global.announcements",
		Fate: Announcement, Frame: frame, Timetoken: "1", Sent: t.tick()})
	for _, c := range t.open {
		if c.caughtUp {
			t.send(c, frame)
		}
	}
}

func (t *tale) refuse() {
	t.h.Publishes = append(t.h.Publishes, Publish{Publisher: "p", Channel: "user.x.sync", Fate: Refused, Mark: "poison", Timetoken: "1", Sent: t.tick()})
}

func (t *tale) send(c *teller, frame string) {
	conn := &t.h.Connections[c.conn]
	conn.Frames = append(conn.Frames, Frame{At: t.tick(), Text: frame})
}

func (t *tale) connect(user, device, since string) {
	at := since
	switch since {
	case "earliest":
		at = noStamp
	case "latest":
		at = stamp(t.last)
	}
	t.h.Connections = append(t.h.Connections, Connection{User: user, Device: device, Since: since,
		Echo: rapid.Bool().Draw(t.T, "echo")})
	c := &teller{conn: len(t.h.Connections) - 1, position: at}
	t.open = append(t.open, c)
	t.send(c, welcomeFrame(user, device, at))
}

// step sends what comes next on a connection and reports whether that was an
// event or the caught_up.
func (t *tale) step(c *teller) bool {
	conn := &t.h.Connections[c.conn]
	defer func() { t.held[conn.Device] = c.position }()
	for _, e := range t.h.Logs[conn.User] {
		if e.Hlc <= c.position {
			continue
		}
		c.position = e.Hlc
		if !conn.Echo && strings.Contains(e.Frame, conn.Device) {
			continue
		}
		c.sent++
		t.send(c, e.Frame)
		return true
	}
	c.position = stamp(t.last)
	if c.caughtUp {
		t.send(c, positionFrame(c.position))
		return false
	}
	c.caughtUp = true
	t.send(c, caughtUpFrame(c.position, c.sent))
	return true
}

// happen lets any one thing happen.
func (t *tale) happen() {
	user := t.pick("user", taleUsers...)
	device := t.pick("device", taleDevices[user]...)
	what := t.pick("what", "publish", "publish", "connect", "step", "step", "step", "cut", "announce", "refuse")
	switch {
	case what == "publish":
		t.publish(user, t.pick("origin", "", device))
	case what == "announce":
		t.announce()
	case what == "refuse":
		t.refuse()
	case what == "connect":
		since := t.pick("since", "earliest", "latest", "cursor")
		if since == "cursor" {
			since = t.held[device]
		}
		if since == "" {
			since = "latest"
		}
		t.connect(user, device, since)
	case len(t.open) == 0:
	case what == "step":
		t.step(rapid.SampledFrom(t.open).Draw(t.T, "connection"))
	default:
		i := rapid.IntRange(0, len(t.open)-1).Draw(t.T, "cut")
		t.h.Connections[t.open[i].conn].Cut = true
		t.open = slices.Delete(t.open, i, i+1)
	}
}

// end lets every open connection get what it has to get.
func (t *tale) end() History {
	for _, c := range t.open {
		for t.step(c) {
		}
		t.h.Connections[c.conn].Stayed = true
	}
	return t.h
}

func drawTale(t *rapid.T) *tale {
	tale := newTale(t)
	for range rapid.IntRange(0, 40).Draw(t, "length") {
		tale.happen()
	}
	return tale
}

func TestJudgeIsSilentOnAnyGoodHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		for _, v := range Judge(drawTale(t).end()) {
			t.Errorf("Judge(good history) says %s, want silence", v)
		}
	})
}

// TestJudgeFindsOneMistakeInAnyHistory makes one mistake on one connection, the
// last one, which gets three events in its replay and three live ones.
func TestJudgeFindsOneMistakeInAnyHistory(t *testing.T) {
	const replayed, live = 3, 3
	rapid.Check(t, func(t *rapid.T) {
		tale := drawTale(t)
		user, device := alice, elsewhere
		tale.publish(bob, "")
		tale.end()
		since := stamp(tale.last)
		for range replayed {
			tale.publish(user, "")
		}
		tale.connect(user, device, since)
		c := tale.open[len(tale.open)-1]
		for range replayed + 1 {
			tale.step(c)
		}
		for range live {
			tale.publish(user, "")
		}
		h := tale.end()
		conn := &h.Connections[c.conn]
		frames := conn.Frames
		const firstReplayed, caughtUp, firstLive = 1, 1 + replayed, 2 + replayed
		at := rapid.IntRange(firstLive, firstLive+live-1).Draw(t, "at")
		setReplayed := func(n int) {
			frames[caughtUp].Text = strings.Replace(frames[caughtUp].Text, `"replayed":3`, fmt.Sprint(`"replayed":`, n), 1)
		}
		want := Rule(tale.pick("mistake", string(Lost), string(Doubled), string(Swapped), string(Foreign), string(Altered),
			string(Leaked), string(FalseComplete), string(NoCaughtUp), string(WrongReplayed), string(WrongCursor)))
		switch want {
		case Lost:
			conn.Frames = slices.Delete(frames, at, at+1)
		case Doubled:
			conn.Frames = slices.Insert(frames, at+1, frames[rapid.IntRange(firstLive, at).Draw(t, "again")])
		case Swapped:
			other := firstLive + (at-firstLive+1)%live
			frames[at].Text, frames[other].Text = frames[other].Text, frames[at].Text
		case Foreign:
			conn.Frames = slices.Insert(frames, at, Frame{At: frames[at-1].At, Text: h.Logs[bob][0].Frame})
		case Altered:
			frames[at].Text = strings.Replace(frames[at].Text, "}", " }", 1)
		case Leaked:
			h.Publishes = append(h.Publishes, Publish{Channel: "user.x.sync", Fate: Refused, Mark: "venom", Timetoken: "1"})
			conn.Frames = slices.Insert(frames, at, Frame{At: frames[at-1].At, Text: noticeFrame(stamp(tale.last+1), "venom")})
		case FalseComplete:
			gone := rapid.IntRange(0, replayed-1).Draw(t, "gone")
			h.Logs[user][len(h.Logs[user])-live-replayed+gone].Trimmed = true
			setReplayed(replayed - 1)
			conn.Frames = slices.Delete(frames, firstReplayed+gone, firstReplayed+gone+1)
		case NoCaughtUp:
			conn.Frames = slices.Delete(frames[:firstLive], caughtUp, caughtUp+1)
			conn.Stayed = false
		case WrongReplayed:
			setReplayed(replayed + 1)
		case WrongCursor:
			frames[caughtUp].Text = caughtUpFrame(since, replayed)
		}
		found := Judge(h)
		if len(found) == 0 || slices.ContainsFunc(found, func(v Violation) bool { return v.Rule != want }) {
			t.Errorf("Judge(%s) = %v, want %s and nothing else", want, found, want)
		}
	})
}
