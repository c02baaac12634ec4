package pubnubtest_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"reprise/bridge/pubnubtest"
)

var payload = []byte(`{"type":"progress_update","data":"` + strings.Repeat("x", 250) + `"}`)

// BenchmarkPublish is publishing alone, and while a subscriber polls a wildcard.
func BenchmarkPublish(b *testing.B) {
	for _, bb := range []struct {
		name     string
		channels int
		polled   bool
	}{
		{"channels=1000", 1000, false},
		{"channels=100000", 100_000, false},
		{"channels=100000/polled", 100_000, true},
	} {
		b.Run(bb.name, func(b *testing.B) {
			s := start(b, pubnubtest.Config{})
			channels := channelNames(bb.channels)
			for _, channel := range channels { // the first publish makes the channel
				s.Publish(channel, payload)
			}
			if bb.polled {
				poller := newPoller(b, s, "/v2/subscribe/demo/user.%2A/0?tr=1")
				ended := make(chan struct{})
				stop := make(chan struct{})
				go func() {
					defer close(ended)
					for {
						select {
						case <-stop:
							return
						default:
							poller.next()
						}
					}
				}()
				defer func() {
					close(stop)
					s.Publish(lastChannel, payload) // ends a held poll
					<-ended
				}()
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				s.Publish(channels[i*7919%len(channels)], payload)
			}
		})
	}
}

// A poller subscribes without a network, from the cursor of the last reply.
type poller struct {
	b        *testing.B
	s        *pubnubtest.Server
	uri      string
	cursor   string
	received int
}

func newPoller(b *testing.B, s *pubnubtest.Server, uri string) *poller {
	p := &poller{b: b, s: s, uri: uri, cursor: "0"}
	p.next()
	return p
}

func (p *poller) next() {
	w := httptest.NewRecorder()
	p.s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, p.uri+"&tt="+p.cursor, nil))
	_, rest, _ := strings.Cut(w.Body.String(), `{"t":{"t":"`)
	cursor, messages, ok := strings.Cut(rest, `"`)
	if !ok {
		p.b.Errorf("poll(%s) = %d %s, want 200", p.cursor, w.Code, w.Body)
	}
	p.cursor = cursor
	p.received += strings.Count(messages, `"d":`)
}

// groupsOf registers channels in ten groups of equal size, named after a
// prefix, and returns the URI of the subscribe that names the groups.
func groupsOf(b *testing.B, s *pubnubtest.Server, prefix string, channels []string) string {
	const groups, atOnce = 10, 200
	size := len(channels) / groups
	var names []string
	for g := range groups {
		name := fmt.Sprintf("%s-%d", prefix, g)
		for part := range slices.Chunk(channels[g*size:(g+1)*size], atOnce) {
			get(b, s, "/v1/channel-registration/sub-key/demo/channel-group/"+name+"?add="+strings.Join(part, ","))
		}
		names = append(names, name)
	}
	return "/v2/subscribe/demo/,/0?tr=1&channel-group=" + strings.Join(names, ",")
}

// BenchmarkLanes publishes to any of 300,000 channels while 16 subscribers
// drain ten groups of up to 2,000 of them each.
func BenchmarkLanes(b *testing.B) {
	const lanes, users, ahead = 16, 100_000, 1000
	s := start(b, pubnubtest.Config{QueueSize: ahead})
	var channels []string
	for i := range users {
		for _, kind := range []string{"sync", "devices", "notifications"} {
			channels = append(channels, fmt.Sprintf("user.%08d-aaaa-bbbb-cccc-dddddddddddd.%s", i, kind))
		}
	}
	sent := make(chan int) // how many have been, when that is all
	credit := make(chan struct{}, ahead)
	arrived := make(chan struct{}, ahead)
	var polling sync.WaitGroup
	stop := make(chan struct{})
	for lane := range lanes {
		p := newPoller(b, s, groupsOf(b, s, fmt.Sprintf("lane-%d", lane), channels[lane*len(channels)/lanes:(lane+1)*len(channels)/lanes]))
		polling.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				before := p.received
				p.next()
				for range p.received - before {
					<-credit
					arrived <- struct{}{}
				}
			}
		})
	}
	complete := make(chan struct{})
	go func() {
		defer close(complete)
		want := -1
		for n := 0; n != want; {
			select {
			case <-arrived:
				n++
			case want = <-sent:
			}
		}
	}()
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		credit <- struct{}{}
		s.Publish(channels[n*7919%len(channels)], payload)
		n++
	}
	sent <- n
	<-complete
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "msg/s")
	close(stop)
	for lane := range lanes { // ends the held polls
		credit <- struct{}{}
		s.Publish(channels[lane*len(channels)/lanes], payload)
	}
	polling.Wait()
}

// BenchmarkGroups is one publish and the poll over ten groups that gets it: at
// once, or held until then.
func BenchmarkGroups(b *testing.B) {
	for _, n := range []int{200, 2000, 20_000} {
		channels := channelNames(n)
		b.Run(fmt.Sprintf("at once/channels=%d", n), func(b *testing.B) {
			s := start(b, pubnubtest.Config{})
			p := newPoller(b, s, groupsOf(b, s, "lane-0", channels))
			sent := 0
			b.ReportAllocs()
			for b.Loop() {
				s.Publish(channels[sent*7919%n], payload)
				p.next()
				sent++
			}
			if p.received != sent {
				b.Errorf("received = %d, want %d", p.received, sent)
			}
		})
		b.Run(fmt.Sprintf("held/channels=%d", n), func(b *testing.B) {
			s := start(b, pubnubtest.Config{})
			p := newPoller(b, s, groupsOf(b, s, "lane-0", channels))
			sent := 0
			b.ReportAllocs()
			for b.Loop() {
				answered := make(chan struct{})
				go func() {
					p.next()
					close(answered)
				}()
				if err := s.WaitPolls(b.Context(), 1); err != nil {
					b.Fatalf("WaitPolls(1) = %v, want nil", err)
				}
				s.Publish(channels[sent*7919%n], payload)
				<-answered
				sent++
			}
			if p.received != sent {
				b.Errorf("received = %d, want %d", p.received, sent)
			}
		})
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
