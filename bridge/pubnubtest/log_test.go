package pubnubtest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// A plain log is what messageLog and collect must agree with: all messages in
// one slice, and no bound on memory.
type plainLog []*message

// collect returns the copies that a subscriber gets, slowly.
func (l plainLog) collect(sub subscription, groups map[string]*group, cursor int64, queueSize, pageSize int) (found []entry) {
	for _, m := range l {
		if m.cursor <= cursor {
			continue
		}
		name := m.ch.name
		for _, c := range sub.channels {
			if c == name {
				found = append(found, entry{message: m, match: &topic{name: c}})
			}
		}
		for _, w := range sub.wildcards {
			if strings.HasPrefix(name, strings.TrimSuffix(w, "*")) && strings.Count(name, ".") <= 2 {
				found = append(found, entry{message: m, match: &topic{name: w}})
			}
		}
		for _, g := range sub.groups {
			if since, in := groups[g].channels[name]; in && m.cursor > since {
				found = append(found, entry{message: m, match: &topic{name: name}, label: groups[g].quoted})
			}
		}
	}
	found = found[max(0, len(found)-queueSize):]
	if len(found) > pageSize {
		n := pageSize
		for n > 0 && found[n-1].message == found[n].message {
			n--
		}
		found = found[:n]
	}
	return found
}

func describe(page []entry) string {
	var b strings.Builder
	for _, e := range page {
		fmt.Fprintf(&b, "%d:%s:%s ", e.cursor, e.match.name, e.label)
	}
	return b.String()
}

// TestCollectAgreesWithThePlainLog publishes at random and compares what
// subscribers of every kind get from every cursor.
func TestCollectAgreesWithThePlainLog(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		chance := rand.New(rand.NewPCG(seed, 0))
		now := time.Unix(1_800_000_000, 0)
		s, err := New(Config{
			Now:       func() time.Time { return now },
			QueueSize: 1 + chance.IntN(30),
			PageSize:  4 + chance.IntN(10),
			Seed:      seed,
		})
		if err != nil {
			t.Fatal(err)
		}
		var all plainLog
		channels := []string{"u", "u.a", "u.a.x", "u.a.y", "u.b.x", "u.a.x.z", "v.a"}
		for step := range 120 {
			now = now.Add(time.Duration(chance.IntN(300)) * time.Microsecond)
			if step%40 == 10 {
				s.register("g", channels[chance.IntN(3):chance.IntN(3)+3], channels[:1])
				s.register("h", channels[2:3], nil)
			}
			d := &draft{message: message{payload: []byte("1"), unstored: chance.IntN(4) == 0}}
			s.publish(channels[chance.IntN(len(channels))], d)
			all = append(all, &d.message)
			sub := subscription{}
			for _, c := range channels {
				if chance.IntN(4) == 0 {
					sub.channels = append(sub.channels, c)
				}
			}
			for _, w := range []string{"u.*", "u.a.*", "v.*", "w.*"} {
				if chance.IntN(4) == 0 {
					sub.wildcards = append(sub.wildcards, w)
				}
			}
			for _, g := range []string{"g", "h"} {
				if s.groups[g] != nil && chance.IntN(4) == 0 {
					sub.groups = append(sub.groups, g)
				}
			}
			cursor := all[chance.IntN(len(all))].cursor - int64(chance.IntN(2))
			got := describe(s.collect(sub, cursor, s.cfg.QueueSize))
			want := describe(all.collect(sub, s.groups, cursor, s.cfg.QueueSize, s.cfg.PageSize))
			if got != want {
				t.Fatalf("seed %d, step %d: collect(%+v, %d) = %s, want %s", seed, step, sub, cursor, got, want)
			}
		}
		if !slices.IsSortedFunc(all, func(a, b *message) int { return int(a.cursor - b.cursor) }) {
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
	for range 20_000 {
		s.publish(fmt.Sprintf("u.%d.%d", chance.IntN(9), chance.IntN(9)), &draft{
			message: message{payload: make([]byte, chance.IntN(50)), unstored: chance.IntN(3) == 0},
			late:    time.Duration(chance.IntN(2)*chance.IntN(50)) * time.Millisecond,
		})
	}
	alive := make(map[*message]int)
	for _, topics := range []map[string]*topic{s.log.channels, s.log.wildcards} {
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
}
