package hlc

import "testing"

// sink keeps the compiler from dropping what a benchmark computes.
var sink Timestamp

func BenchmarkNow(b *testing.B) {
	b.ReportAllocs()
	var c Clock
	for b.Loop() {
		sink = c.Now()
	}
}

func BenchmarkNowContended(b *testing.B) {
	b.ReportAllocs()
	var c Clock
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.Now()
		}
	})
}

func BenchmarkUpdate(b *testing.B) {
	b.ReportAllocs()
	var c Clock
	remote := c.Now()
	for b.Loop() {
		var err error
		if sink, err = c.Update(remote); err != nil {
			b.Fatal(err)
		}
		remote = sink
	}
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	const in = "019a3f2c8e410003"
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		var err error
		if sink, err = Parse(in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendTo(b *testing.B) {
	b.ReportAllocs()
	dst := make([]byte, 0, textLen)
	b.SetBytes(textLen)
	for b.Loop() {
		dst = Timestamp(0x019a3f2c8e410003).AppendTo(dst[:0])
	}
}
