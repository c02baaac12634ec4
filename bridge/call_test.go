package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"reprise/bridge/pubnubtest"
)

// newTestCaller starts an emulator and makes a caller of it.
func newTestCaller(t *testing.T, emulator pubnubtest.Config, change func(*callerConfig)) (*pubnubtest.Server, *caller) {
	t.Helper()
	s, err := pubnubtest.Start(emulator)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	cfg := callerConfig{origin: s.Addr(), subscribeKey: "demo", publishKey: "demo", userID: "reprise-test", timeout: patience}
	if change != nil {
		change(&cfg)
	}
	c, err := newCaller(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.close(); err != nil {
			t.Errorf("close() = %v, want nil", err)
		}
	})
	return s, c
}

// everyCall is one call of each kind.
var everyCall = []struct {
	name     string
	endpoint pubnubtest.Endpoint
	do       func(context.Context, *caller) error
}{
	{"counts", pubnubtest.MessageCounts, func(ctx context.Context, c *caller) error {
		_, err := c.counts(ctx, []string{"user.a.sync"}, "15000000000000000")
		return err
	}},
	{"fetch", pubnubtest.History, func(ctx context.Context, c *caller) error {
		_, err := c.fetch(ctx, "user.a.sync", "", "15000000000000000", 10)
		return err
	}},
	{"group", pubnubtest.Groups, func(ctx context.Context, c *caller) error {
		return c.addToGroup(ctx, "bridge-0", []string{"user.a.sync"})
	}},
	{"publish", pubnubtest.Publish, func(ctx context.Context, c *caller) error {
		_, err := c.publish(ctx, "user.a.sync", []byte(`{"x":"planted-payload"}`), []byte(`{"m":"planted-meta"}`))
		return err
	}},
}

