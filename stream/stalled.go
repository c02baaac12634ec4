package stream

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// stallEvery is how often it is looked whether a consumer delivers what there is. One
// that has delivered nothing since the time before, when there was more, is stalled.
const stallEvery = 4 * time.Second

// errStalled says that a consumer does not deliver what its stream has.
var errStalled = errors.New("the consumer delivers nothing, and its stream has more")

// untilStalled ends the returned context, with the cause errStalled, when a consumer
// has come to a stand: at is the newest record that it has delivered, end asks for the
// newest that it should. A consumer says that it is there and has nothing when the
// replica of the server that leads it does not catch up with the stream any more, as
// servers were seen to do after a full disk. release must be called.
func (l *Log) untilStalled(ctx context.Context, at *atomic.Uint64, end func(context.Context) (uint64, error)) (same context.Context, release func()) {
	same, cut := context.WithCancelCause(ctx)
	go func() {
		tick := time.NewTicker(stallEvery)
		defer tick.Stop()
		behind, was := false, uint64(0)
		for {
			select {
			case <-tick.C:
			case <-same.Done():
				return
			}
			now := at.Load()
			if behind && now == was {
				cut(errStalled)
				return
			}
			newest, err := end(same)
			behind, was = err == nil && now < newest, now
		}
	}()
	return same, func() { cut(nil) }
}

// lastOn is the sequence of the newest message of a stream on subjects that filter
// matches, as the stream's leader knows it; 0 is none.
func (l *Log) lastOn(ctx context.Context, stream, filter string) (uint64, error) {
	m, err := l.leaderGet(ctx, stream, msgGet{LastFor: filter})
	if errors.Is(err, errNoMessage) {
		return 0, nil
	}
	return m.Seq, err
}
