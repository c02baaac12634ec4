package bridge

import (
	"fmt"
	"sync/atomic"
	"testing"

	"reprise/bridge/pubnubtest"
)

// BenchmarkCallPublish publishes from 8 goroutines per processor over one client.
func BenchmarkCallPublish(b *testing.B) {
	s, err := pubnubtest.Start(pubnubtest.Config{JournalSize: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	c, err := newCaller(callerConfig{origin: s.Addr(), subscribeKey: "demo", publishKey: "demo", userID: "reprise-bench"})
	if err != nil {
		b.Fatal(err)
	}
	defer c.close()
	body, meta := []byte(`{"type":"watchlist_add","content_id":"x"}`), []byte(`{"id":"1"}`)
	var workers atomic.Int64
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		channel := fmt.Sprintf("user.%d.sync", workers.Add(1))
		for pb.Next() {
			if _, err := c.publish(b.Context(), channel, body, meta); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
