package bridge

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"reprise/bridge/pubnubtest"
	"reprise/stream"
)

// publishNumbered publishes n notifications, spread over the users, each with
// its number among its user's.
func (r *rig) publishNumbered(from, n, users int) {
	for i := from; i < from+n; i++ {
		r.pubnub.Publish("user."+userN(i%users)+".notifications", fmt.Appendf(nil, `{"n":%d}`, i/users))
	}
}

// checkNumbered fails unless records hold the numbers 0 … of each user in
// order, n in all.
func checkNumbered(t *testing.T, records []stream.Record, n int) {
	t.Helper()
	next := make(map[string]int)
	for _, rec := range records {
		var frame struct {
			Hlc  string
			Data struct{ N int }
		}
		if err := json.Unmarshal(rec.Frame, &frame); err != nil || frame.Hlc != rec.Hlc.String() {
			t.Fatalf("event %s with stamp %s: %v", rec.Frame, rec.Hlc, err)
		}
		if frame.Data.N != next[rec.User] {
			t.Fatalf("user %s has event %d, want %d", rec.User, frame.Data.N, next[rec.User])
		}
		next[rec.User]++
	}
	if len(records) != n {
		t.Fatalf("%d events, want %d", len(records), n)
	}
}

// faultKinds are all faults that a poll can meet, each as often as another.
func faultKinds(probability float64) []pubnubtest.Fault {
	on := func(f pubnubtest.Fault) pubnubtest.Fault {
		f.Endpoint, f.Probability = pubnubtest.Poll, probability
		return f
	}
	faults := []pubnubtest.Fault{
		on(pubnubtest.Fault{Kind: pubnubtest.Hangup}), on(pubnubtest.Fault{Kind: pubnubtest.Hangup, AfterWork: true}),
		on(pubnubtest.Fault{Kind: pubnubtest.Reset}), on(pubnubtest.Fault{Kind: pubnubtest.Garbage}),
		on(pubnubtest.Fault{Kind: pubnubtest.Stall, Delay: 5 * time.Millisecond}), on(pubnubtest.Fault{Kind: pubnubtest.Drip, N: 2000, Delay: time.Millisecond}),
		on(pubnubtest.Fault{Kind: pubnubtest.LongLength}), on(pubnubtest.Fault{Kind: pubnubtest.CutChunks}), on(pubnubtest.Fault{Kind: pubnubtest.CutJSON}),
		on(pubnubtest.Fault{Kind: pubnubtest.NumberCursor}), on(pubnubtest.Fault{Kind: pubnubtest.ZeroCursor}), on(pubnubtest.Fault{Kind: pubnubtest.WideRegion}),
		on(pubnubtest.Fault{Kind: pubnubtest.StringSequence}), on(pubnubtest.Fault{Kind: pubnubtest.Replay}), on(pubnubtest.Fault{Kind: pubnubtest.Backwards, Delay: time.Millisecond}),
		on(pubnubtest.Fault{Kind: pubnubtest.Status, Status: 200, Body: "<html>"}), on(pubnubtest.Fault{Kind: pubnubtest.Status, Status: 200, Body: "{}"}),
		on(pubnubtest.Fault{Kind: pubnubtest.Status, Status: 301, Location: "/elsewhere"}),
	}
	for _, status := range []int{200, 204, 400, 403, 404, 408, 413, 414, 429, 500, 502, 503, 504, 530} {
		faults = append(faults, on(pubnubtest.Fault{Kind: pubnubtest.Status, Status: status}))
	}
	return faults
}

// TestExactlyOnceUnderFaults publishes while a third of all polls fail in every
// way there is, and finds each message once, in order, in a log of four shards.
func TestExactlyOnceUnderFaults(t *testing.T) {
	t.Parallel()
	const n, users = 4000, 23
	r := newRig(t, 4, pubnubtest.Config{OmitFields: 0.3, PageSize: 20})
	r.follow()
	stop := r.start()
	var injected []*pubnubtest.Injection
	for _, f := range faultKinds(0.008) {
		injected = append(injected, r.pubnub.Inject(f))
	}
	for from := 0; from < n; {
		k := min(1+rand.IntN(80), n-from)
		r.publishNumbered(from, k, users)
		from += k
		// A round of the long poll for each burst: many polls, of all sizes.
		if err := r.pubnub.WaitPolls(testContext(t), 1); err != nil {
			t.Fatal(err)
		}
	}
	checkNumbered(t, r.events(n), n)
	r.pubnub.ClearFaults()
	r.noMore(userN(0))
	stop()
	hits := 0
	for _, i := range injected {
		hits += i.Hits()
	}
	s := r.b.Stats()
	t.Logf("%d faults; %+v", hits, s)
	if hits == 0 || s.FailedPolls == 0 {
		t.Errorf("%d faults, %d failed polls, want many", hits, s.FailedPolls)
	}
}

