package stream

import (
	"context"
	"errors"
)

// ErrNoWriter says that nobody who writes the shard has answered.
var ErrNoWriter = errors.New("stream: nobody writes the shard at the moment")

// Ask sends a request to whoever writes shard, in whichever process, and
// returns the answer. The bytes are the caller's affair.
func (l *Log) Ask(ctx context.Context, shard int, request []byte) ([]byte, error) { panic("not yet") }

// Answer calls fn, each in a goroutine of its own, for the requests that [Log.Ask] sends to this
// shard, until stop is called or the writer ends. stop waits for calls under way.
func (w *Writer) Answer(fn func(ctx context.Context, request []byte) []byte) (stop func(), err error) {
	panic("not yet")
}
