package bridge

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"reprise/bridge/pubnubtest"
	"reprise/stream"
)

// lanesRig is a rig whose bridge carries users by channel groups.
func lanesRig(t *testing.T, shards int) *rig {
	t.Helper()
	r := newRig(t, shards, pubnubtest.Config{})
	r.cfg.Lanes, r.cfg.Channels, r.cfg.HistoryRate = true, []string{broadcastChannel}, 5000
	return r
}

func (r *rig) register(users ...string) {
	r.t.Helper()
	group, ctx := errgroup.WithContext(testContext(r.t))
	group.SetLimit(32)
	for _, user := range users {
		group.Go(func() error { return r.log.Register(ctx, user) })
	}
	if err := group.Wait(); err != nil {
		r.t.Fatalf("Register() = %v", err)
	}
}

// assigned waits until every user has a place in a lane.
func (r *rig) assigned(n int) {
	r.t.Helper()
	var places atomic.Int64
	for shard := range r.log.Shards() {
		ctx := r.t.Context()
		go r.log.FollowRegistrations(ctx, shard, func(g stream.Registration) {
			if g.Lane != stream.NoLane {
				places.Add(1)
			}
		}, func() {})
	}
	if !until(5*patience, func() bool { return int(places.Load()) >= n }) {
		r.t.Fatalf("%d users have a place, want %d", places.Load(), n)
	}
}

// TestLanes registers users while their events are being published: each has
// every event since, once and in order, over a restart of the bridge too, and
// announcements come to everyone once.
func TestLanes(t *testing.T) {
	t.Parallel()
	r := lanesRig(t, 2)
	r.follow()
	announced := r.followAnnouncements()
	stop := r.start()
	const users = 40
	var names []string
	for i := range users {
		names = append(names, userN(i))
	}
	r.register(names...)
	r.publishNumbered(0, 10*users, users)
	all := r.events(10 * users)
	r.assigned(users)
	r.publishNumbered(10*users, 5*users, users)
	all = append(all, r.events(5*users)...)
	r.pubnub.Publish(broadcastChannel, []byte(`{"x":1}`))
	if got := <-announced; got != `{"type":"announcement","data":{"x":1}}` {
		t.Errorf("announcement %s", got)
	}
	stop()
	r.publishNumbered(15*users, 5*users, users)
	r.start()
	all = append(all, r.events(5*users)...)
	r.pubnub.Publish("user."+userN(users)+".sync", []byte(`{"of":"somebody who is not registered"}`))
	r.register(userN(users + 1))
	r.pubnub.Publish("user."+userN(users+1)+".notifications", []byte(`{"n":0}`))
	checkNumbered(t, append(all, r.events(1)...), 20*users+1)
	r.noMore(userN(0))
	if strings.Contains(r.logged.String(), "level=ERROR") {
		t.Error("an error was logged")
	}
}

// laneThatPolls is a rig whose bridge polls for one lane, with user 0 in it.
func laneThatPolls(t *testing.T) *rig {
	t.Helper()
	r := lanesRig(t, 1)
	r.follow()
	r.start()
	r.register(userN(0))
	r.assigned(1)
	return r
}

// publishTo publishes the numbers from from on, up to to, for one user.
func (r *rig) publishTo(user string, from, to int) {
	for n := from; n < to; n++ {
		r.pubnub.Publish("user."+user+".notifications", fmt.Appendf(nil, `{"n":%d}`, n))
	}
}

// TestJoinALaneThatPolls registers a user whose events the feed begins to hand out
// before PubNub's answer says so: what was published before stays before them.
func TestJoinALaneThatPolls(t *testing.T) {
	t.Parallel()
	r := laneThatPolls(t)
	r.publishTo(userN(0), 0, 1)
	r.events(1)
	r.publishTo(userN(1), 0, 5)
	late := r.pubnub.Inject(pubnubtest.Fault{Kind: pubnubtest.Stall, Endpoint: pubnubtest.Groups, Times: 1})
	r.register(userN(1))
	if err := late.WaitHits(testContext(t), 1); err != nil {
		t.Fatal(err)
	}
	r.publishTo(userN(1), 5, 10)
	r.noMore(userN(0)) // which the same poll hands out behind them
	late.Clear()
	checkNumbered(t, r.events(10), 10)
}

// TestJobLeavesNewcomers compares what came at the end of a user's events while the
// user joins: nothing of theirs goes into the log before all from the beginning does.
func TestJobLeavesNewcomers(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, pubnubtest.Config{})
	r.follow()
	r.register(userN(0))
	ctx, sh := testContext(t), r.writing(r.bare(), 0)
	tr := r.tracking(sh)
	tr.begin(cursor{ttNow(0), 1})
	r.publishTo(userN(0), 0, 5)
	time.Sleep(floodMargin + cursorSkew)
	from := ttNow(0)
	r.publishTo(userN(0), 5, 10)
	tr.want(userN(0), ttNow(-time.Minute), func(context.Context) error { return nil })
	tr.owe(stretch{From: from}, whyFlood, false)
	if _, err := tr.fillDue(ctx); err != nil {
		t.Fatal(err)
	}
	if n := sh.writer.Stats().Appended; n != 0 || tr.job == nil || !tr.job.confirm {
		t.Errorf("%d events were appended by a job that is now %+v, want none, and a confirmation", n, tr.job)
	}
	tr.joined(userN(0))
	if _, err := tr.fillDue(ctx); err != nil {
		t.Fatal(err)
	}
	checkNumbered(t, r.events(10), 10)
}

// TestJoinThatIsNotConfirmed has PubNub put a user into a group and never say so:
// the user's events are not held back for ever, and the user is assigned in the end.
func TestJoinThatIsNotConfirmed(t *testing.T) {
	t.Parallel()
	r := laneThatPolls(t)
	silent := r.pubnub.Inject(pubnubtest.Fault{Kind: pubnubtest.Hangup, Endpoint: pubnubtest.Groups, AfterWork: true})
	r.register(userN(1))
	if err := silent.WaitHits(testContext(t), 2); err != nil { // the first is carried out by then
		t.Fatal(err)
	}
	r.publishTo(userN(1), 0, 10)
	checkNumbered(t, r.events(10), 10)
	silent.Clear()
	r.assigned(2)
}

// TestLanesFill fills more than one lane: each of 6,700 users has an event that
// is found in the log.
func TestLanesFill(t *testing.T) {
	t.Parallel()
	r := lanesRig(t, 1)
	r.follow()
	r.start()
	const users = 6700
	var names []string
	for i := range users {
		names = append(names, userN(i))
	}
	r.register(names...)
	r.publishNumbered(0, users, users)
	all := r.events(users)
	r.assigned(users)
	r.publishNumbered(users, users, users)
	checkNumbered(t, append(all, r.events(users)...), 2*users)
	if n := r.b.lanes.Load(); n != 2 {
		t.Errorf("%d lanes for %d users, want 2", n, users)
	}
}
