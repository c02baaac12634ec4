package pubnubtest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"reprise/bridge/pubnubtest"
)

// A raw is one connection without an HTTP client: what is on the wire, and how
// the connection ends.
type raw struct {
	t    *testing.T
	conn net.Conn
}

// dial sends a request for a URI and lets the server close afterwards.
func dial(t *testing.T, s *pubnubtest.Server, uri string) *raw {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatalf("Dial() = %v, want nil", err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", uri)
	return &raw{t, conn}
}

// all reads to the end. It returns the status line, the body after the header
// and how the connection ended.
func (r *raw) all() (status, header, body string, err error) {
	r.t.Helper()
	b, err := io.ReadAll(r.conn)
	head, body, _ := strings.Cut(string(b), "\r\n\r\n")
	status, header, _ = strings.Cut(head, "\r\n")
	return status, header, body, err
}

// until reads until what was sent ends in suffix.
func (r *raw) until(suffix string) {
	r.t.Helper()
	var b []byte
	for one := make([]byte, 1); !bytes.HasSuffix(b, []byte(suffix)); {
		if _, err := r.conn.Read(one); err != nil {
			r.t.Fatalf("Read() = %v after %q, want %q", err, b, suffix)
		}
		b = append(b, one[0])
	}
}

func TestStatusFaults(t *testing.T) {
	t.Parallel()
	s := start(t, pubnubtest.Config{})
	for _, status := range []int{204, 301, 400, 403, 404, 408, 413, 414, 429, 500, 502, 503, 504, 530} {
		f := s.Inject(pubnubtest.Fault{Kind: pubnubtest.Status, Endpoint: pubnubtest.Time, Status: status,
			RetryAfter: 7 * time.Second, Location: "/elsewhere", Times: 1})
		got, header, body, err := dial(t, s, "/time/0").all()
		if err != nil || !strings.HasPrefix(got, fmt.Sprintf("HTTP/1.1 %d ", status)) {
			t.Errorf("Status %d = %q, %v", status, got, err)
		}
		for _, want := range []string{"Retry-After: 7\r\n", "Location: /elsewhere\r\n"} {
			if !strings.Contains(header+"\r\n", want) {
				t.Errorf("Status %d: header = %q, want %q", status, header, want)
			}
		}
		if (body == "") != (status == 204) {
			t.Errorf("Status %d: body = %q", status, body)
		}
		same(t, "Hits()", f.Hits(), 1)
		get(t, s, "/time/0") // once was all
	}
	for _, body := range []string{"", "{}", "<html>", `{"t":`} {
		s.Inject(pubnubtest.Fault{Kind: pubnubtest.Status, Body: body, Times: 1})
		same(t, "Status 200 with a body", get(t, s, "/time/0"), body)
	}
}

func TestFaultsThatCut(t *testing.T) {
	t.Parallel()
	full := `{"status":200,"error":false,"error_message":"","channels":{"a":0}}`
	for _, tt := range []struct {
		kind         pubnubtest.Kind
		after        bool
		wantStatus   string
		wantHeader   string
		wantBody     string
		wantEnd      error
		wantGarbling string
	}{
		{kind: pubnubtest.Hangup},
		{kind: pubnubtest.Hangup, after: true},
		{kind: pubnubtest.Reset, wantEnd: syscall.ECONNRESET},
		{kind: pubnubtest.Reset, after: true, wantEnd: syscall.ECONNRESET},
		{kind: pubnubtest.Garbage, wantStatus: "\x00\x01garbage, not HTTP"},
		{kind: pubnubtest.LongLength, wantStatus: "HTTP/1.1 200 OK", wantHeader: fmt.Sprint("Content-Length: ", len(full)+1), wantBody: full},
		{kind: pubnubtest.CutJSON, wantStatus: "HTTP/1.1 200 OK", wantHeader: fmt.Sprint("Content-Length: ", len(full)/2), wantBody: full[:len(full)/2]},
		{kind: pubnubtest.CutChunks, wantStatus: "HTTP/1.1 200 OK", wantHeader: "Transfer-Encoding: chunked",
			wantBody: fmt.Sprintf("%x\r\n%s\r\n", len(full)/2, full[:len(full)/2])},
		{kind: pubnubtest.Drip, wantStatus: "HTTP/1.1 200 OK", wantHeader: fmt.Sprint("Content-Length: ", len(full)), wantBody: full},
		{kind: pubnubtest.Stall, wantStatus: "HTTP/1.1 200 OK", wantHeader: fmt.Sprint("Content-Length: ", len(full)), wantBody: full},
		{kind: pubnubtest.Hold, wantStatus: "HTTP/1.1 200 OK", wantHeader: fmt.Sprint("Content-Length: ", len(full)), wantBody: full},
	} {
		t.Run(fmt.Sprint(tt.kind, " after work: ", tt.after), func(t *testing.T) {
			t.Parallel()
			s := start(t, pubnubtest.Config{})
			s.Inject(pubnubtest.Fault{Kind: tt.kind, AfterWork: tt.after, Delay: time.Millisecond, N: 20})
			status, header, body, err := dial(t, s, "/v3/history/sub-key/demo/message-counts/a?timetoken=1").all()
			if !errors.Is(err, tt.wantEnd) {
				t.Errorf("end of connection = %v, want %v", err, tt.wantEnd)
			}
			same(t, "status line", status, tt.wantStatus)
			same(t, "body", body, tt.wantBody)
			if !strings.Contains(header, tt.wantHeader) {
				t.Errorf("header = %q, want %q", header, tt.wantHeader)
			}
			same(t, "Journal().Fault", s.Journal()[0].Fault, tt.kind)
		})
	}
}

func TestFaultsThatHoldUntilCleared(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		kind  pubnubtest.Kind
		after bool
	}{{pubnubtest.Hold, false}, {pubnubtest.Hold, true}, {pubnubtest.Stall, false}} {
		s := start(t, pubnubtest.Config{})
		f := s.Inject(pubnubtest.Fault{Kind: tt.kind, AfterWork: tt.after, Endpoint: pubnubtest.Publish})
		conn := dial(t, s, "/publish/demo/demo/0/a/0/1")
		if err := f.WaitHits(within(t, patience), 1); err != nil {
			t.Fatalf("WaitHits(1) = %v, want nil", err)
		}
		if tt.kind == pubnubtest.Stall {
			conn.until("[1,\"Sent\",\"")
		}
		if !tt.after && tt.kind == pubnubtest.Hold {
			same(t, "Stats().Messages while held", s.Stats().Messages, 0)
		}
		f.Clear()
		_, _, _, err := conn.all()
		same(t, fmt.Sprint(tt.kind, " cleared"), err, nil)
		same(t, "Stats().Messages", s.Stats().Messages, 1)
		f.Clear() // again is nothing
	}
}