// TestCallFaults makes every call fail in every way that PubNub and the road to
// it know, and wants the result of it, nothing secret in the text, and a client
// that goes on working.
func TestCallFaults(t *testing.T) {
	t.Parallel()
	const token, subKey, pubKey, planted = "p0F2AkF0Gl+token/secret==", "sub-c-key-secret", "pub-c-key-secret", "planted"
	s, c := newTestCaller(t, pubnubtest.Config{SubscribeKey: subKey, PublishKey: pubKey}, func(cfg *callerConfig) {
		cfg.subscribeKey, cfg.publishKey = subKey, pubKey
		cfg.token = func() string { return token }
	})
	type kind int
	const (
		temporary kind = iota
		forbidden
		permanent
		disabled
	)
	status := func(code int, body string) pubnubtest.Fault {
		return pubnubtest.Fault{Kind: pubnubtest.Status, Status: code, Body: body}
	}
	later := status(429, "")
	later.RetryAfter = 7 * time.Second
	const noHistory = `Use of the history API requires the Storage & Playback which is not enabled for this subscribe key. Login.`
	tests := []struct {
		fault pubnubtest.Fault
		want  pollResult
		kind  kind
	}{
		{pubnubtest.Fault{Kind: pubnubtest.Garbage}, pollNetwork, temporary},
		{pubnubtest.Fault{Kind: pubnubtest.Hangup, Times: 0}, pollNetwork, temporary},
		{pubnubtest.Fault{Kind: pubnubtest.Reset}, pollNetwork, temporary},
		{pubnubtest.Fault{Kind: pubnubtest.LongLength}, pollNetwork, temporary},
		{pubnubtest.Fault{Kind: pubnubtest.CutChunks}, pollNetwork, temporary},
		{pubnubtest.Fault{Kind: pubnubtest.CutJSON}, pollBadReply, temporary},
		{status(200, ""), pollBadReply, temporary},
		{status(200, planted), pollBadReply, temporary},
		{status(200, "{}{}"), pollBadReply, temporary},
		{status(200, `{"status":200,"error":true,"error_message":"planted","channels":{}}`), pollBadReply, temporary},
		{status(204, ""), pollStatus, permanent},
		{pubnubtest.Fault{Kind: pubnubtest.Status, Status: 301, Location: "http://127.0.0.1:1/" + planted}, pollStatus, permanent},
		{status(400, `{"message":"planted","error":true}`), pollStatus, permanent},
		{status(400, `[0,"planted","17"]`), pollStatus, permanent},
		{status(403, `{"message":"Forbidden","payload":{"channels":["planted"]},"error":true,"status":403}`), pollForbidden, forbidden},
		{status(403, `{"status":403,"error":true,"error_message":"`+noHistory+`","channels":{}}`), callDisabled, disabled},
		{status(200, `["`+noHistory+`",0,0]`), callDisabled, disabled},
		{status(200, `[["`+noHistory+`"],0,0]`), callDisabled, disabled},
		{status(400, `{"status":400,"error":true,"message":"Use of Multiplexing requires Stream Controller to be enabled for this subscribe key"}`), callDisabled, disabled},
		{status(404, ""), pollStatus, permanent},
		{status(408, ""), pollTimeout, temporary},
		{status(413, planted), pollStatus, permanent},
		{status(414, planted), pollStatus, permanent},
		{later, pollThrottled, temporary},
		{status(500, planted), pollServer, temporary},
		{status(503, noHistory), pollServer, temporary},
	}
	for _, call := range everyCall {
		for _, tt := range tests {
			name := fmt.Sprintf("%s: %s %d %.30s", call.name, tt.fault.Kind, tt.fault.Status, tt.fault.Body)
			tt.fault.Endpoint = call.endpoint
			fault := s.Inject(tt.fault)
			err := call.do(testContext(t), c)
			fault.Clear()
			var got *callError
			if !errors.As(err, &got) || got.result != tt.want {
				t.Errorf("%s: %v, want %s", name, err, tt.want)
				continue
			}
			kinds := map[kind]bool{temporary: got.temporary(), forbidden: got.forbidden(), disabled: got.disabled(),
				permanent: !got.temporary() && !got.forbidden() && !got.disabled()}
			for k, is := range kinds {
				if is != (k == tt.kind) {
					t.Errorf("%s: %v is of the wrong kind", name, err)
				}
			}
			if got.call != call.name || got.retryAfter != tt.fault.RetryAfter {
				t.Errorf("%s: call %s, retry after %s, want %s, %s", name, got.call, got.retryAfter, call.name, tt.fault.RetryAfter)
			}
			noSecrets(t, err.Error(), token, "p0F2", subKey, pubKey, planted, s.Addr(), "user.a", "bridge-0", "http")
			if err := call.do(testContext(t), c); err != nil {
				t.Errorf("%s: the call after it: %v", name, err)
			}
		}
	}
}

// TestCallRefusedInGoodReply has a publish answered with 200 and a no.
func TestCallRefusedInGoodReply(t *testing.T) {
	t.Parallel()
	s, c := newTestCaller(t, pubnubtest.Config{}, nil)
	s.Inject(pubnubtest.Fault{Kind: pubnubtest.Status, Status: 200, Body: `[0,"Invalid Key","17954373395342100"]`})
	_, err := c.publish(testContext(t), "user.a.sync", []byte(`{}`), nil)
	var got *callError
	if !errors.As(err, &got) || got.result != callRefused || got.temporary() {
		t.Errorf("publish() = %v, want a permanent refusal", err)
	}
}

