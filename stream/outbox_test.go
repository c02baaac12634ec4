package stream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const phone = "d0000000-0000-4000-8000-000000000003"

// update makes the n-th update of user's phone; equal arguments make equal updates.
func update(user string, n int) Update {
	return Update{
		ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", n), User: user, Device: phone,
		Channel: "user." + user + ".sync", Expires: int64(n), Body: fmt.Appendf(nil, `{"n":%d}`, n),
	}
}

// submit submits the updates from..to-1 of user.
func submit(t testing.TB, l *Log, user string, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		if err := l.Submit(t.Context(), update(user, n)); err != nil {
			t.Fatalf("Submit(%d) = %v", n, err)
		}
	}
}

// outbox collects what FollowOutbox hands out.
type outbox struct {
	entries chan Pending
	stop    func() // ends FollowOutbox and waits for it
}

func followOutbox(t testing.TB, l *Log) *outbox {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	o := &outbox{entries: make(chan Pending, 1<<16)}
	done := make(chan error, 1)
	go func() { done <- l.FollowOutbox(ctx, 0, func(p Pending) { o.entries <- p }) }()
	o.stop = func() {
		if ctx.Err() != nil {
			return
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("FollowOutbox(0) = %v", err)
		}
	}
	t.Cleanup(o.stop)
	return o
}

func (o *outbox) next(t testing.TB) Pending {
	t.Helper()
	select {
	case p := <-o.entries:
		return p
	case <-time.After(30 * time.Second):
		t.Fatal("no entry within 30s")
		panic("unreachable")
	}
}

// want takes the entries made by update with these numbers, in that order.
func (o *outbox) want(t testing.TB, numbers ...int) (got []Pending) {
	t.Helper()
	for _, n := range numbers {
		p := o.next(t)
		if want := update(p.User, n); !reflect.DeepEqual(p.Update, want) {
			t.Fatalf("FollowOutbox handed out %+v, want %+v", p.Update, want)
		}
		got = append(got, p)
	}
	return got
}

func settle(t testing.TB, l *Log, entries ...Pending) {
	t.Helper()
	for _, p := range entries {
		if err := l.Settle(t.Context(), p); err != nil {
			t.Fatalf("Settle(%d) = %v", p.Seq, err)
		}
	}
}

func wantDepth(t testing.TB, l *Log, want uint64) {
	t.Helper()
	if got, err := l.OutboxDepth(t.Context()); err != nil || got != want {
		t.Errorf("OutboxDepth() = %d, %v, want %d", got, err, want)
	}
}

func TestOutboxIsHandedOutInOrder(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	submit(t, l, alice, 0, 3)
	submit(t, l, alice, 0, 3) // resent
	submit(t, l, bob, 3, 4)
	wantDepth(t, l, 4)
	o := followOutbox(t, l)
	waiting := o.want(t, 0, 1, 2, 3) // who had them before is not known
	submit(t, l, alice, 4, 6)
	fresh := o.want(t, 4, 5)
	if fresh[1].Seq <= fresh[0].Seq || time.Since(fresh[0].Stored).Abs() > time.Minute {
		t.Errorf("FollowOutbox handed out %d, %d, stored %v", fresh[0].Seq, fresh[1].Seq, fresh[0].Stored)
	}
	settle(t, l, append(waiting, fresh...)...)
	wantDepth(t, l, 0)
	if err := l.FollowOutbox(t.Context(), 1, nil); err == nil {
		t.Error("FollowOutbox of a shard that is none = nil")
	}
}

func TestSettledEntryNeverComesAgain(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	submit(t, l, alice, 0, 5)
	o := followOutbox(t, l)
	got := o.want(t, 0, 1, 2, 3, 4)
	settle(t, l, got[1], got[3], got[3])
	// The consumer is made anew under the follower: what it holds is not handed
	// out twice.
	if err := l.js.DeleteConsumer(t.Context(), outboxStream, outboxConsumer(0)); err != nil {
		t.Fatal(err)
	}
	submit(t, l, alice, 5, 6)
	if p := o.next(t); p.Body[5] != '5' {
		t.Errorf("after its consumer was deleted FollowOutbox handed out %+v, want only what is new", p)
	}
	settle(t, l, got[0])
	o.stop()
	// The next one gets what is left.
	o = followOutbox(t, l)
	left := o.want(t, 2, 4, 5)
	settle(t, l, left...)
	wantDepth(t, l, 0)
	submit(t, l, alice, 0, 6) // known still: not stored, so not handed out
	submit(t, l, alice, 6, 7)
	o.want(t, 6)
	c, err := l.js.Consumer(t.Context(), outboxStream, outboxConsumer(0))
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; ; n++ { // deletion settles with the consumer too
		info, err := c.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if info.NumAckPending == 1 {
			break
		}
		if !retry(t.Context(), n) || n > 20 {
			t.Fatalf("the consumer waits for %d entries, want 1", info.NumAckPending)
		}
	}
}

