package otel

import (
	"math"
	"testing"
)

func TestSampling(t *testing.T) {
	for _, tt := range []struct {
		name, arg string
		off       bool
		ratio     float64
	}{
		{"", "", false, 0.01},
		{"always_on", "", false, 1},
		{"always_off", "", true, 0},
		{"parentbased_always_on", "", false, 1},
		{"parentbased_always_off", "", false, 0},
		{"traceidratio", "0.25", false, 0.25},
		{"Parentbased_TraceIDRatio", " 0.5 ", false, 0.5},
		{"traceidratio", "", false, 1},
	} {
		clean(t, "OTEL_TRACES_SAMPLER", tt.name, "OTEL_TRACES_SAMPLER_ARG", tt.arg)
		s := readSampling()
		const n = 100_000
		got := 0
		for range n {
			if s.sample() {
				got++
			}
		}
		// Six standard deviations: less than one run in a hundred million.
		if most := 6 * math.Sqrt(n*tt.ratio*(1-tt.ratio)); s.off != tt.off || math.Abs(float64(got)-n*tt.ratio) > most {
			t.Errorf("sampler %q %q: off %v, %d of %d sampled, want off %v, %v", tt.name, tt.arg, s.off, got, n, tt.off, n*tt.ratio)
		}
	}
	s := sampling{bound: 1 << 60}
	if allocs := testing.AllocsPerRun(100, func() { s.sample() }); allocs != 0 {
		t.Errorf("sample() allocates %v times, want 0", allocs)
	}
}

// BenchmarkSample is the decision, made for every event.
func BenchmarkSample(b *testing.B) {
	s := sampling{bound: 1 << 56}
	b.ReportAllocs()
	for b.Loop() {
		s.sample()
	}
}
