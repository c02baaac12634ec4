package otel

import (
	"math"
	"math/rand/v2"
	"strconv"
	"strings"

	"golang.org/x/time/rate"
)

// sampleRatio is the share of events that is traced unless a variable says otherwise.
const sampleRatio = 0.01

// sampling is the decision which events are traced. It is made once, where a
// trace comes into the relay: by the bridge. What is traced there is traced
// everywhere, so the SDK under it keeps all that it is given.
type sampling struct {
	// static after construction
	off   bool          // this process makes no spans at all
	bound uint64        // of 2^63: an event is traced when chance is below
	some  *rate.Limiter // or as often as this lets; nil is by chance
}

// recentRate and recentBurst are how many events a second are traced only to be
// remembered, and how many at once after a pause.
const recentRate, recentBurst = 50, 200

// readSampling understands what [checkSampler] has let pass.
func readSampling() *sampling {
	name := strings.ToLower(getenv("OTEL_TRACES_SAMPLER"))
	ratio := sampleRatio
	switch name {
	case "always_off":
		return &sampling{off: true}
	case "parentbased_always_off":
		ratio = 0
	case "always_on", "parentbased_always_on":
		ratio = 1
	case "traceidratio", "parentbased_traceidratio":
		ratio = 1
		if r, err := strconv.ParseFloat(getenv("OTEL_TRACES_SAMPLER_ARG"), 64); err == nil {
			ratio = r
		}
	}
	return &sampling{bound: uint64(ratio * (1 << 63))}
}

// sample takes its chances: not the trace id, which the publisher may have
// chosen.
func (s *sampling) sample() bool {
	if s.some != nil {
		return s.some.Allow()
	}
	return rand.Uint64()&math.MaxInt64 < s.bound
}
