package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	pubnub "github.com/pubnub/go/v7"
)

// A run records what happens between publishers, a relay and devices. Its
// methods may be called from any goroutine, but judge only when all is quiet.
type run struct {
	t     testing.TB
	relay *relay

	mu         sync.Mutex
	publishes  []*Publish      // guarded by mu
	conns      []*conn         // guarded by mu
	excuses    []string        // guarded by mu
	users      map[string]bool // guarded by mu; whose logs are read at the end
	publishers int             // guarded by mu
}

func newRun(t testing.TB, r *relay) *run { return &run{t: t, relay: r, users: make(map[string]bool)} }

// excuse names a reason of complete:false for which the run gives cause.
func (r *run) excuse(reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.excuses = append(r.excuses, reason)
}

// A publisher publishes with PubNub's own SDK, one message after the other.
type publisher struct {
	run  *run
	name string
	pn   *pubnub.PubNub
}

// publisher returns a new publisher at origin.
func (r *run) publisher(origin string) *publisher {
	r.mu.Lock()
	r.publishers++
	name := "publisher-" + strconv.Itoa(r.publishers)
	r.mu.Unlock()
	c := pubnub.NewConfigWithUserId(pubnub.UserId(name))
	c.Origin, c.Secure = origin, false
	c.SubscribeKey, c.PublishKey = "demo", "demo"
	c.SuppressLeaveEvents, c.MaxWorkers = true, 0
	pn := pubnub.NewPubNub(c)
	transport := &http.Transport{DialContext: (&net.Dialer{Timeout: patience}).DialContext}
	pn.SetClient(&http.Client{Transport: transport, Timeout: patience})
	// The SDK's Destroy is not called: it has nothing to end but its own
	// goroutine, which outlives it.
	r.t.Cleanup(transport.CloseIdleConnections)
	return &publisher{r, name, pn}
}

// publish publishes what becomes an event or an announcement.
func (p *publisher) publish(m message) {
	fate := Event
	if m.user == "" {
		fate = Announcement
	}
	if err := p.send(m, &Publish{User: m.user, Fate: fate, Frame: m.frame}); err != nil {
		p.run.t.Errorf("publish to %s: %v", m.channel, err)
	}
}

// refused publishes what must reach nobody. mark is a text in the payload.
func (p *publisher) refused(channel, payload, mark string) {
	if err := p.send(message{channel: channel, payload: payload}, &Publish{Fate: Refused, Mark: mark}); err != nil {
		p.run.t.Errorf("publish to %s: %v", channel, err)
	}
}

// send publishes and records it, also if it fails: PubNub may have it then.
func (p *publisher) send(m message, record *Publish) error {
	record.Publisher, record.Channel, record.Sent = p.name, m.channel, time.Now().UnixNano()
	p.run.record(record)
	resp, _, err := p.pn.Publish().Channel(m.channel).Message(json.RawMessage(m.payload)).Execute()
	if err != nil {
		return err
	}
	p.run.mu.Lock()
	record.Timetoken = strconv.FormatInt(resp.Timestamp, 10)
	p.run.mu.Unlock()
	return nil
}

func (r *run) record(p *Publish) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.publishes = append(r.publishes, p)
	if p.User != "" {
		r.users[p.User] = true
	}
}

// forget notes that PubNub has lost its memory: what was published so far may
// be in the log or not, unless a device has it.
func (r *run) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.publishes {
		p.Forgotten = true
	}
}

// judge waits until every open connection has caught up, publishes a last event
// to every user and a last announcement, and waits until the connections have
// them, and so all that came before. Then it reads the logs and judges what was
// recorded.
func (r *run) judge(origin string) {
	r.t.Helper()
	last := r.publisher(origin)
	r.mu.Lock()
	users, conns := slices.Sorted(maps.Keys(r.users)), slices.Clone(r.conns)
	r.mu.Unlock()
	for _, c := range conns {
		if c.open() {
			c.caughtUp() // it gets no announcement before
		}
	}
	goodbye := announcement("the end")
	fence := make(map[string]message)
	for _, user := range users {
		fence[user] = notice(user, "the end of "+user)
		last.publish(fence[user])
	}
	last.publish(goodbye)
	for _, c := range conns {
		if c.open() {
			c.await("the last event", fence[c.record.User].arrived())
			c.await("the last announcement", goodbye.arrived())
		}
	}
	h := History{Logs: make(map[string][]Entry)}
	for _, user := range users {
		r.relay.await("the last event of "+user+" in the log", func() bool {
			h.Logs[user] = r.relay.log(user)
			n := len(h.Logs[user])
			return n > 0 && Blank(h.Logs[user][n-1].Frame) == fence[user].frame
		})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	h.Excuses = r.excuses
	for _, p := range r.publishes {
		h.Publishes = append(h.Publishes, *p)
	}
	for _, c := range r.conns {
		h.Connections = append(h.Connections, c.history())
	}
	for i, v := range Judge(h) {
		if i == 20 {
			r.t.Errorf("and so on")
			break
		}
		r.t.Errorf("Judge(run) says %s", v)
	}
}

// awaitLog returns when user has n events in the log, and the edge knows of
// them: what is stored a moment before a device connects may come to it live.
func (r *run) awaitLog(user string, n int) {
	r.t.Helper()
	r.relay.await(fmt.Sprint(n, " events of ", user, " in the log"), func() bool {
		log := r.relay.log(user)
		return len(log) >= n && (n == 0 || r.relay.position(user) >= log[len(log)-1].Hlc)
	})
}

// parallel runs n functions at once and waits for all of them.
func parallel(n int, fn func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { fn(i) })
	}
	all.Wait()
}
