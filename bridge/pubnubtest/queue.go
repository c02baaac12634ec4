package pubnubtest

import "sort"

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
	return above(q.all(), cursor)
}

// above returns the messages above a cursor, of some that are ordered by it.
func above(all []*message, cursor int64) []*message {
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
