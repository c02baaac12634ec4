package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Rule is a promise of the relay, named by how it is broken.
type Rule string

// The rules. Some can be broken in the log as well as on a connection.
const (
	Lost          Rule = "lost"              // an event is missing
	Doubled       Rule = "doubled"           // an event is there twice, or a device gets what lies before its cursor
	Swapped       Rule = "swapped"           // two events are in the wrong order
	Foreign       Rule = "foreign"           // an event is another user's
	Unknown       Rule = "unknown"           // an event was never published, or not so
	Altered       Rule = "altered"           // an event's bytes are not those of the log
	Leaked        Rule = "leaked"            // a refused message came out
	Echoed        Rule = "echoed"            // a device hears itself without having asked for it
	Expired       Rule = "expired"           // a command that had expired was replayed
	FalseComplete Rule = "false complete"    // complete is true, and retention had cut what is missing
	Needless      Rule = "needless"          // complete is false, and nothing in the run is to blame
	NoCaughtUp    Rule = "missing caught_up" // a welcome is not followed by its caught_up
	WrongReplayed Rule = "wrong replayed"    // replayed is not the number of events before caught_up
	WrongCursor   Rule = "wrong cursor"      // a cursor in a frame is not where this device is
	Misplaced     Rule = "misplaced"         // a frame is where the protocol has none, or is no frame of it
	Unrecorded    Rule = "unrecorded"        // the history itself is not sound
)

// A Violation is one broken promise.
type Violation struct {
	Rule  Rule
	Where string // whose log, or which connection
	What  string
}

func (v Violation) String() string { return fmt.Sprintf("%s: %s: %s", v.Rule, v.Where, v.What) }

// Judge holds a history against the protocol and returns every violation, none
// if the log is what was published and every device got every event of its user
// after its cursor, once, in the order and with the bytes of the log. It is a
// pure function.
//
// Each connection is judged by itself. That covers a device's reconnects: one
// that comes back with the cursor it holds gets all that lies after the cursor,
// and nothing else, exactly if it gets everything once over all of them.
func Judge(h History) []Violation {
	j := &judge{
		History:   h,
		published: make(map[claim]*Publish),
		owners:    make(map[string]string),
		order:     make(map[*Publish]int),
		logs:      make(map[string]*userLog),
	}
	j.readPublishes()
	for _, user := range slices.Sorted(maps.Keys(h.Logs)) {
		j.readLog(user)
	}
	for _, user := range slices.Sorted(maps.Keys(h.Logs)) {
		j.judgeOrder(user)
	}
	j.judgeStored()
	opened := make(map[string]int)
	for i := range h.Connections {
		c := &h.Connections[i]
		opened[c.Device]++
		w := witness{
			judge: j,
			conn:  c,
			where: fmt.Sprintf("connection %d of device %s", opened[c.Device], c.Device),
			log:   j.logs[c.User],
			got:   make(map[string]bool),
			said:  make(map[*Publish]bool),
		}
		w.run()
	}
	return j.found
}

// judge is the state of one judgement.
type judge struct {
	History
	published map[claim]*Publish
	owners    map[string]string // a user by the frame of an event, with a blank stamp
	order     map[*Publish]int  // places in the history
	refused   []*Publish
	logs      map[string]*userLog
	found     []Violation
}

// claim is what tells a message that becomes a frame from all others: its user,
// "" for an announcement, and the frame with a blank stamp.
type claim struct{ user, frame string }

// userLog is the log of one user.
type userLog struct {
	entries []*entry
	at      map[string]*entry // by stamp
}

// entry is an Entry, understood.
type entry struct {
	Entry
	device  string
	expires int64
	of      *Publish // nil if it is unknown
}

func (j *judge) report(rule Rule, where, format string, args ...any) {
	j.found = append(j.found, Violation{rule, where, fmt.Sprintf(format, args...)})
}

