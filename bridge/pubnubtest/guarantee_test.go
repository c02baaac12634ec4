package pubnubtest_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"reprise/bridge/pubnubtest"
)

// TestNothingIsLostToACarefulSubscriber is the first guarantee of the package
// under everything that can be injected without lying about the cursor: a
// subscriber that keeps the old cursor after any answer it cannot use gets
// every message, while three publishers publish and the server goes away.
func TestNothingIsLostToACarefulSubscriber(t *testing.T) {
	t.Parallel()
	const publishers, each = 3, 700
	s := start(t, pubnubtest.Config{QueueSize: publishers * each, PageSize: 40, PollTimeout: 20 * time.Millisecond})
	get(t, s, "/v1/channel-registration/sub-key/demo/channel-group/g?add=plain")
	cursor := poll(t, s, "user.%2A", "g", "").T.T
	for i, kind := range []pubnubtest.Kind{
		pubnubtest.Status, pubnubtest.Hangup, pubnubtest.Reset, pubnubtest.Garbage, pubnubtest.Hold, pubnubtest.Stall,
		pubnubtest.Drip, pubnubtest.LongLength, pubnubtest.CutChunks, pubnubtest.CutJSON, pubnubtest.NumberCursor,
		pubnubtest.ZeroCursor, pubnubtest.Replay, pubnubtest.Backwards, pubnubtest.Shuffle,
	} {
		s.Inject(pubnubtest.Fault{Kind: kind, Endpoint: pubnubtest.Poll, Probability: 0.05,
			Delay: time.Millisecond, N: 500, Status: 500 + i, AfterWork: i%2 == 0})
	}

	var publishing sync.WaitGroup
	for p := range publishers {
		publishing.Go(func() {
			for i := range each {
				body := fmt.Sprintf(`{"n":%d}`, p*each+i)
				switch p {
				case 0:
					s.Publish("user.0.sync", []byte(body))
				case 1:
					s.Publish("plain", []byte(body))
				default: // over the wire, until it is acknowledged
					for {
						resp, err := plain.Get("http://" + s.Addr() + "/publish/demo/demo/0/user.2.sync/0/" + body)
						if err != nil {
							continue // stopped
						}
						resp.Body.Close()
						if resp.StatusCode == http.StatusOK {
							break
						}
					}
				}
				if p == 0 && i%200 == 100 {
					s.Stop()
					if err := s.Restart(); err != nil {
						t.Errorf("Restart() = %v, want nil", err)
					}
				}
			}
		})
	}

	seen := make(map[string]bool)
	ask := func() {
		resp, err := plain.Get("http://" + s.Addr() + "/v2/subscribe/demo/user.%2A/0?channel-group=g&tt=" + cursor)
		if err != nil {
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		var b batch
		if err != nil || resp.StatusCode != http.StatusOK || json.Unmarshal(body, &b) != nil {
			return
		}
		if n, err := strconv.ParseInt(b.T.T, 10, 64); err != nil || n == 0 {
			return
		}
		for _, d := range b.payloads() {
			seen[d] = true
		}
		cursor = b.T.T
	}
	deadline := time.Now().Add(patience)
	for len(seen) < publishers*each && time.Now().Before(deadline) {
		ask()
	}
	publishing.Wait()
	missing := slices.DeleteFunc(numbers(0, publishers*each), func(d string) bool { return seen[d] })
	if len(missing) > 0 {
		t.Errorf("messages missing = %d, want 0; the first: %s", len(missing), missing[0])
	}
}
