package stream

import (
	"context"
	"testing"
	"time"

	"reprise/hlc"
)

// TestLeaderWithoutMajorityTellsNoFuture leaves the stream's leader alone: for some
// seconds it still answers for the log, but the others might have gone on. Nobody is
// told that his cursor is from the future, or that the log is another one.
func TestLeaderWithoutMajorityTellsNoFuture(t *testing.T) {
	t.Parallel()
	servers := runCluster(t)
	all := clustered(t, "writer", servers...)
	w := acquire(t, all, 0)
	appendAll(t, w, alice, 0, 10)
	s, err := all.js.Stream(t.Context(), eventsStream(0))
	if err != nil {
		t.Fatal(err)
	}
	leader := s.CachedInfo().Cluster.Leader
	var edge *Log
	for _, ns := range servers {
		if ns.Name() == leader {
			edge = clustered(t, "edge", ns)
		}
	}
	f := follow(t, edge, 0, FollowOptions{})
	f.next(t, KindStart)
	future := hlc.New(time.Now().Add(time.Hour).UnixMilli(), 0)
	if _, reason, err := edge.Resume(t.Context(), alice, future, 0); err != nil || reason != FutureCursor {
		t.Fatalf("Resume(an hour ahead) = %q, %v, want %q", reason, err, FutureCursor)
	}
	for _, ns := range servers {
		if ns.Name() != leader {
			ns.Shutdown()
		}
	}
	<-time.After(sureWithin) // it cannot know before
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); <-time.After(100 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, reason, err := edge.Resume(ctx, alice, future, 0)
		cancel()
		if err == nil {
			t.Fatalf("Resume(an hour ahead) = %q while the leader is alone, want an error", reason)
		}
	}
	for len(f.records) > 0 {
		if r := <-f.records; r.Kind == KindReset {
			t.Errorf("the follower was told of a reset: %+v", r)
		}
	}
}
