package stream

import (
	"context"
	"testing"
	"time"
)

// TestFollowingEndsWhileNoConsumerCanBeMade takes the streams away from those who
// follow them, so that every attempt to go on fails: they end all the same when they
// are told to.
func TestFollowingEndsWhileNoConsumerCanBeMade(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		stream string
		follow func(ctx context.Context, l *Log, current func()) error
	}{
		"orders": {kvStream(stateBucket), func(ctx context.Context, l *Log, current func()) error {
			return l.FollowOrders(ctx, func(Order) {}, current)
		}},
		"announcements": {announcementsStream, func(ctx context.Context, l *Log, current func()) error {
			return l.FollowAnnouncements(ctx, func(frame []byte, _ time.Time) { current() })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := openLog(t, nil)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			current, done := make(chan struct{}, 1), make(chan error, 1)
			go func() {
				done <- c.follow(ctx, l, func() {
					select {
					case current <- struct{}{}:
					default:
					}
				})
			}()
			for n, follows := 0, false; !follows; n++ { // an announcement from before is not for it
				if _, err := l.Announce(t.Context(), "id:"+time.Now().String(), []byte("{}")); err != nil {
					t.Fatal(err)
				}
				select {
				case <-current:
					follows = true
				case <-time.After(50 * time.Millisecond):
				}
			}
			if err := l.js.DeleteStream(t.Context(), c.stream); err != nil {
				t.Fatal(err)
			}
			<-time.After(time.Second) // it notices, and tries
			cancel()
			select {
			case err := <-done:
				if err != nil {
					t.Errorf("following ended with %v, want nil", err)
				}
			case <-time.After(30 * time.Second):
				t.Error("following did not end within 30 s of its context")
			}
		})
	}
}