func TestStopEndsHeldFaults(t *testing.T) {
	t.Parallel()
	s := start(t, pubnubtest.Config{})
	for _, kind := range []pubnubtest.Kind{pubnubtest.Hold, pubnubtest.Stall} {
		f := s.Inject(pubnubtest.Fault{Kind: kind})
		conn := dial(t, s, "/time/0")
		if err := f.WaitHits(within(t, patience), 1); err != nil {
			t.Fatalf("WaitHits(1) = %v, want nil", err)
		}
		if kind == pubnubtest.Stall {
			conn.until("\r\n\r\n")
		}
		s.Stop()
		if _, _, body, _ := conn.all(); strings.HasSuffix(body, "]") {
			t.Errorf("%s: body after Stop = %q, want cut", kind, body)
		}
		f.Clear()
		if err := s.Restart(); err != nil {
			t.Fatalf("Restart() = %v, want nil", err)
		}
	}
}

func TestSelectionOfFaults(t *testing.T) {
	t.Parallel()
	run := func(t *testing.T, f pubnubtest.Fault, uris ...string) (statuses string) {
		s := start(t, pubnubtest.Config{PollTimeout: time.Millisecond, Seed: 3})
		f.Kind, f.Status = pubnubtest.Status, 503
		s.Inject(f)
		for _, uri := range uris {
			status, _ := fetch(t, s, "GET", uri, "")
			statuses += fmt.Sprint(status/100, " ")
		}
		s.ClearFaults()
		for _, uri := range uris {
			if status, _ := fetch(t, s, "GET", uri, ""); status != 200 {
				t.Errorf("GET %s after ClearFaults = %d, want 200", uri, status)
			}
		}
		return strings.TrimSpace(statuses)
	}
	const (
		clockURI  = "/time/0"
		handshake = "/v2/subscribe/demo/a/0?tr=0"
		pollURI   = "/v2/subscribe/demo/a/0?tt=1"
		fire      = "/publish/demo/demo/0/a/0/1?store=0&norep=true"
		publish   = "/publish/demo/demo/0/a/0/1"
	)
	times := func(n int) []string { return slices.Repeat([]string{clockURI}, n) }
	for _, tt := range []struct {
		name  string
		fault pubnubtest.Fault
		uris  []string
		want  string
	}{
		{"any", pubnubtest.Fault{}, []string{clockURI, pollURI}, "5 5"},
		{"endpoint", pubnubtest.Fault{Endpoint: pubnubtest.Poll}, []string{clockURI, handshake, pollURI}, "2 2 5"},
		{"handshake", pubnubtest.Fault{Endpoint: pubnubtest.Handshake}, []string{handshake, pollURI}, "5 2"},
		{"subscribe is both", pubnubtest.Fault{Endpoint: pubnubtest.Subscribe}, []string{handshake, pollURI, clockURI}, "5 5 2"},
		{"fire is not publish", pubnubtest.Fault{Endpoint: pubnubtest.Publish}, []string{fire, publish}, "2 5"},
		{"from the third", pubnubtest.Fault{Nth: 3}, times(4), "2 2 5 5"},
		{"the third only", pubnubtest.Fault{Nth: 3, Times: 1}, times(4), "2 2 5 2"},
		{"twice", pubnubtest.Fault{Times: 2}, times(3), "5 5 2"},
		{"match", pubnubtest.Fault{Match: func(r pubnubtest.Request) bool { return strings.Contains(r.URI, "/b/") }},
			[]string{publish, strings.Replace(publish, "/a/", "/b/", 1)}, "2 5"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			same(t, "statuses", run(t, tt.fault, tt.uris...), tt.want)
		})
	}
	half := strings.Count(run(t, pubnubtest.Fault{Probability: 0.5}, times(100)...), "5")
	if half < 25 || half > 75 {
		t.Errorf("hits of 100 with probability 0.5 = %d, want about 50", half)
	}
}

