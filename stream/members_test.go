package stream

import (
	"context"
	"testing"
	"time"
)

func TestJoinCountsWhoIsThere(t *testing.T) {
	t.Parallel()
	l := openLog(t, listening)
	other := openLog(t, func(c *Config) { c.URL, c.DataDir, c.Node = l.ClientURL(), "", "other" })
	join := func(l *Log) (counts chan int, leave func()) {
		ctx, cancel := context.WithCancel(context.Background())
		counts = make(chan int, 100)
		done := make(chan struct{})
		go func() {
			defer close(done)
			l.Join(ctx, func(n int) { counts <- n })
		}()
		leave = func() { cancel(); <-done }
		t.Cleanup(leave)
		return counts, leave
	}
	wait := func(counts chan int, want int) {
		t.Helper()
		for late := time.After(30 * time.Second); ; {
			select {
			case n := <-counts:
				if n == want {
					return
				}
			case <-late:
				t.Fatalf("Join() never counted %d", want)
			}
		}
	}
	first, _ := join(l)
	wait(first, 1)
	second, leave := join(other)
	wait(second, 2)
	wait(first, 2)
	leave()
	wait(first, 1)
}