func (j *judge) readPublishes() {
	for i := range j.Publishes {
		p := &j.Publishes[i]
		j.order[p] = i
		key := claim{p.User, p.Frame}
		switch {
		case p.Fate == Refused && p.Mark == "":
			j.report(Unrecorded, p.Channel, "a refused message without a mark")
		case p.Fate == Refused:
			j.refused = append(j.refused, p)
		case j.published[key] != nil:
			j.report(Unrecorded, p.Channel, "two messages with the frame %s", p.Frame)
		default:
			j.published[key], j.owners[p.Frame] = p, p.User
		}
	}
}

// readLog finds out what each entry of a user's log is.
func (j *judge) readLog(user string) {
	l := &userLog{at: make(map[string]*entry)}
	j.logs[user] = l
	for _, e := range j.Logs[user] {
		f, err := parseFrame(e.Frame)
		if err != nil {
			j.report(Misplaced, logOf(user), "%v", err)
			continue
		}
		x := &entry{e, f.Device, f.ExpiresAt, j.published[claim{user, Blank(e.Frame)}]}
		switch {
		case f.Hlc != e.Hlc:
			j.report(Altered, logOf(user), "the record of %s holds %s", e.Hlc, e.Frame)
		case l.at[e.Hlc] != nil:
			j.report(Doubled, logOf(user), "two events have the stamp %s", e.Hlc)
		case j.leaks(e.Frame):
			j.report(Leaked, logOf(user), "%s", e.Frame)
		case x.of == nil && j.owners[Blank(e.Frame)] != "":
			j.report(Foreign, logOf(user), "%s belongs to user %s", e.Frame, j.owners[Blank(e.Frame)])
		case x.of == nil:
			j.report(Unknown, logOf(user), "%s", e.Frame)
		}
		l.entries = append(l.entries, x)
		l.at[e.Hlc] = x
	}
}

// judgeOrder asks whether a user's log has rising stamps and keeps the order of
// each publisher.
func (j *judge) judgeOrder(user string) {
	var order publishOrder
	for i, e := range j.logs[user].entries {
		if i > 0 && e.Hlc < j.logs[user].entries[i-1].Hlc {
			j.report(Swapped, logOf(user), "%s comes after %s", e.Hlc, j.logs[user].entries[i-1].Hlc)
		}
		if e.of != nil && !order.keeps(j, e.of) {
			j.report(Swapped, logOf(user), "%s of publisher %s comes after what was published later", e.Frame, e.of.Publisher)
		}
	}
}

// publishOrder watches over the order of each publisher.
type publishOrder struct{ newest map[string]int }

// keeps reports whether p was published after all that came before it from the
// same publisher.
func (o *publishOrder) keeps(j *judge, p *Publish) bool {
	if o.newest == nil {
		o.newest = make(map[string]int)
	}
	last, ok := o.newest[p.Publisher]
	o.newest[p.Publisher] = max(last, j.order[p])
	return !ok || last <= j.order[p]
}

// judgeStored asks whether every event that was published is stored once.
func (j *judge) judgeStored() {
	stored := make(map[*Publish]int)
	for _, l := range j.logs {
		for _, e := range l.entries {
			stored[e.of]++
		}
	}
	for i := range j.Publishes {
		p := &j.Publishes[i]
		switch n := stored[p]; {
		case p.Fate != Event:
		case n == 0 && p.Timetoken != "" && !p.Forgotten:
			j.report(Lost, logOf(p.User), "%s, published as %s", p.Frame, p.Timetoken)
		case n > 1:
			j.report(Doubled, logOf(p.User), "%s is stored %d times", p.Frame, n)
		}
	}
}

// leaks reports whether a frame holds anything of a refused message.
func (j *judge) leaks(frame string) bool {
	return slices.ContainsFunc(j.refused, func(p *Publish) bool { return strings.Contains(frame, p.Mark) })
}

// owner is whose event a frame is that user's log does not have, "" if nobody's.
func (j *judge) owner(user, hlc, frame string) string {
	for other, l := range j.logs {
		if e := l.at[hlc]; e != nil && e.Frame == frame {
			return other
		}
	}
	if j.published[claim{user, Blank(frame)}] != nil {
		return ""
	}
	return j.owners[Blank(frame)]
}

func logOf(user string) string { return "log of " + user }