func TestSettleSparesAnotherEntryOfThatNumber(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	submit(t, l, alice, 0, 1)
	o := followOutbox(t, l)
	p := o.want(t, 0)[0]
	// As after a power cut: the number was another entry's.
	lost := p
	lost.ID = update(alice, 7).ID
	settle(t, l, lost)
	wantDepth(t, l, 1)
	settle(t, l, p)
	wantDepth(t, l, 0)
	// So with one that never was.
	settle(t, l, Pending{Update: p.Update, Seq: 1000})
}

func TestFullOutboxRefuses(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	refused := func(what string, u Update) {
		t.Helper()
		if err := l.Submit(t.Context(), u); !errors.Is(err, ErrOutboxFull) {
			t.Errorf("Submit with %s = %v, want %v", what, err, ErrOutboxFull)
		}
	}
	submit(t, l, alice, 0, outboxPerUser)
	refused("the user's part full", update(alice, outboxPerUser))
	submit(t, l, alice, 0, 1) // is in there
	submit(t, l, bob, 0, 1)

	s, err := l.js.Stream(t.Context(), outboxStream)
	if err != nil {
		t.Fatal(err)
	}
	change := func(change func(*jetstream.StreamConfig)) {
		t.Helper()
		c := s.CachedInfo().Config
		change(&c)
		if _, err := l.js.UpdateStream(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	change(func(c *jetstream.StreamConfig) { c.MaxBytes = 1000 })
	refused("too many bytes", update(bob, 1))
	change(func(c *jetstream.StreamConfig) { c.MaxMsgs = 10 })
	refused("too many entries", update(bob, 1))
	change(func(*jetstream.StreamConfig) {})
	if err := l.server.ns.GlobalAccount().UpdateJetStreamLimits(map[string]server.JetStreamAccountLimits{
		"": {MaxMemory: -1, MaxStore: 1000, MaxStreams: -1, MaxConsumers: -1, MemoryMaxStreamBytes: -1, StoreMaxStreamBytes: -1},
	}); err != nil {
		t.Fatal(err)
	}
	refused("the account full", update(bob, 1))
	wantDepth(t, l, outboxPerUser+1)
}

func TestWhichRefusalsMeanFull(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err         error
		full, final bool
	}{
		{&jetstream.APIError{Code: 503, ErrorCode: codeNotStored, Description: "maximum bytes exceeded"}, true, false},
		{&jetstream.APIError{Code: 503, ErrorCode: codeNotStored, Description: "store is closed"}, false, false},
		{&jetstream.APIError{Code: 503, ErrorCode: codeServerFull, Description: "insufficient resources"}, true, false},
		{&jetstream.APIError{Code: 500, ErrorCode: codeDiskFull, Description: "insufficient storage resources available"}, true, false},
		{&jetstream.APIError{Code: 409, ErrorCode: codeInFlight, Description: "duplicate message id is in process"}, false, false},
		{&jetstream.APIError{Code: 400, ErrorCode: 10109, Description: "invalid operation on sealed stream"}, false, true},
		{jetstream.ErrNoStreamResponse, false, false},
		{context.DeadlineExceeded, false, false},
		{nats.ErrConnectionClosed, false, true},
	} {
		err := fmt.Errorf("nats: %w", c.err)
		if got := isFull(err); got != c.full {
			t.Errorf("isFull(%v) = %v, want %v", c.err, got, c.full)
		}
		if got := isFinal(err); got != c.final {
			t.Errorf("isFinal(%v) = %v, want %v", c.err, got, c.final)
		}
	}
}

func TestSubmitRefusesWhatIsNoUpdate(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	for name, change := range map[string]func(*Update){
		"no user":          func(u *Update) { u.User = "alice" },
		"no id":            func(u *Update) { u.ID = "" },
		"a colon in an id": func(u *Update) { u.ID = "a:b" },
		"a line's end":     func(u *Update) { u.Device = "a\r\nReprise-Id: b" },
		"a long device":    func(u *Update) { u.Device = strings.Repeat("x", nameMost+1) },
		"a space's end":    func(u *Update) { u.Device = "tv " },
		"no channel":       func(u *Update) { u.Channel = "" },
		"no body":          func(u *Update) { u.Body = nil },
		"a huge body":      func(u *Update) { u.Body = make([]byte, maxFrame+1) },
	} {
		u := update(alice, 0)
		change(&u)
		if err := l.Submit(t.Context(), u); err == nil || errors.Is(err, ErrOutboxFull) {
			t.Errorf("Submit with %s = %v, want an error", name, err)
		}
	}
	wantDepth(t, l, 0)
}

func TestForeignOutboxEntryStopsNobody(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	submit(t, l, alice, 0, 1)
	for _, h := range []nats.Header{nil, {headerFormat: {"2"}}, {headerFormat: {"1"}, headerID: {"x"}}} {
		if _, err := l.js.PublishMsg(t.Context(), &nats.Msg{Subject: outboxSubject(0, alice), Header: h, Data: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
	}
	submit(t, l, alice, 1, 2)
	settle(t, l, followOutbox(t, l).want(t, 0, 1)...)
	wantDepth(t, l, 3)
}

func TestSubmitWaitsOutAnOutage(t *testing.T) {
	t.Parallel()
	l := openLog(t, listening)
	link := newProxy(t, l.ClientURL())
	edge := remote(t, link.url(), "edge", nil)
	link.pause()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := edge.Submit(ctx, update(alice, 0)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Submit to a server that is silent = %v, want %v", err, context.DeadlineExceeded)
	}
	done := make(chan error, 1)
	go func() { done <- edge.Submit(context.Background(), update(alice, 0)) }()
	link.cut()
	link.resume()
	if err := <-done; err != nil {
		t.Errorf("Submit over a cut connection = %v", err)
	}
	wantDepth(t, l, 1)
}

func TestFollowOutboxOverCutConnections(t *testing.T) {
	t.Parallel()
	l := openLog(t, listening)
	link := newProxy(t, l.ClientURL())
	bridge := remote(t, link.url(), "bridge", nil)
	o := followOutbox(t, bridge)
	const n = 600
	for i := range n {
		submit(t, l, alice, i, i+1)
		if i%200 == 100 {
			link.cutAfter(2000)
		}
	}
	for i := range n {
		if p := o.next(t); string(p.Body) != fmt.Sprintf(`{"n":%d}`, i) {
			t.Fatalf("FollowOutbox over cut connections handed out %s, want %d", p.Body, i)
		}
	}
}

func TestWhatAnotherPullTookComesAgain(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	o := followOutbox(t, l)
	submit(t, l, alice, 0, 1)
	o.next(t)
	c, err := l.js.Consumer(t.Context(), outboxStream, outboxConsumer(0))
	if err != nil {
		t.Fatal(err)
	}
	thief, err := c.Fetch(1)
	if err != nil {
		t.Fatal(err)
	}
	const n = 10
	submit(t, l, alice, 1, n)
	if m := <-thief.Messages(); m == nil {
		t.Fatalf("nothing was taken: %v", thief.Error())
	}
	for i := 1; i < n; i++ {
		if p := o.next(t); string(p.Body) != fmt.Sprintf(`{"n":%d}`, i) {
			t.Fatalf("FollowOutbox handed out %s, want %d", p.Body, i)
		}
	}
}

func TestFollowOutboxOverARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ns := runServer(t, dir, server.RANDOM_PORT)
	defer func() { ns.Shutdown() }()
	port := ns.Addr().(*net.TCPAddr).Port
	l := openLog(t, func(c *Config) { c.URL, c.DataDir = ns.ClientURL(), "" })
	o := followOutbox(t, l)
	submit(t, l, alice, 0, 3)
	var got []Pending
	for range 3 {
		got = append(got, o.next(t))
	}
	settle(t, l, got[0])
	ns.Shutdown()
	ns.WaitForShutdown()
	ns = runServer(t, dir, port)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := l.Submit(ctx, update(alice, 3)); err != nil {
		t.Fatal(err)
	}
	if p := o.next(t); p.Body[5] != '3' {
		t.Errorf("after a restart FollowOutbox handed out %s, want the new one", p.Body)
	}
	settle(t, l, got[1])
	o.stop()
	followOutbox(t, l).want(t, 2, 3)
}

func TestSecondFollowerTakesTheOutbox(t *testing.T) {
	t.Parallel()
	l := openLog(t, listening)
	old := remote(t, l.ClientURL(), "old", nil)
	ctx, cancel := context.WithCancel(t.Context())
	taken, paused := make(chan Pending), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- old.FollowOutbox(ctx, 0, func(p Pending) { taken <- p; <-paused })
	}()
	submit(t, l, alice, 0, 3)
	<-taken // and the others wait in the old one's memory
	o := followOutbox(t, l)
	got := o.want(t, 0, 1, 2)
	submit(t, l, alice, 3, 4)
	settle(t, l, append(got, o.want(t, 3)...)...)
	cancel()
	close(paused)
	for {
		select {
		case <-taken: // what had been in its memory: the log's ids tell that it was published
		case err := <-done:
			if err != nil {
				t.Errorf("FollowOutbox() of who has lost it = %v", err)
			}
			wantDepth(t, l, 0)
			return
		}
	}
}