// TestCallServerAway calls a server that is not there, and again when it is.
func TestCallServerAway(t *testing.T) {
	t.Parallel()
	s, c := newTestCaller(t, pubnubtest.Config{}, nil)
	for _, call := range everyCall {
		if err := call.do(testContext(t), c); err != nil { // leaves a connection that Stop cuts
			t.Fatalf("%s: %v", call.name, err)
		}
		s.Stop()
		err := call.do(testContext(t), c)
		var got *callError
		if !errors.As(err, &got) || !got.temporary() {
			t.Errorf("%s: %v, want a temporary error", call.name, err)
		}
		noSecrets(t, err.Error(), s.Addr(), "demo")
		if err := s.Restart(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCallTimeout holds the reply: first beyond the call's own timeout, then
// until the caller's context ends.
func TestCallTimeout(t *testing.T) {
	t.Parallel()
	s, c := newTestCaller(t, pubnubtest.Config{}, func(cfg *callerConfig) { cfg.timeout = 50 * time.Millisecond })
	s.Inject(pubnubtest.Fault{Kind: pubnubtest.Hold})
	_, patient := newTestCaller(t, pubnubtest.Config{}, func(cfg *callerConfig) { cfg.origin = s.Addr() })
	for _, call := range everyCall {
		err := call.do(testContext(t), c)
		var got *callError
		if !errors.As(err, &got) || got.result != pollTimeout {
			t.Errorf("%s: %v, want %s", call.name, err, pollTimeout)
		}
		before := 0
		if all := s.Journal(); len(all) > 0 { // the call may have timed out before it was sent
			before = all[len(all)-1].N
		}
		ctx, cancel := context.WithCancel(testContext(t))
		done := make(chan error, 1)
		go func() { done <- call.do(ctx, patient) }()
		if _, err := s.WaitRequest(testContext(t), before, nil); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want %v", call.name, err, context.Canceled)
		}
		if err := call.do(ctx, patient); !errors.Is(err, context.Canceled) {
			t.Errorf("%s with an ended context: %v, want %v", call.name, err, context.Canceled)
		}
	}
}

// TestCallToken has the token expire: the next call carries the new one, escaped.
func TestCallToken(t *testing.T) {
	t.Parallel()
	const first, second = "p0F2+first/==", "p0F2&second=x y"
	var mu sync.Mutex
	token := first
	s, c := newTestCaller(t, pubnubtest.Config{RequirePAM: true}, func(cfg *callerConfig) {
		cfg.token = func() string { mu.Lock(); defer mu.Unlock(); return token }
	})
	all := pubnubtest.Token{ChannelPatterns: map[string]int{".": pubnubtest.Read | pubnubtest.Write}, GroupPatterns: map[string]int{".": pubnubtest.Manage}}
	s.SetToken(first, all)
	for _, call := range everyCall {
		if err := call.do(testContext(t), c); err != nil {
			t.Errorf("%s: %v, want nil", call.name, err)
		}
	}
	s.DropToken(first)
	s.SetToken(second, all)
	for _, call := range everyCall {
		var got *callError
		if err := call.do(testContext(t), c); !errors.As(err, &got) || !got.forbidden() {
			t.Errorf("%s with the old token: %v, want forbidden", call.name, err)
		}
	}
	mu.Lock()
	token = second
	mu.Unlock()
	for _, call := range everyCall {
		if err := call.do(testContext(t), c); err != nil {
			t.Errorf("%s with the new token: %v, want nil", call.name, err)
		}
	}
}

// TestCallConcurrent makes calls of all kinds from 16 goroutines on one client,
// with a token that changes all the time. Nothing but the calls is sent.
func TestCallConcurrent(t *testing.T) {
	t.Parallel()
	const workers, rounds = 16, 12
	var mu sync.Mutex
	tokens := 0
	s, c := newTestCaller(t, pubnubtest.Config{JournalSize: 1 << 16}, func(cfg *callerConfig) {
		cfg.token = func() string { mu.Lock(); defer mu.Unlock(); tokens++; return fmt.Sprint("token", tokens) }
	})
	ctx := testContext(t)
	timetokens := make([][]string, workers)
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			channel := fmt.Sprintf("user.%d.sync", w)
			for i := range rounds {
				tt, err := c.publish(ctx, channel, fmt.Appendf(nil, `{"n":%d}`, i), fmt.Appendf(nil, `{"w":%d}`, w))
				if err != nil {
					t.Errorf("publish: %v", err)
					return
				}
				timetokens[w] = append(timetokens[w], tt)
				if _, err := c.counts(ctx, []string{channel}, timetokens[w][0]); err != nil {
					t.Errorf("counts: %v", err)
				}
				if err := c.addToGroup(ctx, "g", []string{channel}); err != nil {
					t.Errorf("addToGroup: %v", err)
				}
			}
			got, err := c.fetch(ctx, channel, "", "", 0)
			if err != nil || len(got) != rounds {
				t.Errorf("fetch(%s) = %d messages, %v, want %d", channel, len(got), err, rounds)
			}
			for i := range got {
				if got[i].timetoken != timetokens[w][i] || string(got[i].payload) != fmt.Sprintf(`{"n":%d}`, i) || string(got[i].meta) != fmt.Sprintf(`{"w":%d}`, w) {
					t.Errorf("fetch(%s)[%d] = %s %s %s", channel, i, got[i].timetoken, got[i].payload, got[i].meta)
				}
			}
		})
	}
	all.Wait()
	for _, q := range s.Journal() {
		if !slices.Contains([]pubnubtest.Endpoint{pubnubtest.Publish, pubnubtest.MessageCounts, pubnubtest.Groups, pubnubtest.History}, q.Endpoint) {
			t.Errorf("the SDK has made a request of its own: %s", q.Endpoint)
		}
	}
	if n := len(s.Journal()); n != workers*(3*rounds+1) {
		t.Errorf("%d requests, want %d", n, workers*(3*rounds+1))
	}
}

