package pubnubtest

import "strings"

// A message is immutable once it is in the log, except refs.
type message struct {
	cursor    int64
	timetoken int64 // p.t
	appears   int64 // from when on history shows it; 0 is at once
	expires   int64 // when history forgets it; 0 is never
	ch        *topic
	payload   []byte
	uuid      string
	meta      []byte
	custom    string
	sequence  int
	kind      int // e
	region    int // p.r
	unstored  bool
	omit      fieldSet
	extra     []extraField

	refs int // how many queues hold it; guarded by Server.mu
}

// size is what a message counts against Config.MaxBytes.
func (m *message) size() int64 {
	n := 200 + len(m.payload) + len(m.meta) + len(m.uuid) + len(m.custom)
	for _, e := range m.extra {
		n += len(e.name) + len(e.raw)
	}
	return int64(n)
}

// A topic is what a subscriber can name: a channel, a wildcard or a group. It
// is dropped as soon as it is empty and nobody waits on it.
type topic struct {
	name    string
	quoted  string              // name as a JSON string
	home    map[string]*topic   // where it is by its name
	live    queue               // newest QueueSize messages, by cursor
	gone    int64               // cursor of the newest one that has had to leave live
	stored  queue               // history of a channel, by timetoken
	waiting map[*poll]struct{}  // held polls to wake
	up      []*topic            // wildcards that match this channel
	below   int                 // channels that have this wildcard in up
	members map[string]struct{} // channels of this group
}

// A messageLog holds all messages. Each is in the queues of its channel, of the
// two wildcards that may match that, and of the groups that the channel was in
// when the message came and has not left since. Guarded by Server.mu.
type messageLog struct {
	queueSize, historyLimit, maxMessages int
	maxBytes                             int64

	channels  map[string]*topic
	wildcards map[string]*topic
	groups    map[string]*topic
	groupsOf  map[string][]*topic // by channel, whether that is in channels or not
	order     queue               // every message, oldest first; those with refs 0 are dead
	held      int                 // messages in order that are not dead
	bytes     int64               // size of the held ones
}

// find returns the topic of a name, made if need be. The caller must put
// something into it or release it.
func find(home map[string]*topic, name string) (t *topic, made bool) {
	if t := home[name]; t != nil {
		return t, false
	}
	t = &topic{name: name, quoted: quote(name), home: home}
	home[name] = t
	return t, true
}

// channel is find for channels.
func (l *messageLog) channel(name string) *topic {
	t, made := find(l.channels, name)
	if made {
		for _, w := range wildcardsOf(name) {
			up, _ := find(l.wildcards, w)
			up.below++
			t.up = append(t.up, up)
		}
	}
	return t
}

// ensure makes every topic that a subscription names. The caller must put
// something into them or release them.
func (l *messageLog) ensure(sub subscription) {
	for _, name := range sub.channels {
		l.channel(name)
	}
	for _, name := range sub.wildcards {
		find(l.wildcards, name)
	}
	for _, name := range sub.groups {
		find(l.groups, name)
	}
}

// each calls f for every topic of a subscription that there is. f may release it.
func (l *messageLog) each(sub subscription, f func(*topic)) {
	for _, names := range []struct {
		home map[string]*topic
		list []string
	}{{l.channels, sub.channels}, {l.wildcards, sub.wildcards}, {l.groups, sub.groups}} {
		for _, name := range names.list {
			if t := names.home[name]; t != nil {
				f(t)
			}
		}
	}
}

// wildcardsOf returns the wildcards that match a channel: none for a name of
// one segment or of more than three.
func wildcardsOf(channel string) []string {
	first, rest, ok := strings.Cut(channel, ".")
	if !ok || strings.Count(rest, ".") > 1 {
		return nil
	}
	wild := []string{first + ".*"}
	if second, _, ok := strings.Cut(rest, "."); ok {
		wild = append(wild, first+"."+second+".*")
	}
	return wild
}

// release drops t if nothing is left in it.
func (l *messageLog) release(t *topic) {
	if t.live.len() > 0 || t.stored.len() > 0 || len(t.waiting) > 0 || t.below > 0 || len(t.members) > 0 {
		return
	}
	delete(t.home, t.name)
	for _, up := range t.up {
		up.below--
		l.release(up)
	}
}

// append puts m, whose cursor is above all others, into its queues, and wakes
// who waits for it. What the bounds no longer allow goes.
func (l *messageLog) append(m *message) {
	l.order.push(m)
	l.held++
	l.bytes += m.size()
	l.offer(m.ch, m)
	for _, up := range m.ch.up {
		l.offer(up, m)
	}
	for _, g := range l.groupsOf[m.ch.name] {
		l.offer(g, m)
	}
	if !m.unstored {
		m.refs++
		m.ch.stored.insert(m)
		if m.ch.stored.len() > l.historyLimit {
			l.unref(m.ch.stored.pop())
		}
	}
	for l.held > l.maxMessages || l.bytes > l.maxBytes && l.held > 1 {
		l.evict()
	}
	if dead := l.order.len() - l.held; dead > 1024 && dead > l.held {
		l.order.filter(func(m *message) bool { return m.refs > 0 })
	}
}

// offer puts m at the end of a live queue.
func (l *messageLog) offer(t *topic, m *message) {
	m.refs++
	t.live.push(m)
	if t.live.len() > l.queueSize {
		l.drop(t)
	}
	for p := range t.waiting {
		p.nudge()
	}
}

// unref notes that one queue less holds m.
func (l *messageLog) unref(m *message) {
	m.refs--
	if m.refs == 0 {
		l.held--
		l.bytes -= m.size()
	}
}

// evict forgets the oldest message of all.
func (l *messageLog) evict() {
	m := l.order.pop()
	if m.refs == 0 {
		return
	}
	l.retract(m.ch, m)
	for _, up := range m.ch.up {
		l.retract(up, m)
	}
	for _, g := range l.groupsOf[m.ch.name] {
		l.retract(g, m)
	}
	if m.ch.stored.remove(m) {
		l.unref(m)
	}
	l.release(m.ch)
}

// retract takes the oldest message of all out of a live queue. Queues are in
// one order, so it is the first of every queue that has it.
func (l *messageLog) retract(t *topic, m *message) {
	if t.live.len() > 0 && t.live.all()[0] == m {
		l.drop(t)
	}
}

// drop takes the first message out of a live queue, before all subscribers can
// have got it.
func (l *messageLog) drop(t *topic) {
	m := t.live.pop()
	t.gone = m.cursor
	l.unref(m)
}
