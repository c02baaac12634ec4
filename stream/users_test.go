package stream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// registrations collects what FollowRegistrations hands out.
type registrations struct {
	got     chan Registration
	current chan int // how many had been handed out; sent to once
}

func followRegistrations(t testing.TB, l *Log, shard int) *registrations {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &registrations{got: make(chan Registration, 1<<16), current: make(chan int, 10)}
	n := 0
	done := make(chan error, 1)
	go func() {
		done <- l.FollowRegistrations(ctx, shard, func(x Registration) { n++; r.got <- x }, func() { r.current <- n })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("FollowRegistrations(%d) = %v", shard, err)
		}
		if len(r.current) != 0 {
			t.Errorf("current was called %d times more", len(r.current))
		}
	})
	return r
}

func (r *registrations) next(t testing.TB) Registration {
	t.Helper()
	select {
	case x := <-r.got:
		return x
	case <-time.After(30 * time.Second):
		t.Fatal("no registration within 30s")
		panic("unreachable")
	}
}

func (r *registrations) wantCurrent(t testing.TB, want int) {
	t.Helper()
	select {
	case n := <-r.current:
		if n != want {
			t.Errorf("current was called after %d registrations, want %d", n, want)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("current is not called within 30s")
	}
}

func register(t testing.TB, l *Log, users ...string) {
	t.Helper()
	for _, u := range users {
		if err := l.Register(t.Context(), u); err != nil {
			t.Fatalf("Register(%s) = %v", u, err)
		}
	}
}

// userN is the n-th of many users.
func userN(n int) string { return fmt.Sprintf("%08x-0000-4000-8000-000000000000", n) }

func TestRegistrations(t *testing.T) {
	t.Parallel()
	l := openLog(t, listening)
	acquire(t, l, 0) // its checkpoint is no registration
	r := followRegistrations(t, l, 0)
	r.wantCurrent(t, 0)
	register(t, l, alice, alice)
	first := r.next(t)
	if first.User != alice || first.Lane != NoLane || time.Since(first.At).Abs() > time.Minute {
		t.Errorf("FollowRegistrations handed out %+v", first)
	}
	// Another process neither registers anew what is there, nor loses a lane.
	other := remote(t, l.ClientURL(), "other", nil)
	if err := l.Assign(t.Context(), first, 3); err != nil {
		t.Fatalf("Assign() = %v", err)
	}
	register(t, other, alice, bob)
	moved := r.next(t)
	if moved.User != alice || moved.Lane != 3 || !moved.At.Equal(first.At) {
		t.Errorf("FollowRegistrations handed out %+v after Assign, want lane 3 of %+v", moved, first)
	}
	if got := r.next(t); got.User != bob {
		t.Errorf("FollowRegistrations handed out %+v, want bob's", got)
	}
	if err := l.Assign(t.Context(), first, 3); err != nil {
		t.Errorf("Assign() to the lane that it has = %v", err)
	}
	if err := l.Assign(t.Context(), first, 4); err == nil {
		t.Error("Assign() of what was changed = nil")
	}
	if err := l.Assign(t.Context(), moved, 4); err != nil {
		t.Errorf("Assign() again = %v", err)
	}
	r.next(t)
	late := followRegistrations(t, other, 0)
	late.wantCurrent(t, 2)
	for _, want := range []Registration{{User: bob, Lane: NoLane}, {User: alice, Lane: 4}} {
		if got := late.next(t); got.User != want.User || got.Lane != want.Lane {
			t.Errorf("a later FollowRegistrations handed out %+v, want %+v", got, want)
		}
	}
	if err := l.Register(t.Context(), "no.user"); err == nil {
		t.Error("Register of no user = nil")
	}
	if err := l.FollowRegistrations(t.Context(), 1, nil, nil); err == nil {
		t.Error("FollowRegistrations of a shard that is none = nil")
	}
}

func TestRegistrationCostsNothingTwice(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	register(t, l, alice)
	l.nc.Close()
	register(t, l, alice)
	if err := l.Register(t.Context(), bob); err == nil {
		t.Error("Register without a server = nil")
	}
}

func TestRegistrationsOverACutConnection(t *testing.T) {
	t.Parallel()
	l := openLog(t, listening)
	link := newProxy(t, l.ClientURL())
	bridge := remote(t, link.url(), "bridge", nil)
	register(t, l, alice)
	r := followRegistrations(t, bridge, 0)
	r.wantCurrent(t, 1)
	link.pause()
	register(t, l, bob)
	link.cut()
	link.resume()
	for r.next(t).User != bob {
	}
}

func TestRegistrationsOfARestoredBucket(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ns := runServer(t, dir, server.RANDOM_PORT)
	defer func() { ns.Shutdown() }()
	port := ns.Addr().(*net.TCPAddr).Port
	l := openLog(t, func(c *Config) { c.URL, c.DataDir = ns.ClientURL(), "" })
	register(t, l, alice)
	backup := copyDir(t, dir)
	r := followRegistrations(t, l, 0)
	r.wantCurrent(t, 1)
	for n := range 20 {
		register(t, l, userN(n))
	}
	for r.next(t).User != userN(19) {
	}
	ns.Shutdown()
	ns.WaitForShutdown()
	ns = runServer(t, backup, port)
	for n := 0; l.Register(t.Context(), bob) != nil; n++ {
		if n > 30 || !retry(t.Context(), n) {
			t.Fatal("the server is not back")
		}
	}
	for r.next(t).User != bob { // its sequence was another's before
	}
}

func TestRegistrationDeletedBeforeItIsHandedOut(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	register(t, l, alice, bob)
	ctx, cancel := context.WithCancel(t.Context())
	var users []string
	f := &keyFollower{
		log: l, bucket: checkpointsBucket, filter: kvSubject(checkpointsBucket, registrationKey(0, "*")),
		fn: func(m jetstream.Msg, _ uint64) { users = append(users, userOf(m.Subject())) }, current: cancel,
	}
	// The end is a record that is not there any more.
	if err := f.deliver(ctx, 1000); !errors.Is(err, context.Canceled) || !slices.Equal(users, []string{alice, bob}) {
		t.Errorf("current was called after %v, %v, want all", users, err)
	}
}

func TestUsers(t *testing.T) {
	t.Parallel()
	l := openLog(t, func(c *Config) { c.Shards = 2 })
	var want [2][]string
	for n := range 20 {
		u := userN(n)
		shard := l.Shard(u)
		want[shard] = append(want[shard], u)
		if n%2 == 0 || n == 19 {
			register(t, l, u)
		}
	}
	for shard := range want {
		w := acquire(t, l, shard)
		for n, u := range want[shard] {
			if !l.registered.has(u, time.Now()) || n == 0 {
				appendAll(t, w, u, 0, 1)
			}
		}
		// What is no user of this shard is passed over.
		for _, foreign := range []string{"x", want[1-shard][0]} {
			if _, err := l.js.Publish(t.Context(), subjectOf(shard, foreign), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	for shard := range want {
		if got, err := l.Users(t.Context(), shard); err != nil || !slices.Equal(got, want[shard]) {
			t.Errorf("Users(%d) = %v, %v, want %v", shard, got, err, want[shard])
		}
	}
	if _, err := l.Users(t.Context(), 2); err == nil {
		t.Error("Users of a shard that is none = nil")
	}
}

func TestUsersOfManyPages(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	const n = 100_000 + 10 // a page and some
	for i := range n {
		m := &nats.Msg{Subject: subjectOf(0, userN(i))}
		if i%10_000 == 0 || i == n-1 { // keep the server's queue short
			if _, err := l.js.PublishMsg(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		} else if err := l.nc.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	users, err := l.Users(t.Context(), 0)
	if err != nil || len(users) != n || users[0] != userN(0) || users[n-1] != userN(n-1) {
		t.Errorf("Users(0) = %d users, %v, want %d", len(users), err, n)
	}
}
