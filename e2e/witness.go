package e2e

import "slices"

// A witness judges what one connection saw.
type witness struct {
	// Static.
	*judge
	conn  *Connection
	where string
	log   *userLog

	// What the frames said so far.
	welcome  facts
	caughtUp int64             // when; 0 is not yet
	events   int               // their number
	newest   string            // stamp of the newest of them
	got      map[string]bool   // all their stamps
	position string            // greatest cursor that the device holds
	said     map[*Publish]bool // announcements
	saidIn   publishOrder
}

// run judges a connection from its first frame to its last.
func (w *witness) run() {
	c := w.conn
	if w.log == nil {
		w.report(Unrecorded, w.where, "the log of user %s is not in the history", c.User)
		return
	}
	for i, raw := range c.Frames {
		f, err := parseFrame(raw.Text)
		switch {
		case err != nil:
			w.report(Misplaced, w.where, "%v", err)
		case i == 0 && f.Type != "welcome":
			w.report(Misplaced, w.where, "the first frame is %s", raw.Text)
			return
		default:
			w.see(f, raw)
		}
	}
	switch {
	case len(c.Frames) == 0 && c.Cut:
		return
	case len(c.Frames) == 0:
		w.report(Misplaced, w.where, "no welcome")
		return
	case w.caughtUp == 0 && !c.Cut:
		w.report(NoCaughtUp, w.where, "after %d events", w.events)
	}
	w.judgeComplete()
}

// see takes one frame.
func (w *witness) see(f facts, raw Frame) {
	switch f.Type {
	case "welcome":
		if w.position != "" {
			w.report(Misplaced, w.where, "a second welcome")
			return
		}
		w.seeWelcome(f, raw)
	case "caught_up":
		if w.caughtUp != 0 {
			w.report(Misplaced, w.where, "a second caught_up")
			return
		}
		w.caughtUp = raw.At
		if f.Replayed != w.events {
			w.report(WrongReplayed, w.where, "caught_up says %d, there were %d events", f.Replayed, w.events)
		}
		w.seeCursor(f.Hlc, raw)
	case "position":
		if w.caughtUp == 0 {
			w.report(Misplaced, w.where, "a position before caught_up")
		}
		w.seeCursor(f.Hlc, raw)
	case "announcement":
		w.seeAnnouncement(raw)
	case "watchlist_update", "progress_update", "device_command", "notification":
		w.seeEvent(f, raw)
	case "pong", "accepted", "error", "reconnect", "token_expiring":
	default:
		w.report(Misplaced, w.where, "no frame of the protocol: %s", raw.Text)
	}
}

func (w *witness) seeWelcome(f facts, raw Frame) {
	c := w.conn
	w.welcome, w.position = f, f.Resume.Since
	if f.User != c.User || f.Device != c.Device {
		w.report(Foreign, w.where, "the welcome is for device %s of user %s", f.Device, f.User)
	}
	since, asked := f.Resume.Since, c.Since
	if asked == "earliest" {
		asked = noStamp
	}
	switch {
	case !isStamp(since):
		w.report(WrongCursor, w.where, "the welcome resumes from %q", since)
	case f.Resume.Complete && isStamp(asked) && since != asked:
		w.report(WrongCursor, w.where, "the welcome resumes from %s instead of %s", since, asked)
	case f.Resume.Complete && f.Resume.Reason != "":
		w.report(Misplaced, w.where, "complete for the reason %q", f.Resume.Reason)
	case !f.Resume.Complete && !slices.Contains(w.Excuses, f.Resume.Reason):
		w.report(Needless, w.where, "incomplete for the reason %q", f.Resume.Reason)
	}
	if f.Resume.Complete {
		w.judgeAhead(since, raw)
	}
}

// seeCursor takes the cursor that a frame gives to the device.
func (w *witness) seeCursor(hlc string, raw Frame) {
	switch {
	case !isStamp(hlc):
		w.report(WrongCursor, w.where, "no cursor in %s", raw.Text)
		return
	case hlc < w.position:
		w.report(WrongCursor, w.where, "%s after the device was at %s", raw.Text, w.position)
	}
	w.judgeAhead(hlc, raw)
	w.position = max(w.position, hlc)
}