// TestCallClose closes a client under its calls: they end in order, later ones
// are refused, and nothing is sent.
func TestCallClose(t *testing.T) {
	t.Parallel()
	s, c := newTestCaller(t, pubnubtest.Config{}, nil)
	done := make(chan error, 8)
	hold := s.Inject(pubnubtest.Fault{Kind: pubnubtest.Hold, Times: cap(done)})
	for range cap(done) {
		go func() {
			_, err := c.publish(testContext(t), "user.a.sync", []byte(`{}`), nil)
			done <- err
		}()
	}
	if err := hold.WaitHits(testContext(t), cap(done)); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- c.close() }()
	for { // until close has begun
		if _, err := c.publish(testContext(t), "user.a.sync", []byte(`{}`), nil); errors.Is(err, errCallerClosed) {
			break
		}
	}
	select {
	case err := <-closed:
		t.Errorf("close() = %v while calls are under way", err)
		closed <- err
	default:
	}
	hold.Clear()
	for range cap(done) {
		if err := <-done; err != nil {
			t.Errorf("a call during close: %v, want nil", err)
		}
	}
	if err := <-closed; err != nil {
		t.Errorf("close() = %v, want nil", err)
	}
	n := len(s.Journal())
	for _, call := range everyCall {
		if err := call.do(testContext(t), c); !errors.Is(err, errCallerClosed) {
			t.Errorf("%s after close: %v, want %v", call.name, err, errCallerClosed)
		}
	}
	if err := c.close(); err != nil {
		t.Errorf("second close() = %v, want nil", err)
	}
	if got := len(s.Journal()); got != n {
		t.Errorf("%d requests after close", got-n)
	}
}

// TestCallerLeaks makes and closes clients, used and unused: each leaves the one
// goroutine that v7.4.0 cannot end.
func TestCallerLeaks(t *testing.T) {
	s, _ := newTestCaller(t, pubnubtest.Config{}, nil)
	const rounds = 20
	for i := range rounds {
		c, err := newCaller(callerConfig{origin: s.Addr(), subscribeKey: "demo", publishKey: "demo", userID: "reprise-leak"})
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			if _, err := c.publish(testContext(t), "user.a.sync", []byte(`{}`), nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.close(); err != nil {
			t.Fatal(err)
		}
	}
	stacks := func() (sdk, queues int) {
		buf := make([]byte, 4<<20)
		for _, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			switch {
			case strings.Contains(stack, ".ReadQueue("):
				queues++
			case strings.Contains(stack, "github.com/pubnub/go/v7."):
				sdk++
			}
		}
		return sdk, queues
	}
	sdk, queues := 0, 0
	if !until(patience, func() bool {
		sdk, queues = stacks()
		return sdk <= 4 // of the open client, and of other tests' that are just ending
	}) {
		t.Fatalf("%d goroutines of the SDK after %d clients", sdk, rounds)
	}
	t.Logf("%d goroutines of the SDK, and %d ReadQueue", sdk, queues)
}

