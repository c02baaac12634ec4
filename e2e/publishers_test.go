package e2e

import (
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"reprise/bridge/pubnubtest"
)

// TestManyPublishers lets 20 publishers publish at once, to five users with two
// devices each. Each publisher's order is kept.
func TestManyPublishers(t *testing.T) {
	t.Parallel()
	const users, publishers, each = 5, 20, 50
	pubnub := emulator(t)
	run := newRun(t, serve(t, pubnub.Addr()))
	for u := range users {
		for d := range 2 {
			run.device(userNo(u), deviceNo(10*u+d)).connect("latest").caughtUp()
		}
	}
	parallel(publishers, func(i int) {
		p := run.publisher(pubnub.Addr())
		for n := range each {
			p.publish(progress(userNo(i%users), deviceNo(90), i*1000+n))
		}
	})
	run.judge(pubnub.Addr())
}

// TestDuplicatesFromPubNub makes PubNub deliver batches again: what they hold is
// relayed once.
func TestDuplicatesFromPubNub(t *testing.T) {
	t.Parallel()
	const repeats = 5
	pubnub := emulator(t)
	relay := serve(t, pubnub.Addr())
	run := newRun(t, relay)
	user := userNo(1)
	c := run.device(user, deviceNo(1)).connect("latest")
	c.caughtUp()
	again := pubnub.Inject(pubnubtest.Fault{Kind: pubnubtest.Replay, Times: repeats})
	p := run.publisher(pubnub.Addr())
	for i := range 100 {
		p.publish(progress(user, deviceNo(9), i))
	}
	if err := again.WaitHits(within(t), repeats); err != nil {
		t.Fatalf("WaitHits(%d) = %v, want nil", repeats, err)
	}
	c.await("100 events", ofType("progress_update", 100))
	run.judge(pubnub.Addr())
	if got := relay.metric(`reprise_bridge_messages_total{result="duplicate"}`); got == 0 {
		t.Errorf("duplicates counted = %v, want some", got)
	}
}

// TestBurst lets PubNub have thousands of events at once, which reach the relay
// in pages as fast as it takes them, while ten devices listen.
func TestBurst(t *testing.T) {
	t.Parallel()
	const users, events = 2, 10_000
	pubnub := emulator(t)
	run := newRun(t, serve(t, pubnub.Addr()))
	for u := range users {
		for d := range 5 {
			run.device(userNo(u), deviceNo(10*u+d)).connect("latest").caughtUp()
		}
	}
	for n := range events {
		m := progress(userNo(n%users), deviceNo(90), n)
		record := &Publish{Publisher: "burst", Channel: m.channel, User: m.user, Fate: Event, Frame: m.frame, Sent: time.Now().UnixNano()}
		record.Timetoken = strconv.FormatInt(pubnub.Publish(m.channel, []byte(m.payload)), 10)
		run.record(record)
	}
	run.judge(pubnub.Addr())
}

// keepPublishing publishes perSecond messages a second, from four publishers of
// which each has users of its own, until stop is called.
func (r *run) keepPublishing(origin string, users, perSecond int) (stop func()) {
	const publishers = 4
	ended, published := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(published)
		parallel(publishers, func(i int) {
			p := r.publisher(origin)
			tick := time.NewTicker(publishers * time.Second / time.Duration(perSecond))
			defer tick.Stop()
			began := time.Now()
			for n := 0; ; {
				select {
				case <-ended:
					return
				case <-tick.C:
				}
				for due := int(time.Since(began).Seconds() * float64(perSecond/publishers)); n < due; n++ {
					user := userNo(i + publishers*(n%(users/publishers)))
					m := progress(user, deviceNo(90+i), n)
					if n%5 == 4 {
						m = notice(user, fmt.Sprint(i, " says ", n))
					}
					p.publish(m)
				}
			}
		})
	}()
	return sync.OnceFunc(func() { close(ended); <-published })
}
