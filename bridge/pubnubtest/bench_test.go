package pubnubtest_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"reprise/bridge/pubnubtest"
)

var payload = []byte(`{"type":"progress_update","data":"` + strings.Repeat("x", 250) + `"}`)

// BenchmarkPublish is publishing alone, without a subscriber.
func BenchmarkPublish(b *testing.B) {
	s := start(b, pubnubtest.Config{})
	channels := channelNames(1000)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s.Publish(channels[i%len(channels)], payload)
	}
}

// lastChannel carries the message that ends a benchmark.
const lastChannel = "user.last.sync"

// A reader counts what subscribe replies contain, and gives the publisher
// credit for as much.
type reader struct {
	credit   chan struct{} // a publisher sends, the reader receives
	received int
	done     chan struct{} // closed by the reader after the last message
}

// take counts one reply's body and returns its cursor.
func (r *reader) take(b *testing.B, body []byte) string {
	var reply struct {
		T struct{ T string }
		M []struct {
			C string
			D json.RawMessage
		}
	}
	if err := json.Unmarshal(body, &reply); err != nil {
		b.Error(err)
	}
	r.received += len(reply.M)
	for _, m := range reply.M {
		<-r.credit
		if m.C == lastChannel {
			close(r.done)
		}
	}
	return reply.T.T
}

// feed publishes while the reader drains, never more than 10,000 ahead.
func feed(b *testing.B, s *pubnubtest.Server, r *reader) {
	channels := channelNames(1000)
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	sent := 0
	for b.Loop() {
		r.credit <- struct{}{}
		s.Publish(channels[sent%len(channels)], payload)
		sent++
	}
	r.credit <- struct{}{}
	s.Publish(lastChannel, payload)
	<-r.done
	if r.received != sent+1 {
		b.Fatalf("received = %d, want %d", r.received, sent+1)
	}
	b.ReportMetric(float64(sent)/b.Elapsed().Seconds(), "msg/s")
}

func newReader() *reader {
	return &reader{credit: make(chan struct{}, 10_000), done: make(chan struct{})}
}

// BenchmarkDelivery publishes in-process while one HTTP subscriber drains a
// wildcard.
func BenchmarkDelivery(b *testing.B) {
	s := start(b, pubnubtest.Config{QueueSize: 100_000})
	r := newReader()
	client := &http.Client{Transport: &http.Transport{}}
	next := func(cursor string) string {
		resp, err := client.Get("http://" + s.Addr() + "/v2/subscribe/demo/user.%2A/0?tr=1&tt=" + cursor)
		if err != nil {
			b.Error(err)
			return cursor
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			b.Error(err)
		}
		return r.take(b, body)
	}
	cursor := next("0")
	go func() {
		for {
			select {
			case <-r.done:
				return
			default:
				cursor = next(cursor)
			}
		}
	}()
	feed(b, s, r)
}

// A stripper hands the SDK the cursor of each reply and keeps the messages.
type stripper struct {
	b      *testing.B
	reader *reader
	base   http.RoundTripper
}

func (g *stripper) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := g.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	cursor := g.reader.take(g.b, body)
	resp.Body = io.NopCloser(strings.NewReader(fmt.Sprintf(`{"t":{"t":%q,"r":1},"m":[]}`, cursor)))
	return resp, nil
}

// BenchmarkSDK does the same with the real SDK's subscribe loop, whose client
// takes the messages before the SDK sees them.
func BenchmarkSDK(b *testing.B) {
	s := start(b, pubnubtest.Config{QueueSize: 100_000})
	r := newReader()
	pn := client(b, s)
	pn.SetSubscribeClient(&http.Client{Transport: &stripper{b, r, &http.Transport{}}})
	listen(b, pn)
	pn.Subscribe().Channels([]string{"user.*"}).Execute()
	if err := s.WaitPolls(within(b, patience), 1); err != nil {
		b.Fatalf("WaitPolls(1) = %v, want nil", err)
	}
	feed(b, s, r)
}

func channelNames(n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("user.%08d-aaaa-bbbb-cccc-dddddddddddd.sync", i))
	}
	return all
}
