package pubnubtest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// A plain log is what messageLog and collect must agree with: all messages in
// one slice, those of each group in another, and no bound on memory.
type plainLog struct {
	queueSize, pageSize int
	oneCopy             bool

	all     []*message
	groups  map[string][]*message      // each group's live queue
	gone    map[string]int64           // the newest cursor that overflow has taken from it
	members map[string]map[string]bool // channels of each group
}

func (l *plainLog) publish(m *message) {
	l.all = append(l.all, m)
	for g, members := range l.members {
		if members[m.ch.name] {
			queue := append(l.groups[g], m)
			if len(queue) > l.queueSize {
				l.gone[g], queue = queue[0].cursor, queue[1:]
			}
			l.groups[g] = queue
		}
	}
}

func (l *plainLog) register(g string, add, remove []string) {
	if l.members[g] == nil {
		l.members[g] = make(map[string]bool)
	}
	for _, channel := range remove {
		delete(l.members[g], channel)
		l.groups[g] = slices.DeleteFunc(slices.Clone(l.groups[g]), func(m *message) bool { return m.ch.name == channel })
	}
	for _, channel := range add {
		l.members[g][channel] = true
	}
}

// collect returns the copies that a subscriber gets, slowly.
func (l *plainLog) collect(sub subscription, cursor int64) (found []entry, skipped bool) {
	for _, m := range l.all {
		if m.cursor <= cursor {
			continue
		}
		name := m.ch.name
		for _, c := range sub.channels {
			if c == name {
				found = append(found, entry{m, &topic{name: c}})
			}
		}
		for _, w := range sub.wildcards {
			if strings.HasPrefix(name, strings.TrimSuffix(w, "*")) && strings.Count(name, ".") <= 2 {
				found = append(found, entry{m, &topic{name: w}})
			}
		}
		for _, g := range sub.groups {
			if slices.Contains(l.groups[g], m) {
				found = append(found, entry{m, &topic{name: g}})
			}
		}
	}
	for _, g := range sub.groups {
		skipped = skipped || l.gone[g] > cursor
	}
	skipped = skipped || len(found) > l.queueSize
	found = found[max(0, len(found)-l.queueSize):]
	if l.oneCopy {
		found = slices.CompactFunc(found, func(a, b entry) bool { return a.message == b.message })
	}
	if len(found) > l.pageSize {
		n := l.pageSize
		for n > 0 && found[n-1].message == found[n].message {
			n--
		}
		if n == 0 {
			n = l.pageSize
		}
		found = found[:n]
	}
	return found, skipped
}

func describe(page []entry, skipped bool) string {
	var b strings.Builder
	if skipped {
		b.WriteString("… ")
	}
	for _, e := range page {
		fmt.Fprintf(&b, "%d:%s ", e.cursor, e.match.name)
	}
	return b.String()
}

// TestCollectAgreesWithThePlainLog publishes at random and compares what
// subscribers of every kind get from every cursor.
func TestCollectAgreesWithThePlainLog(t *testing.T) {
	t.Parallel()
	for seed := range uint64(80) {
		chance := rand.New(rand.NewPCG(seed, 0))
		now := time.Unix(1_800_000_000, 0)
		s, err := New(Config{
			Now:       func() time.Time { return now },
			QueueSize: 1 + chance.IntN(30),
			PageSize:  1 + chance.IntN(13),
			OneCopy:   seed%4 == 3,
			Seed:      seed,
		})
		if err != nil {
			t.Fatal(err)
		}
		want := plainLog{queueSize: s.cfg.QueueSize, pageSize: s.cfg.PageSize, oneCopy: s.cfg.OneCopy,
			groups: make(map[string][]*message), gone: make(map[string]int64), members: make(map[string]map[string]bool)}
		channels := []string{"u", "u.a", "u.a.x", "u.a.y", "u.b.x", "u.a.x.z", "v.a"}
		some := func(of []string, oneIn int) (picked []string) {
			for _, name := range of {
				if chance.IntN(oneIn) == 0 {
					picked = append(picked, name)
				}
			}
			return picked
		}
		for step := range 120 {
			now = now.Add(time.Duration(chance.IntN(300)) * time.Microsecond)
			if chance.IntN(10) == 0 {
				g, add, remove := []string{"g", "h"}[chance.IntN(2)], some(channels, 2), some(channels, 4)
				s.register(g, add, remove)
				want.register(g, add, remove)
			}
			d := &draft{message: message{payload: []byte("1"), unstored: chance.IntN(4) == 0}}
			s.publish(channels[chance.IntN(len(channels))], d)
			want.publish(&d.message)
			sub := subscription{some(channels, 4), some([]string{"u.*", "u.a.*", "v.*", "w.*"}, 4), some([]string{"g", "h", "i"}, 3)}
			cursor := want.all[chance.IntN(len(want.all))].cursor - int64(chance.IntN(2))
			got := describe(s.collect(sub, cursor, s.cfg.QueueSize))
			if want := describe(want.collect(sub, cursor)); got != want {
				t.Fatalf("seed %d, step %d: collect(%+v, %d) = %s, want %s", seed, step, sub, cursor, got, want)
			}
		}
		if !slices.IsSortedFunc(want.all, func(a, b *message) int { return int(a.cursor - b.cursor) }) {
			t.Errorf("seed %d: cursors do not rise", seed)
		}
	}
}