// TestCallStray has the SDK make requests that no call asked for.
func TestCallStray(t *testing.T) {
	t.Parallel()
	s, c := newTestCaller(t, pubnubtest.Config{}, nil)
	if _, _, err := c.sdk.pn.Time().Execute(); err == nil {
		t.Error("Time() = nil, want an error")
	}
	if _, _, err := c.sdk.pn.Publish().Channel("a").Message(1).UsePost(true).Execute(); err == nil {
		t.Error("Publish() = nil, want an error")
	}
	if n := len(s.Journal()); n != 0 {
		t.Errorf("%d requests, want none", n)
	}
}

// TestCallUnsent asks for what the SDK refuses to send, or panics at.
func TestCallUnsent(t *testing.T) {
	t.Parallel()
	s, c := newTestCaller(t, pubnubtest.Config{}, func(cfg *callerConfig) { cfg.publishKey = "" })
	for name, meta := range map[string]string{"no publish key": `{}`, "bad meta": `{`} {
		var got *callError
		_, err := c.publish(testContext(t), "user.a.sync", []byte(`{}`), []byte(meta))
		if !errors.As(err, &got) || got.result != callUnsent || got.temporary() || got.forbidden() {
			t.Errorf("%s: publish() = %v, want %s", name, err, callUnsent)
		}
	}
	if n := len(s.Journal()); n != 0 {
		t.Errorf("%d requests, want none", n)
	}
	if _, err := newCaller(callerConfig{origin: s.Addr(), subscribeKey: "demo"}); err == nil || !strings.Contains(err.Error(), "panic") {
		t.Errorf("newCaller(without user id) = %v, want the SDK's panic", err)
	}
}

// TestCallRequest pins what goes over the wire: a length and no chunks, and the
// parameters.
func TestCallRequest(t *testing.T) {
	t.Parallel()
	var seen []*http.Request
	base := newCallTransport()
	t.Cleanup(base.CloseIdleConnections)
	_, c := newTestCaller(t, pubnubtest.Config{}, func(cfg *callerConfig) {
		cfg.base = roundTripper(func(req *http.Request) (*http.Response, error) {
			seen = append(seen, req)
			return base.RoundTrip(req)
		})
	})
	body := []byte(`{"n":1}`)
	if _, err := c.publish(testContext(t), "user.a.sync", body, []byte(`{ "k" : "<>" }`)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.fetch(testContext(t), "user.a.sync", "17000000000000001", "17000000000000000", 7); err != nil {
		t.Fatal(err)
	}
	p := seen[0]
	again, _ := p.GetBody()
	copied, _ := io.ReadAll(again)
	if p.Method != "POST" || p.ContentLength != int64(len(body)) || string(copied) != string(body) {
		t.Errorf("publish: %s with length %d and %s", p.Method, p.ContentLength, copied)
	}
	if got := p.URL.Query().Get("meta"); got != `{"k":"\u003c\u003e"}` {
		t.Errorf("publish: meta=%s", got)
	}
	for name, want := range map[string]string{"start": "17000000000000001", "end": "17000000000000000", "max": "7", "include_meta": "true", "include_uuid": "true", "uuid": "reprise-test"} {
		if got := seen[1].URL.Query().Get(name); got != want {
			t.Errorf("fetch: %s=%s, want %s", name, got, want)
		}
	}
}

// roundTripper is a transport that looks on.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