func TestSubscribeFaults(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		kind pubnubtest.Kind
		want func(token int64) string // found in the reply
	}{
		{pubnubtest.NumberCursor, func(int64) string { return `{"t":{"t":1` }},
		{pubnubtest.ZeroCursor, func(int64) string { return `{"t":{"t":"0","r":1},"m":[{"a"` }},
		{pubnubtest.WideRegion, func(int64) string { return `","r":300},"m":[{"a"` }},
		{pubnubtest.StringSequence, func(int64) string { return `"s":"9",` }},
		{pubnubtest.Replay, func(token int64) string { return fmt.Sprintf(`{"t":{"t":"%d","r":1},"m":[{"a"`, token-100_000) }},
		{pubnubtest.Backwards, func(token int64) string {
			return fmt.Sprintf(`{"t":{"t":"%d","r":1},"m":[{"a"`, token-100_000-20_000_000)
		}},
	} {
		s := start(t, pubnubtest.Config{})
		token := s.Publish("a", []byte("1"), pubnubtest.Sequence(9))
		f := s.Inject(pubnubtest.Fault{Kind: tt.kind, Times: 1, Delay: 2 * time.Second})
		uri := fmt.Sprintf("/v2/subscribe/demo/a/0?tt=%d", token-100_000)
		if body := get(t, s, uri); !strings.Contains(body, tt.want(token)) {
			t.Errorf("%s: poll() = %s, want %s", tt.kind, body, tt.want(token))
		}
		same(t, "Hits()", f.Hits(), 1)
		var b batch
		if err := json.Unmarshal([]byte(get(t, s, uri)), &b); err != nil || len(b.M) != 1 {
			t.Errorf("%s: poll() afterwards = %v, %v, want the message", tt.kind, b, err)
		}
	}
}

