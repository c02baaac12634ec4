package bridge

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"
)

// BenchmarkCatchUp has 100,000 messages published while the bridge is down, all
// of which PubNub still hands out, in pages of 100. It reports how long it takes
// from the bridge's start to the last event in the log, and how long a bare HTTP
// client takes that does nothing but poll for the same pages. ratio is the bare
// client's time against the bridge's; the goal is 0.9 at a round trip of 20 ms.
// s-to-compare is how long after that history had been compared with the log.
// The emulator has a process of its own, whose CPU time does not count.
//
// With a round trip one turn takes most of a minute and is stable, so there is
// one for each iteration (-benchtime 3x for three); without, there are three.
//
//	go test ./bridge -run '^$' -bench '^BenchmarkCatchUp$' -benchtime 1x
func BenchmarkCatchUp(b *testing.B) {
	const n = 100_000
	for _, bb := range []struct {
		roundTrip time.Duration
		rounds    int
	}{{0, 3}, {20 * time.Millisecond, 1}} {
		b.Run("rtt="+bb.roundTrip.String(), func(b *testing.B) {
			var ours, bare []lap
			var compared []float64
			for b.Loop() {
				for range bb.rounds {
					s, t, behind := catchUp(b, bb.roundTrip, n)
					ours, bare, compared = append(ours, s), append(bare, t), append(compared, behind.Seconds())
				}
			}
			seconds := func(s lap) float64 { return s.took.Seconds() }
			took, least := medianOf(ours, seconds), medianOf(bare, seconds)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(took, "s-to-store")
			b.ReportMetric(least, "bare-s")
			b.ReportMetric(least/took, "ratio")
			b.ReportMetric(median(compared), "s-to-compare")
			b.ReportMetric(medianOf(ours, lap.cpu), "stored-µs/msg")
			b.ReportMetric(medianOf(bare, lap.cpu), "bare-µs/msg")
		})
	}
}

// catchUp stops a bridge, publishes n messages and starts it again. The bare
// client takes the same messages from the same emulator first.
func catchUp(b *testing.B, roundTrip time.Duration, n int) (ours, bare lap, compared time.Duration) {
	pubnub := farPubNub(b, roundTrip)
	defer pubnub.close()
	log := benchLog(b, 1)
	defer log.Close()
	logger, said := newSaying("history compared with the log", 1)
	cfg := Config{Log: log, Origin: pubnub.addr, SubscribeKey: "demo", Channels: []string{"user.*"}, Logger: logger}

	r := run(b, cfg)
	pubnub.polled()
	r.stop()
	p := newPoller(b, pubnub.addr)
	p.poll()
	pubnub.publish(n)

	end := begin(b, n)
	for p.got < n {
		p.poll()
	}
	bare = end()
	p.client.CloseIdleConnections()

	end = begin(b, n)
	r = run(b, cfg)
	r.stored(n)
	ours = end()
	stored := time.Now()
	<-said
	compared = time.Since(stored)
	if got := r.appended(); got != n {
		b.Fatalf("%d events are stored, want %d", got, n)
	}
	r.stop()
	return ours, bare, compared
}

// poller is the least that takes messages from PubNub. It reads nothing of a
// reply but the cursor, and counts the messages.
type poller struct {
	b      *testing.B
	client *http.Client
	url    string
	cursor string
	got    int
}

func newPoller(b *testing.B, addr string) *poller {
	return &poller{b: b, client: &http.Client{Transport: newTransport()}, url: "http://" + addr + "/v2/subscribe/demo/user.*/0?tr=1&uuid=bare&tt=", cursor: "0"}
}

func (p *poller) poll() {
	p.b.Helper()
	req, err := http.NewRequestWithContext(p.b.Context(), http.MethodGet, p.url+p.cursor, nil)
	if err != nil {
		p.b.Fatal(err)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		p.b.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		p.b.Fatal(err)
	}
	_, rest, _ := bytes.Cut(body, []byte(`{"t":{"t":"`))
	cursor, messages, ok := bytes.Cut(rest, []byte(`"`))
	if !ok || resp.StatusCode != http.StatusOK {
		p.b.Fatal(fmt.Errorf("poll(%s) = %d %s", p.cursor, resp.StatusCode, body))
	}
	p.cursor = string(cursor)
	p.got += bytes.Count(messages, []byte(`"d":`))
}
