package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reprise/bridge/pubnubtest"
)

// pipeListener is a listener whose connections are net.Pipes, so that a server
// works inside a synctest bubble.
type pipeListener struct {
	conns chan net.Conn // sent to by dial, never closed
	done  chan struct{} // closed by Close
	once  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// guarded is a guard over a handler, both in the caller's synctest bubble.
type guarded struct {
	*guard
	t      *testing.T
	stored []page
	refuse error // what store returns
	b      *Bridge
}

func newGuarded(t *testing.T, at cursor, handler http.Handler) *guarded {
	b := &Bridge{}
	var err error
	cfg, _ := Config{}.withDefaults()
	if b.inst, err = newInstruments(cfg.Meter, b); err != nil {
		t.Fatal(err)
	}
	b.polls = &pulse{inst: b.inst, logger: slog.New(slog.DiscardHandler)}
	b.polls.begin(time.Now())
	b.shards = []*shard{{}}
	l := newPipeListener()
	server := &http.Server{Handler: handler}
	go server.Serve(l)
	transport := newTransport()
	transport.Proxy, transport.DialContext = nil, l.dial
	t.Cleanup(func() { transport.CloseIdleConnections(); server.Close() })
	g := &guarded{guard: newGuard(transport, at, 310*time.Second, b.polls), t: t, b: b}
	g.store = func(p *page) error {
		if g.refuse == nil {
			g.stored = append(g.stored, *p)
		}
		return g.refuse
	}
	return g
}

// ask polls as the SDK does and returns the cursor of the answer.
func (g *guarded) ask(ctx context.Context, at cursor) (string, error) {
	query := "tr=" + fmt.Sprint(at.region) + "&uuid=x"
	if !at.isZero() {
		query = "tt=" + at.timetoken + "&" + query
	}
	req := (&http.Request{Method: "GET", Host: "pubnub", Header: http.Header{},
		URL: &url.URL{Scheme: "http", Host: "pubnub", Opaque: "//pubnub/v2/subscribe/demo/user.%2A/0", RawQuery: query}}).WithContext(ctx)
	resp, err := g.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 || resp.ContentLength != int64(len(body)) || !strings.HasSuffix(string(body), `"m":[]}`) {
		g.t.Errorf("RoundTrip() = %d, %s, %v, want 200 and no messages", resp.StatusCode, body, err)
	}
	var got struct {
		T struct {
			T string
			R int8
		}
	}
	if err := json.Unmarshal(body, &got); err != nil {
		g.t.Errorf("RoundTrip() = %s: %v", body, err)
	}
	return fmt.Sprintf("%s/%d", got.T.T, got.T.R), nil
}

func reply(timetoken string, region int) string {
	return fmt.Sprintf(`{"t":{"t":%q,"r":%d},"m":[]}`, timetoken, region)
}

const (
	tt1 = "17954373395308041"
	tt2 = "17954373395308042"
)

// TestGuardCursor is about who is asked: PubNub only with our own cursor.
func TestGuardCursor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var uris []string
		g := newGuarded(t, cursor{tt1, 3}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			uris = append(uris, r.URL.RawQuery)
			io.WriteString(w, reply(tt2, 300))
		}))
		ctx := t.Context()
		for _, tt := range []struct {
			name string
			at   cursor
			want string
			uris int
		}{
			{"handshake", cursor{}, tt1 + "/3", 0},
			{"somebody else's cursor", cursor{"17000000000000000", 3}, tt1 + "/3", 0},
			{"our cursor", cursor{tt1, 3}, tt2 + "/0", 1}, // 300 does not fit the SDK
			{"our cursor again", cursor{tt2, 0}, tt2 + "/0", 2},
		} {
			got, err := g.ask(ctx, tt.at)
			mu.Lock()
			if got != tt.want || err != nil || len(uris) != tt.uris {
				t.Errorf("ask(%s) = %s, %v with %d requests, want %s with %d", tt.name, got, err, len(uris), tt.want, tt.uris)
			}
			mu.Unlock()
		}
		mu.Lock()
		defer mu.Unlock()
		if want := "tt=" + tt2 + "&tr=300&uuid=x"; len(uris) < 2 || uris[1] != want {
			t.Errorf("requests = %q, want the second with %s", uris, want)
		}
	})
}

