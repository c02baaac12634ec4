package stream

import (
	"context"
	"testing"
	"time"
)

// TestStalledConsumers brings every consumer to a stand, as a server's replica does that
// does not catch up any more: it says that it is there, and has nothing. Whoever
// follows gets another one.
func TestStalledConsumers(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	w := acquire(t, l, 0)
	f := follow(t, l, 0, FollowOptions{})
	f.next(t, KindStart)
	out := followOutbox(t, l)
	announced, ordered := make(chan string, 100), make(chan Order, 100)
	ctx, cancel := context.WithCancel(context.Background())
	ends := make(chan error, 2)
	go func() {
		ends <- l.FollowAnnouncements(ctx, func(frame []byte, _ time.Time) { announced <- string(frame) })
	}()
	go func() { ends <- l.FollowOrders(ctx, func(o Order) { ordered <- o }, func() {}) }()
	defer func() {
		cancel()
		for range 2 {
			if err := <-ends; err != nil {
				t.Errorf("following ended with %v", err)
			}
		}
	}()

	appendAll(t, w, alice, 0, 1)
	f.events(t, 1)
	submit(t, l, alice, 0, 1)
	settle(t, l, out.want(t, 0)...)
	await(t, "a consumer of announcements and one of orders", func() bool {
		return pauseAll(t, l, announcementsStream) > 0 && pauseAll(t, l, kvStream(stateBucket)) > 0
	})
	pauseAll(t, l, eventsStream(0))
	pauseAll(t, l, outboxStream)

	appendAll(t, w, alice, 1, 3)
	submit(t, l, alice, 1, 3)
	if _, err := l.Announce(t.Context(), "id:1", []byte(`{"n":1}`)); err != nil {
		t.Fatal(err)
	}
	if err := l.Command(t.Context(), alice, Order{At: time.Now(), RevokedBefore: time.Now()}); err != nil {
		t.Fatal(err)
	}
	f.events(t, 2)
	out.want(t, 1, 2)
	for what, came := range map[string]func() bool{
		"the announcement": func() bool { return len(announced) > 0 },
		"the order":        func() bool { return len(ordered) > 0 },
	} {
		await(t, what, came)
	}
}

// pauseAll pauses the consumers of a stream for a long time, and counts them.
func pauseAll(t *testing.T, l *Log, stream string) (n int) {
	t.Helper()
	s, err := l.js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	for c := range s.ListConsumers(t.Context()).Info() {
		if _, err := l.js.PauseConsumer(t.Context(), stream, c.Name, time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}
