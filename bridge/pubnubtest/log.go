package pubnubtest

import (
	"sort"
	"strings"
)

// A message is immutable once it is in the log, except refs.
type message struct {
	cursor    int64
	timetoken int64 // p.t
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

// A topic is what a subscriber can name: a channel or a wildcard. It is
// dropped as soon as it is empty and nobody waits on it.
type topic struct {
	name    string
	quoted  string // name as a JSON string
	wild    bool
	live    queue              // newest QueueSize messages, by cursor
	stored  queue              // history of a channel, by timetoken
	waiting map[*poll]struct{} // held polls to wake
	up      []*topic           // wildcards that match this channel
	below   int                // channels that have this wildcard in up
}

// A messageLog holds all messages. Each is in up to four queues: those of its
// channel, and those of the two wildcards that may match it. Guarded by
// Server.mu.
type messageLog struct {
	queueSize, historyLimit, maxMessages int
	maxBytes                             int64

	channels  map[string]*topic
	wildcards map[string]*topic
	order     queue // every message, oldest first; those with refs 0 are dead
	held      int   // messages in order that are not dead
	bytes     int64 // size of the held ones
}

// topic returns the topic of a name, made if need be. The caller must put
// something into it or release it.
func (l *messageLog) topic(name string, wild bool) *topic {
	all := l.channels
	if wild {
		all = l.wildcards
	}
	t := all[name]
	if t != nil {
		return t
	}
	t = &topic{name: name, quoted: quote(name), wild: wild}
	all[name] = t
	if !wild {
		for _, w := range wildcardsOf(name) {
			up := l.topic(w, true)
			up.below++
			t.up = append(t.up, up)
		}
	}
	return t
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
	if t.live.len() > 0 || t.stored.len() > 0 || len(t.waiting) > 0 || t.below > 0 {
		return
	}
	if t.wild {
		delete(l.wildcards, t.name)
		return
	}
	delete(l.channels, t.name)
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
		l.unref(t.live.pop())
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

// evict forgets the oldest message of all. Queues are in one order, so it is
// the first of every live queue that has it.
func (l *messageLog) evict() {
	m := l.order.pop()
	if m.refs == 0 {
		return
	}
	for _, t := range append([]*topic{m.ch}, m.ch.up...) {
		if t.live.len() > 0 && t.live.all()[0] == m {
			t.live.pop()
			l.unref(m)
		}
	}
	if m.ch.stored.remove(m) {
		l.unref(m)
	}
	l.release(m.ch)
}

// A queue is a first-in-first-out slice of messages.
type queue struct {
	buf  []*message
	head int
}

func (q *queue) len() int        { return len(q.buf) - q.head }
func (q *queue) all() []*message { return q.buf[q.head:] }
func (q *queue) push(m *message) { q.buf = append(q.buf, m) }

// pop removes the first message. At half empty the rest moves to the front.
func (q *queue) pop() *message {
	m := q.buf[q.head]
	q.buf[q.head] = nil
	q.head++
	if q.head >= 32 && q.head*2 >= len(q.buf) {
		n := copy(q.buf, q.buf[q.head:])
		clear(q.buf[n:])
		q.buf, q.head = q.buf[:n], 0
	}
	return m
}

// after returns the messages above a cursor, in a queue ordered by cursor.
func (q *queue) after(cursor int64) []*message {
	all := q.all()
	if len(all) == 0 || all[len(all)-1].cursor <= cursor {
		return nil
	}
	return all[sort.Search(len(all), func(i int) bool { return all[i].cursor > cursor }):]
}

// since returns the messages from a timetoken on, in a queue ordered by it.
func (q *queue) since(timetoken int64) []*message {
	all := q.all()
	return all[q.search(timetoken):]
}

func (q *queue) search(timetoken int64) int {
	all := q.all()
	return sort.Search(len(all), func(i int) bool { return all[i].timetoken >= timetoken })
}

// insert puts m where its timetoken belongs, nearly always at the end, and
// moves the timetoken on if it is taken.
func (q *queue) insert(m *message) {
	all := q.all()
	if len(all) == 0 || all[len(all)-1].timetoken < m.timetoken {
		q.push(m)
		return
	}
	i := q.search(m.timetoken)
	for i < len(all) && all[i].timetoken == m.timetoken {
		m.timetoken++
		i++
	}
	q.push(nil)
	copy(q.all()[i+1:], q.all()[i:])
	q.all()[i] = m
}

// remove takes m out of a queue ordered by timetoken, if it is in it.
func (q *queue) remove(m *message) bool {
	all := q.all()
	i := q.search(m.timetoken)
	if i == len(all) || all[i] != m {
		return false
	}
	if i == 0 {
		q.pop()
		return true
	}
	copy(all[i:], all[i+1:])
	all[len(all)-1] = nil
	q.buf = q.buf[:len(q.buf)-1]
	return true
}

// filter keeps the messages for which keep is true.
func (q *queue) filter(keep func(*message) bool) {
	kept := q.buf[:0]
	for _, m := range q.all() {
		if keep(m) {
			kept = append(kept, m)
		}
	}
	clear(q.buf[len(kept):])
	q.buf, q.head = kept, 0
}
