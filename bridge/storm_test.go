package bridge

import (
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"reprise/bridge/pubnubtest"
	"reprise/stream"
)

// cutter is a way to a NATS server that is cut now and then.
type cutter struct {
	net.Listener
	to string

	mu    sync.Mutex
	conns []net.Conn
}

func newCutter(t *testing.T, to string) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{Listener: l, to: to}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			c.mu.Lock()
			c.conns = append(c.conns, in, out)
			c.mu.Unlock()
			for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
				all.Go(func() {
					io.Copy(way[0], way[1])
					way[0].Close()
					way[1].Close()
				})
			}
		}
	})
	t.Cleanup(func() { l.Close(); c.cut(); all.Wait() })
	return c
}

// cut resets every connection that there is.
func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}

// TestStorm carries 100,000 messages while three in ten polls fail, in every
// way there is, and the way to the log is cut again and again: each is in the
// log once, and each channel's in order.
func TestStorm(t *testing.T) {
	t.Parallel()
	const n, users = 100_000, 50
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := newRig(t, 2, pubnubtest.Config{OmitFields: 0.3, Seed: seed, RoundTrip: time.Millisecond, PollTimeout: 200 * time.Millisecond})
	r.follow()
	way := newCutter(t, strings.TrimPrefix(r.log.ClientURL(), "nats://"))
	log, err := stream.Open(testContext(t), stream.Config{URL: "nats://" + way.Addr().String(), Node: "cut"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	r.cfg.Log, r.cfg.HistoryRate, r.cfg.PollTimeout = log, 1000, 400*time.Millisecond
	stop := r.start()
	faults := append(faultKinds(0), pubnubtest.Fault{Kind: pubnubtest.Hold, Endpoint: pubnubtest.Poll})
	var injected []*pubnubtest.Injection
	for _, f := range faults {
		f.Probability = 0.3 / float64(len(faults))
		injected = append(injected, r.pubnub.Inject(f))
	}
	chance := rand.New(rand.NewPCG(seed, 1))
	ended := make(chan struct{})
	var cutting sync.WaitGroup
	cutting.Go(func() {
		for {
			select {
			case <-ended:
				return
			case <-time.After(time.Duration(2000+chance.IntN(4000)) * time.Millisecond):
				way.cut()
			}
		}
	})
	r.publishNumbered(0, n, users)
	var all []stream.Record
	for len(all) < n {
		select {
		case rec := <-r.seen:
			all = append(all, rec)
		case <-time.After(patience):
			t.Fatalf("%d events, want %d", len(all), n)
		}
	}
	close(ended)
	cutting.Wait()
	checkNumbered(t, all, n)
	r.pubnub.ClearFaults()
	r.settled()
	r.noMore(userN(0))
	stop()
	hits := 0
	for _, i := range injected {
		hits += i.Hits()
	}
	s := r.b.Stats()
	t.Logf("%d faults, %d of %d polls failed; %+v", hits, s.FailedPolls, s.Polls, s)
	if hits < 100 || s.Gaps != 0 {
		t.Errorf("%d faults, %d gaps, want many and none", hits, s.Gaps)
	}
}
