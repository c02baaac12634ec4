package stream

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// freeLease makes shard 0's lease free while its holder lives, as if it had
// run out here and now.
func freeLease(t *testing.T, l *Log) {
	t.Helper()
	rec, rev, err := l.readLease(t.Context(), "shard.0")
	if err != nil {
		t.Fatal(err)
	}
	rec.Holder = ""
	if _, err := l.swap(t.Context(), leasesBucket, "shard.0", rec, rev); err != nil {
		t.Fatal(err)
	}
}

func TestLeaseGivenBackIsFreeAtOnce(t *testing.T) {
	t.Parallel()
	l := openLog(t, listening)
	other := remote(t, l.ClientURL(), "other", nil)
	w := acquire(t, l, 0)
	appendAll(t, w, alice, 0, 10)
	if err := w.Close(t.Context()); err != nil {
		t.Fatalf("Close() = %v", err)
	}
	if err := w.Append(t.Context(), event(alice, 10)); !errors.Is(err, ErrClosed) {
		t.Errorf("Append after Close = %v, want %v", err, ErrClosed)
	}
	ctx, cancel := context.WithTimeout(t.Context(), leaseTTL)
	defer cancel()
	next, err := other.Acquire(ctx, 0)
	if err != nil {
		t.Fatalf("Acquire of a lease that was given back = %v", err)
	}
	defer next.Close(context.Background())
	appendAll(t, next, alice, 10, 20)
	wantNumbers(t, stored(t, l, 0), 20)
}

func TestLeaseIsHeldAgainstOthers(t *testing.T) {
	t.Parallel()
	l := openLog(t, listening)
	w := acquire(t, l, 0)
	ctx, cancel := context.WithTimeout(t.Context(), leaseTTL+2*leaseRenew)
	defer cancel()
	if _, err := remote(t, l.ClientURL(), "other", nil).Acquire(ctx, 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Acquire of a lease that is held = %v, want %v", err, context.DeadlineExceeded)
	}
	if err := w.Err(); err != nil {
		t.Errorf("Err() of the holder = %v", err)
	}
}

func TestTakeOverAfterCrashOfOtherNode(t *testing.T) {
	t.Parallel()
	l := openLog(t, listening)
	w := acquire(t, remote(t, l.ClientURL(), "crashed", nil), 0)
	appendAll(t, w, alice, 0, 10)
	w.fail(ErrClosed) // no release
	<-w.Done()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // the promise
	defer cancel()
	next, err := l.Acquire(ctx, 0)
	if err != nil {
		t.Fatalf("Acquire after a crash = %v, want it within 5s", err)
	}
	defer next.Close(context.Background())
	appendAll(t, next, alice, 10, 20)
	wantNumbers(t, stored(t, l, 0), 20)
}

func TestCheckpointMovesByCompareAndSet(t *testing.T) {
	t.Parallel()
	l := openLog(t, listening)
	w := acquire(t, l, 0)
	b := bookmark(t, w)
	if got := b.Saved(); got.Timetoken != "" || got.Seq != 0 {
		t.Errorf("Saved() of a new log = %+v", got)
	}
	appendAll(t, w, alice, 0, 5)
	for _, timetoken := range []string{"17954373395308042", "17954373395308043"} {
		if err := b.Save(t.Context(), timetoken, 7, json.RawMessage(`{"owed":1}`)); err != nil {
			t.Fatalf("Save(%s) = %v", timetoken, err)
		}
	}
	want := b.Saved()
	if want.Timetoken != "17954373395308043" || want.Region != 7 || want.Seq != w.Stats().Last.Seq || want.Hlc != w.Stats().Last.Hlc {
		t.Errorf("Saved() = %+v, stats %+v", want, w.Stats())
	}
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := acquire(t, l, 0)
	b = bookmark(t, next)
	if got := b.Saved(); got.Timetoken != want.Timetoken || got.Seq != want.Seq || got.Hlc != want.Hlc || string(got.Note) != `{"owed":1}` {
		t.Errorf("Saved() of the next writer = %+v, want %+v", got, want)
	}
	// Somebody else moves it under the writer's feet.
	if _, err := l.js.Publish(t.Context(), "$KV."+checkpointsBucket+".shard.0", []byte(`{"timetoken":"1","epoch":99}`)); err != nil {
		t.Fatal(err)
	}
	if err := b.Save(t.Context(), "17954373395308044", 7, nil); !errors.Is(err, ErrDeposed) {
		t.Errorf("Save over somebody else's = %v, want %v", err, ErrDeposed)
	}
}

func TestSecondEdgeOfOneNameIsRefused(t *testing.T) {
	t.Parallel()
	l := openLog(t, listening)
	acquire(t, l, 0)
	first := remote(t, l.ClientURL(), "edge-1", nil)
	f := follow(t, first, 0, FollowOptions{})
	f.next(t, KindStart)
	second := remote(t, l.ClientURL(), "edge-1", nil)
	if err := second.Follow(t.Context(), 0, FollowOptions{}, func(*Record) {}); !errors.Is(err, errNodeTaken) {
		t.Errorf("Follow under a name that is in use = %v, want %v", err, errNodeTaken)
	}
	other := remote(t, l.ClientURL(), "edge-2", nil)
	follow(t, other, 0, FollowOptions{}).next(t, KindStart)
}

func TestNodeNameIsGivenBack(t *testing.T) {
	t.Parallel()
	l := openLog(t, listening)
	acquire(t, l, 0)
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), leaseTTL)
		edge := remote(t, l.ClientURL(), "edge-1", nil)
		started := false
		if err := edge.Follow(ctx, 0, FollowOptions{}, func(*Record) { started = true; cancel() }); err != nil || !started {
			t.Errorf("Follow after the last of that name ended = %v, started %v", err, started)
		}
		cancel()
	}
}

func bookmark(t *testing.T, w *Writer) *Bookmark {
	t.Helper()
	b, err := w.Bookmark(t.Context(), "")
	if err != nil {
		t.Fatalf("Bookmark() = %v", err)
	}
	return b
}

// TestNodeNameWaitsForTheBucket has the leases' bucket refuse to write for a while: that
// is nobody else who follows under the name.
func TestNodeNameWaitsForTheBucket(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	s, err := l.js.Stream(t.Context(), kvStream(leasesBucket))
	if err != nil {
		t.Fatal(err)
	}
	open := s.CachedInfo().Config
	full := open
	full.Discard, full.MaxBytes = jetstream.DiscardNew, 1
	if _, err := l.js.UpdateStream(t.Context(), full); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	started := make(chan struct{})
	go func() {
		ended <- l.Follow(ctx, 0, FollowOptions{}, func(r *Record) {
			if r.Kind == KindStart {
				close(started)
			}
		})
	}()
	select {
	case err := <-ended:
		t.Fatalf("Follow() = %v while the bucket could not be written", err)
	case <-started:
		t.Fatal("the shard is followed without a lease")
	case <-time.After(time.Second):
	}
	if _, err := l.js.UpdateStream(t.Context(), open); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		t.Fatalf("Follow() = %v", err)
	case <-started:
	case <-time.After(30 * time.Second):
		t.Fatal("the shard is not followed although the bucket can be written")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Follow() = %v, want nil", err)
	}
}
