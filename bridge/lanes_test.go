package bridge

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

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
		r.t.Fatalf("%d users have a place, want %d\n%s", places.Load(), n, r.logged.tail())
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
		t.Errorf("an error was logged: %s", r.logged.tail())
	}
}

// TestJoinALaneThatPolls registers a user whose events the feed begins to hand out
// before PubNub's answer says so: what was published before stays before them.
func TestJoinALaneThatPolls(t *testing.T) {
	t.Parallel()
	r := lanesRig(t, 1)
	r.follow()
	r.start()
	r.register(userN(0))
	r.publishNumbered(0, 1, 1)
	r.events(1)
	r.assigned(1)
	publish := func(from, to int) {
		for n := from; n < to; n++ {
			r.pubnub.Publish("user."+userN(1)+".notifications", fmt.Appendf(nil, `{"n":%d}`, n))
		}
	}
	publish(0, 5)
	late := r.pubnub.Inject(pubnubtest.Fault{Kind: pubnubtest.Stall, Endpoint: pubnubtest.Groups, Times: 1})
	r.register(userN(1))
	if err := late.WaitHits(testContext(t), 1); err != nil {
		t.Fatal(err)
	}
	publish(5, 10)
	r.noMore(userN(0)) // which the same poll hands out behind them
	late.Clear()
	checkNumbered(t, r.events(10), 10)
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
