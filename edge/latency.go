package edge

import (
	"math"
	"slices"
	"sync/atomic"
	"time"
)

// latencySamples is over how many deliveries the percentiles are.
const latencySamples = 1000

// latencies is the broadcast latencies of the last deliveries. Adding to it
// takes no lock.
type latencies struct {
	count atomic.Uint64
	ring  [latencySamples]atomic.Int64 // ns
}

func (l *latencies) add(d time.Duration) {
	l.ring[(l.count.Add(1)-1)%latencySamples].Store(int64(d))
}

// Latency is a distribution, in milliseconds with three decimals; P50, P95 and P99
// are nearest-rank percentiles. The zero Latency has no samples.
type Latency struct {
	P50     float64 `json:"p50"`
	P95     float64 `json:"p95"`
	P99     float64 `json:"p99"`
	Average float64 `json:"average"`
	Samples int     `json:"samples"`
}

func (l *latencies) summary() Latency {
	n := int(min(l.count.Load(), latencySamples))
	if n == 0 {
		return Latency{}
	}
	ns := make([]int64, n)
	var sum float64
	for i := range ns {
		ns[i] = l.ring[i].Load()
		sum += float64(ns[i])
	}
	slices.Sort(ns)
	rank := func(p float64) float64 { return milliseconds(float64(ns[int(math.Ceil(p*float64(n)))-1])) }
	return Latency{P50: rank(0.50), P95: rank(0.95), P99: rank(0.99), Average: milliseconds(sum / float64(n)), Samples: n}
}

// milliseconds turns nanoseconds into milliseconds with three decimals.
func milliseconds(ns float64) float64 { return math.Round(ns/1e3) / 1e3 }