// TestGuardFirstStart lets the handshake through, and has its cursor saved
// before the SDK sees it.
func TestGuardFirstStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var fail atomic.Bool
		fail.Store(true)
		g := newGuarded(t, cursor{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if fail.Load() {
				w.WriteHeader(503)
				return
			}
			io.WriteString(w, reply(tt1, 1))
		}))
		if got, err := g.ask(t.Context(), cursor{}); got != "0/0" || err != nil {
			t.Errorf("ask(handshake) = %s, %v, want 0/0 after a failure: the SDK makes a new handshake", got, err)
		}
		fail.Store(false)
		g.refuse = errors.New("not saved")
		if got, err := g.ask(t.Context(), cursor{}); got != "0/0" || err != nil {
			t.Errorf("ask(handshake) = %s, %v, want 0/0 while the cursor cannot be saved", got, err)
		}
		g.refuse = nil
		if got, err := g.ask(t.Context(), cursor{}); got != tt1+"/1" || err != nil || len(g.stored) != 1 {
			t.Errorf("ask(handshake) = %s, %v with %d saved, want %s/1 with 1", got, err, len(g.stored), tt1)
		}
	})
}

// TestGuardBackoff measures, in fake time, how long the guard waits.
func TestGuardBackoff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var status atomic.Int32
		var header atomic.Value
		status.Store(503)
		header.Store("")
		g := newGuarded(t, cursor{tt1, 1}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", header.Load().(string))
			w.WriteHeader(int(status.Load()))
			io.WriteString(w, reply(tt2, 1))
		}))
		wait := func() time.Duration {
			began := time.Now()
			got, err := g.ask(t.Context(), cursor{tt1, 1})
			if status.Load() != 200 && got != tt1+"/1" || err != nil {
				t.Errorf("ask() = %s, %v, want the old cursor", got, err)
			}
			return time.Since(began)
		}
		var longest, sum time.Duration
		for i := range 60 {
			d := wait()
			if limit := min(backoffCap, 100*time.Millisecond<<min(i, 20)); d >= limit {
				t.Errorf("failure %d: waited %s, want less than %s", i, d, limit)
			}
			longest, sum = max(longest, d), sum+d
		}
		if longest < backoffCap*2/3 || sum/60 < backoffCap/5 {
			t.Errorf("60 failures: longest wait %s, mean %s, want full jitter up to %s", longest, sum/60, backoffCap)
		}
		if h := g.b.Health(); !h.Silent || h.PollAge < sum {
			t.Errorf("Health() = %+v after %s of failures, want silent", h, sum)
		}
		header.Store("45")
		if d := wait(); d != 45*time.Second {
			t.Errorf("Retry-After 45: waited %s, want 45 s", d)
		}
		header.Store("86400")
		if d := wait(); d != 5*time.Minute {
			t.Errorf("Retry-After 86400: waited %s, want at most 5 m", d)
		}
		header.Store("")
		status.Store(200)
		if d := wait(); d != 0 {
			t.Errorf("good poll: waited %s, want 0", d)
		}
		if h := g.b.Health(); h.Silent || h.PollAge != 0 {
			t.Errorf("Health() = %+v after a good poll, want age 0", h)
		}
		time.Sleep(320 * time.Second)
		if h := g.b.Health(); h.Silent {
			t.Errorf("Health() = %+v 320 s after a good poll, want not silent", h)
		}
		time.Sleep(time.Millisecond)
		if h := g.b.Health(); !h.Silent {
			t.Errorf("Health() = %+v past 320 s, want silent", h)
		}
	})
}

// TestGuardTimeout ends a poll that PubNub never answers, or answers half.
func TestGuardTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var half atomic.Bool
		g := newGuarded(t, cursor{tt1, 1}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if half.Load() {
				io.WriteString(w, `{"t":`)
				w.(http.Flusher).Flush()
			}
			<-r.Context().Done()
		}))
		for range 2 {
			began := time.Now()
			got, err := g.ask(t.Context(), cursor{tt1, 1})
			if d := time.Since(began); got != tt1+"/1" || err != nil || d < 310*time.Second || d > 311*time.Second {
				t.Errorf("ask() = %s, %v after %s, want the old cursor after 310 s", got, err, d)
			}
			half.Store(true)
		}
	})
}

// TestGuardSupersede has a newer poll end an older one, with the one error
// text that the SDK takes well.
func TestGuardSupersede(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		arrived, release := make(chan struct{}, 9), make(chan struct{})
		g := newGuarded(t, cursor{tt1, 1}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			arrived <- struct{}{}
			select {
			case <-release:
				io.WriteString(w, reply(tt2, 1))
			case <-r.Context().Done():
			}
		}))
		old := make(chan error, 1)
		go func() {
			_, err := g.ask(t.Context(), cursor{tt1, 1})
			old <- err
		}()
		<-arrived
		go func() { <-arrived; close(release) }()
		if got, err := g.ask(t.Context(), cursor{tt1, 1}); got != tt2+"/1" || err != nil {
			t.Errorf("ask(newer) = %s, %v, want %s/1", got, err, tt2)
		}
		if err := <-old; err == nil || err.Error() != "context canceled" {
			t.Errorf("ask(older) = %v, want context canceled", err)
		}
		g.stop()
		if got, err := g.ask(t.Context(), cursor{tt2, 1}); err == nil || err.Error() != "context canceled" {
			t.Errorf("ask(after stop) = %s, %v, want context canceled", got, err)
		}
		if len(g.stored) != 1 {
			t.Errorf("%d pages stored, want 1", len(g.stored))
		}
	})
}

