package stream

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

func TestAsk(t *testing.T) {
	t.Parallel()
	l := openLog(t, func(c *Config) { listening(c); c.Shards = 2 })
	other := remote(t, l.ClientURL(), "other", nil)
	if _, err := other.Ask(t.Context(), 1, nil); !errors.Is(err, ErrNoWriter) {
		t.Errorf("Ask without a writer = %v, want %v", err, ErrNoWriter)
	}
	for shard := range 2 {
		w := acquire(t, l, shard)
		stop, err := w.Answer(func(_ context.Context, request []byte) []byte {
			return fmt.Appendf(nil, "%d: %s", shard, request)
		})
		if err != nil {
			t.Fatalf("Answer() = %v", err)
		}
		got, err := other.Ask(t.Context(), shard, []byte("hello"))
		if want := fmt.Sprintf("%d: hello", shard); err != nil || string(got) != want {
			t.Errorf("Ask(%d) = %q, %v, want %q", shard, got, err, want)
		}
		stop()
		stop() // harmless
		if _, err := other.Ask(t.Context(), shard, nil); !errors.Is(err, ErrNoWriter) {
			t.Errorf("Ask after stop = %v, want %v", err, ErrNoWriter)
		}
		if err := w.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Answer(nil); !errors.Is(err, ErrClosed) {
			t.Errorf("Answer of a writer that has ended = %v, want %v", err, ErrClosed)
		}
	}
	if _, err := other.Ask(t.Context(), 2, nil); err == nil || errors.Is(err, ErrNoWriter) {
		t.Errorf("Ask of a shard that is none = %v", err)
	}
}

func TestAnswersAreBoundedAndDrained(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	w := acquire(t, l, 0)
	began, goOn := make(chan struct{}, 100), make(chan struct{})
	stop, err := w.Answer(func(_ context.Context, request []byte) []byte {
		began <- struct{}{}
		<-goOn
		return request
	})
	if err != nil {
		t.Fatal(err)
	}
	const n = 2*answersMost + 1
	answers := make(chan *nats.Msg, n)
	inbox := nats.NewInbox()
	sub, err := l.nc.ChanSubscribe(inbox, answers)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe()
	for i := range n {
		if err := l.nc.PublishRequest(askSubject(0), inbox, []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	for range answersMost {
		<-began
	}
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	if err := l.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-began:
		t.Errorf("more than %d calls are under way", answersMost)
	case <-stopped:
		t.Error("stop has not waited")
	default:
	}
	close(goOn)
	<-stopped
	for i := range n {
		select {
		case <-answers:
		case <-time.After(30 * time.Second):
			t.Fatalf("%d answers to %d requests", i, n)
		}
	}
}

func TestAskOfAWriterThatEnds(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	w := acquire(t, l, 0)
	began := make(chan struct{})
	if _, err := w.Answer(func(ctx context.Context, request []byte) []byte {
		close(began)
		<-ctx.Done()
		return request
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan error, 1)
	go func() {
		_, err := l.Ask(ctx, 0, nil)
		answered <- err
	}()
	<-began
	w.fail(ErrDeposed)
	<-w.Done() // and the call has ended
	if len(answered) != 0 {
		t.Fatalf("Ask of who was deposed meanwhile = %v, want no answer", <-answered)
	}
	cancel()
	if err := <-answered; !errors.Is(err, context.Canceled) || errors.Is(err, ErrNoWriter) {
		t.Errorf("Ask that was given up = %v, want %v", err, context.Canceled)
	}
}