func TestFaultsOfOrderAndQueue(t *testing.T) {
	t.Parallel()
	s := start(t, pubnubtest.Config{})
	publish(s, "a", numbers(0, 20))
	s.Inject(pubnubtest.Fault{Kind: pubnubtest.Shuffle, Times: 1})
	got := poll(t, s, "a", "", "1").payloads()
	if slices.Equal(got, numbers(0, 20)) {
		t.Errorf("poll() shuffled = %v, want another order", got)
	}
	slices.Sort(got)
	want := numbers(0, 20)
	slices.Sort(want)
	same(t, "poll() shuffled, sorted", got, want)

	s.Inject(pubnubtest.Fault{Kind: pubnubtest.Overflow, N: 3, Times: 1})
	same(t, "poll() with overflow", poll(t, s, "a", "", "1").payloads(), numbers(17, 20))
	same(t, "Stats().Overflows", s.Stats().Overflows, 1)
	same(t, "poll() afterwards", poll(t, s, "a", "", "1").payloads(), numbers(0, 20))
}

func TestHistoryFaults(t *testing.T) {
	t.Parallel()
	s := start(t, pubnubtest.Config{})
	token := s.Publish("a", []byte("1"), pubnubtest.From("u"))
	s.Inject(pubnubtest.Fault{Kind: pubnubtest.NullUUID, Times: 1})
	s.Inject(pubnubtest.Fault{Kind: pubnubtest.NumberTimetoken, Times: 1})
	for _, want := range []string{
		fmt.Sprintf(`{"message":1,"timetoken":"%d","uuid":null,"message_type":0}`, token),
		fmt.Sprintf(`{"message":1,"timetoken":%d,"uuid":"u","message_type":0}`, token),
		fmt.Sprintf(`{"message":1,"timetoken":"%d","uuid":"u","message_type":0}`, token),
	} {
		body := get(t, s, "/v3/history/sub-key/demo/channel/a")
		same(t, "history", body, `{"status":200,"error":false,"error_message":"","channels":{"a":[`+want+`]}}`)
	}
}

func TestLostAcknowledgement(t *testing.T) {
	t.Parallel()
	s := start(t, pubnubtest.Config{})
	pn := client(t, s)
	for i, after := range []bool{false, true} {
		s.Inject(pubnubtest.Fault{Kind: pubnubtest.Status, Status: 502, AfterWork: after, Endpoint: pubnubtest.Publish, Times: 1})
		if _, _, err := pn.Publish().Channel("a").Message(i).Execute(); err == nil {
			t.Errorf("Publish() with 502 = nil, want an error")
		}
	}
	same(t, "history", history(t, s, "a", ""), "[1]")
}

func TestInjectRefusesNonsense(t *testing.T) {
	t.Parallel()
	s, err := pubnubtest.New(pubnubtest.Config{})
	if err != nil {
		t.Fatalf("New() = %v, want nil", err)
	}
	for _, f := range []pubnubtest.Fault{
		{}, {Kind: "other"}, {Kind: pubnubtest.Replay, Endpoint: pubnubtest.Publish},
		{Kind: pubnubtest.NullUUID, Endpoint: pubnubtest.Poll}, {Kind: pubnubtest.Status, Status: 100},
		{Kind: pubnubtest.Hold, Nth: -1}, {Kind: pubnubtest.Hold, Probability: 2},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Inject(%+v) did not panic", f)
				}
			}()
			s.Inject(f)
		}()
	}
}