// TestGuardStopDuringStore lets a page that has been received be stored.
func TestGuardStopDuringStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGuarded(t, cursor{tt1, 1}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, reply(tt2, 1)) }))
		storing, release := make(chan struct{}), make(chan struct{})
		g.store = func(p *page) error {
			close(storing)
			<-release
			g.stored = append(g.stored, *p)
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		answered := make(chan string, 1)
		go func() {
			got, _ := g.ask(ctx, cursor{tt1, 1})
			answered <- got
		}()
		<-storing
		g.stop()
		cancel()
		synctest.Wait()
		select {
		case g.slot <- struct{}{}:
			t.Error("the slot is free while a page is stored")
		default:
		}
		close(release)
		g.slot <- struct{}{}
		if len(g.stored) != 1 {
			t.Errorf("%d pages stored, want 1", len(g.stored))
		}
		if got := <-answered; got != tt2+"/1" {
			t.Errorf("ask() = %s, want the new cursor: it is saved", got)
		}
	})
}

// TestGuardUnasked sees that the SDK has died.
func TestGuardUnasked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGuarded(t, cursor{tt1, 1}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(100 * time.Second)
			io.WriteString(w, reply(tt2, 1))
		}))
		go g.ask(t.Context(), cursor{tt1, 1})
		time.Sleep(99 * time.Second)
		if d := g.unasked(); d != 0 {
			t.Errorf("unasked() = %s during a poll, want 0", d)
		}
		time.Sleep(20 * time.Second)
		if d := g.unasked(); d != 19*time.Second {
			t.Errorf("unasked() = %s, want 19 s", d)
		}
	})
}

// TestGuardLarge refuses a reply over 16 MiB.
func TestGuardLarge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var large atomic.Bool
		large.Store(true)
		g := newGuarded(t, cursor{tt1, 1}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, `{"t":{"t":"`+tt2+`","r":1},"m":[]`)
			if large.Load() {
				io.WriteString(w, strings.Repeat(" ", maxReply))
			}
			io.WriteString(w, "}")
		}))
		if got, err := g.ask(t.Context(), cursor{tt1, 1}); got != tt1+"/1" || err != nil || len(g.stored) != 0 {
			t.Errorf("ask(large) = %s, %v, want the old cursor", got, err)
		}
		large.Store(false)
		if got, err := g.ask(t.Context(), cursor{tt1, 1}); got != tt2+"/1" || err != nil {
			t.Errorf("ask(small) = %s, %v, want the new cursor", got, err)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 2, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, "-7": 0, "1.5": 0, "soon": 0, "99999999999999999999": 0,
		"Tue, 24 Nov 2026 02:00:30 GMT": 30 * time.Second, "Tue, 24 Nov 2026 01:00:00 GMT": 0,
	} {
		if got := retryAfter(in, now); got != want {
			t.Errorf("retryAfter(%q) = %s, want %s", in, got, want)
		}
	}
}

// TestForbidden renews the token after a 403 and goes on where it was.
func TestForbidden(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, pubnubtest.Config{RequirePAM: true})
	grant := pubnubtest.Token{ChannelPatterns: map[string]int{`^(user|global)\..*$`: pubnubtest.Read}}
	r.pubnub.SetToken("tok/1+a=", grant)
	var mu sync.Mutex
	token := "tok/1+a="
	asked := make(chan struct{}, 1<<16)
	r.cfg.Token = func() string {
		asked <- struct{}{}
		mu.Lock()
		defer mu.Unlock()
		return token
	}
	r.follow()
	stop := r.start()
	r.publishNumbered(0, 20, 2)
	all := r.events(20)
	r.pubnub.DropToken("tok/1+a=")
	journal := r.pubnub.Journal()
	r.publishNumbered(20, 20, 2)
	if _, err := r.pubnub.WaitRequest(testContext(t), journal[len(journal)-1].N, nil); err != nil {
		t.Fatal(err) // this one is forbidden
	}
	r.pubnub.SetToken("tok-2", grant)
	mu.Lock()
	token = "tok-2"
	mu.Unlock()
	r.publishNumbered(40, 20, 2)
	checkNumbered(t, append(all, r.events(40)...), 60)
	stop()
	if s := r.b.Stats(); len(asked) == 0 || s.Stored != 60 || s.FailedPolls == 0 {
		t.Errorf("Stats() = %+v, want 60 stored and a failed poll", s)
	}
}