// TestEvictionLeavesNothing checks the books of a server that forgets all the
// time: because of the bound on all messages, and only because of those on queues.
func TestEvictionLeavesNothing(t *testing.T) {
	t.Parallel()
	t.Run("by all bounds", func(t *testing.T) { evictionLeavesNothing(t, 40) })
	t.Run("by bounds of queues", func(t *testing.T) { evictionLeavesNothing(t, 200_000) })
}

func evictionLeavesNothing(t *testing.T, maxMessages int) {
	chance := rand.New(rand.NewPCG(1, 1))
	s, err := New(Config{QueueSize: 7, HistoryLimit: 5, MaxMessages: maxMessages})
	if err != nil {
		t.Fatal(err)
	}
	member := func() string { return fmt.Sprintf("u.%d.%d", chance.IntN(9), chance.IntN(9)) }
	for i := range 20_000 {
		if i%50 == 0 {
			s.register(fmt.Sprintf("g%d", chance.IntN(4)), []string{member(), member(), member()}, []string{member(), member()})
		}
		s.publish(fmt.Sprintf("u.%d.%d", chance.IntN(9), chance.IntN(9)), &draft{
			message: message{payload: make([]byte, chance.IntN(50)), unstored: chance.IntN(3) == 0},
			late:    time.Duration(chance.IntN(2)*chance.IntN(50)) * time.Millisecond,
		})
	}
	alive := make(map[*message]int)
	for _, topics := range []map[string]*topic{s.log.channels, s.log.wildcards, s.log.groups} {
		for _, tp := range topics {
			for _, m := range append(slices.Clone(tp.live.all()), tp.stored.all()...) {
				alive[m]++
			}
			if !slices.IsSortedFunc(tp.stored.all(), func(a, b *message) int { return int(a.timetoken - b.timetoken) }) {
				t.Errorf("history of %s is not in order", tp.name)
			}
			if tp.live.len() > 7 || tp.stored.len() > 5 {
				t.Errorf("topic %s holds %d live, %d stored, want at most 7, 5", tp.name, tp.live.len(), tp.stored.len())
			}
		}
	}
	bytes := int64(0)
	for m, n := range alive {
		bytes += m.size()
		if m.refs != n {
			t.Errorf("message %d: refs = %d, want %d", m.cursor, m.refs, n)
		}
	}
	if s.log.held != len(alive) || s.log.bytes != bytes || len(alive) > maxMessages {
		t.Errorf("held %d, %d bytes; want %d, %d bytes, at most %d", s.log.held, s.log.bytes, len(alive), bytes, maxMessages)
	}
	if n := s.log.order.len(); n > 2*len(alive)+1025 {
		t.Errorf("order holds %d references to %d messages", n, len(alive))
	}
	for s.log.held > 0 {
		s.log.evict()
	}
	if n := len(s.log.channels) + len(s.log.wildcards); n != 0 {
		t.Errorf("topics after the last message = %d, want 0", n)
	}
	for _, g := range slices.Collect(maps.Keys(s.log.groups)) {
		s.unregister(g)
	}
	if n := len(s.log.groups) + len(s.log.groupsOf); n != 0 {
		t.Errorf("groups and memberships after the last channel left = %d, want 0", n)
	}
}