// TestEachFault has every fault happen at the moment when messages wait.
func TestEachFault(t *testing.T) {
	t.Parallel()
	for i, f := range faultKinds(0) {
		t.Run(fmt.Sprintf("%d-%s-%d", i, f.Kind, f.Status), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 1, pubnubtest.Config{})
			r.follow()
			r.start()
			if err := r.pubnub.WaitPolls(testContext(t), 1); err != nil {
				t.Fatal(err)
			}
			r.publishNumbered(0, 10, 2)
			all := r.events(10)
			f.Times = 2
			hit := r.pubnub.Inject(f)
			r.publishNumbered(10, 10, 2)
			if err := hit.WaitHits(testContext(t), 2); err != nil {
				t.Fatal(err)
			}
			r.publishNumbered(20, 10, 2)
			checkNumbered(t, append(all, r.events(20)...), 30)
			r.noMore(userN(0))
		})
	}
}

// TestOutage takes PubNub away and brings it back.
func TestOutage(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, pubnubtest.Config{})
	r.follow()
	r.start()
	r.publishNumbered(0, 50, 3)
	all := r.events(50)
	for round := range 3 {
		r.pubnub.Stop()
		r.publishNumbered(50+50*round, 50, 3)
		if err := r.pubnub.Restart(); err != nil {
			t.Fatal(err)
		}
		all = append(all, r.events(50)...)
	}
	checkNumbered(t, all, 200)
	r.noMore(userN(0))
}

// TestRestart stops the bridge while messages flow, publishes on, and starts
// it again: it goes on from the checkpoint.
func TestRestart(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, pubnubtest.Config{})
	r.follow()
	const rounds, each = 5, 300
	for round := range rounds {
		stop := r.start()
		r.publishNumbered(round*each, each/2, 7)
		stop()
		r.publishNumbered(round*each+each/2, each/2, 7)
	}
	r.start()
	checkNumbered(t, r.events(rounds*each), rounds*each)
	r.noMore(userN(0))
	polled := false // a shard that comes late ends the first handshake, and it is made again
	for _, q := range r.pubnub.Journal() {
		if q.Endpoint == pubnubtest.Handshake && polled {
			t.Errorf("request %d is a handshake, and there is a cursor: %s", q.N, q.URI)
		}
		polled = polled || q.Endpoint == pubnubtest.Poll
		switch q.Endpoint {
		case pubnubtest.Handshake, pubnubtest.Poll, pubnubtest.MessageCounts, pubnubtest.History:
		default:
			t.Errorf("request %d is a %s: %s", q.N, q.Endpoint, q.URI)
		}
	}
}

// TestNoPollBeforeStored stands between the SDK and the emulator: when a poll
// comes in, everything that was handed out before must be in the log, and the
// cursor must be the last one handed out.
func TestNoPollBeforeStored(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, pubnubtest.Config{PageSize: 7})
	var mu sync.Mutex
	handed := make(map[string]int) // user -> messages handed out
	before := handed               // the same before the last page
	cursor, previous, polls := "", "", 0
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		mu.Lock()
		tt := q.URL.Query().Get("tt")
		again := tt == previous && tt != cursor // a page that could not be stored in time is asked for again
		if again {
			cursor, handed = previous, before
		}
		if tt != cursor {
			t.Errorf("poll %d has cursor %s, want %s", polls, tt, cursor)
		}
		for user, n := range handed {
			if stored := r.stored(user); stored != n && (!again || stored < n) {
				t.Errorf("poll %d: user %s has %d events in the log, want %d", polls, user, stored, n)
			}
		}
		polls++
		mu.Unlock()
		rec := httptest.NewRecorder()
		r.pubnub.ServeHTTP(rec, q)
		p, err := parsePage(rec.Body.Bytes())
		mu.Lock()
		if err == nil {
			before, previous = maps.Clone(handed), cursor
			for _, m := range p.messages {
				user, _ := parseChannel(m.channel)
				handed[user]++
			}
			cursor = p.next.timetoken
		}
		mu.Unlock()
		w.Write(rec.Body.Bytes())
	}))
	t.Cleanup(proxy.Close)
	r.cfg.Origin = strings.TrimPrefix(proxy.URL, "http://")
	r.follow()
	stop := r.start()
	for i := range 10 {
		r.publishNumbered(i*30, 30, 5)
		r.events(30)
	}
	stop()
	mu.Lock()
	defer mu.Unlock()
	if polls < 40 {
		t.Errorf("%d polls, want at least 40", polls)
	}
}

// stored is how many events of user are in the log, as its leader has it.
func (r *rig) stored(user string) int {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	end, err := r.log.End(ctx, r.log.Shard(user))
	if err != nil {
		r.t.Error(err)
		return -1
	}
	chunk, err := r.log.Read(ctx, user, stream.Position{}, end)
	if err != nil || chunk.Next != end {
		r.t.Errorf("Read(%s) = %d records up to %v, %v, want up to %v", user, len(chunk.Records), chunk.Next, err, end)
	}
	return len(chunk.Records)
}