// judgeAhead asks whether a cursor covers an event that was published only
// after the cursor had been received.
func (w *witness) judgeAhead(hlc string, raw Frame) {
	for _, e := range w.log.entries {
		if e.of != nil && e.of.Sent > raw.At && e.Hlc <= hlc {
			w.report(WrongCursor, w.where, "%s covers %s, which was published later", raw.Text, e.Frame)
			return
		}
	}
}

func (w *witness) seeEvent(f facts, raw Frame) {
	w.events++
	e := w.log.at[f.Hlc]
	if w.leaks(raw.Text) {
		w.report(Leaked, w.where, "%s", raw.Text)
		return
	}
	if e == nil || e.Frame != raw.Text {
		owner := w.owner(w.conn.User, f.Hlc, raw.Text)
		switch {
		case owner != "":
			w.report(Foreign, w.where, "%s belongs to user %s", raw.Text, owner)
			return
		case e == nil:
			w.report(Unknown, w.where, "%s is not in the log", raw.Text)
			return
		}
		w.report(Altered, w.where, "%s is %s in the log", raw.Text, e.Frame)
	}
	switch {
	case w.got[f.Hlc]:
		w.report(Doubled, w.where, "%s", raw.Text)
	case f.Hlc <= w.welcome.Resume.Since:
		w.report(Doubled, w.where, "%s lies before the cursor %s", raw.Text, w.welcome.Resume.Since)
	case f.Hlc < w.newest:
		w.report(Swapped, w.where, "%s comes after %s", raw.Text, w.newest)
	case f.Hlc <= w.position:
		w.report(WrongCursor, w.where, "%s comes after the device was told that it is at %s", raw.Text, w.position)
	}
	if f.Device == w.conn.Device && !w.conn.Echo {
		w.report(Echoed, w.where, "%s", raw.Text)
	}
	if w.caughtUp == 0 && f.ExpiresAt != 0 && f.ExpiresAt < w.welcome.ServerTime {
		w.report(Expired, w.where, "%s at %d", raw.Text, w.welcome.ServerTime)
	}
	w.got[f.Hlc] = true
	w.newest = max(w.newest, f.Hlc)
	w.position = max(w.position, f.Hlc)
}

func (w *witness) seeAnnouncement(raw Frame) {
	p := w.published[claim{"", raw.Text}]
	switch {
	case w.caughtUp == 0:
		w.report(Misplaced, w.where, "an announcement before caught_up")
	case w.leaks(raw.Text):
		w.report(Leaked, w.where, "%s", raw.Text)
	case p == nil:
		w.report(Unknown, w.where, "%s", raw.Text)
	case w.said[p]:
		w.report(Doubled, w.where, "%s", raw.Text)
	case !w.saidIn.keeps(w.judge, p):
		w.report(Swapped, w.where, "%s of publisher %s comes after what was announced later", raw.Text, p.Publisher)
	}
	w.said[p] = true
}

// judgeComplete asks for what is missing between the cursor with which the
// device came and the one that it has now.
func (w *witness) judgeComplete() {
	c := w.conn
	last := c.Frames[len(c.Frames)-1].At
	for _, e := range w.log.entries {
		switch {
		case e.Hlc <= w.welcome.Resume.Since, w.got[e.Hlc]:
		case e.Hlc > w.position && !c.Stayed:
		case e.of == nil: // the log has been blamed for it
		case e.device == c.Device && !c.Echo:
		case e.expires != 0 && e.expires <= last/1e6:
		case !e.Trimmed:
			w.report(Lost, w.where, "%s", e.Frame)
		case w.welcome.Resume.Complete:
			w.report(FalseComplete, w.where, "retention has cut %s", e.Frame)
		}
	}
	for i := range w.Publishes {
		p := &w.Publishes[i]
		if p.Fate == Announcement && p.Timetoken != "" && !p.Forgotten && c.Stayed &&
			w.caughtUp != 0 && w.caughtUp < p.Sent && !w.said[p] {
			w.report(Lost, w.where, "%s", p.Frame)
		}
	}
}
