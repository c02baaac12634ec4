package stream

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"reprise/hlc"
)

// median of the rounds of a benchmark.
func median[T float64 | time.Duration](rounds []T) T {
	slices.Sort(rounds)
	return rounds[len(rounds)/2]
}

// benchEvent is an event of 300 bytes of one of ten thousand users.
func benchEvent(n int) Event {
	ev := event(fmt.Sprintf("%08x-0000-4000-8000-000000000000", n%10_000), n)
	ev.Device, ev.Timetoken = bob, "17954373395308042"
	for len(ev.Frame) < 300 {
		ev.Frame = append(ev.Frame, ' ')
	}
	return ev
}

// BenchmarkAppend compares the writer with bare asynchronous publishing, 256
// pending, of the same bytes and headers to an equal stream on the same server,
// in alternating rounds. It reports the ratio of the medians; the goal is 0.8.
//
//	go test ./stream -run '^$' -bench '^BenchmarkAppend$' -benchtime 1x
func BenchmarkAppend(b *testing.B) {
	l := openLog(b, nil)
	w := acquire(b, l, 0)
	bareConn, err := l.connect("bare")
	if err != nil {
		b.Fatal(err)
	}
	defer bareConn.Close()
	bare, err := jetstream.New(bareConn, jetstream.WithPublishAsyncMaxPending(window))
	if err != nil {
		b.Fatal(err)
	}
	s, err := l.js.Stream(b.Context(), eventsStream(0))
	if err != nil {
		b.Fatal(err)
	}
	equal := s.CachedInfo().Config
	equal.Name, equal.Subjects = "BARE", []string{"bare.*"}
	if _, err := l.js.CreateStream(b.Context(), equal); err != nil {
		b.Fatal(err)
	}
	const rounds, size = 11, 30_000
	var ours, theirs []float64
	n := 0
	for b.Loop() {
		ours, theirs = ours[:0], theirs[:0]
		for range rounds {
			events := make([]Event, size)
			for i := range events {
				events[i] = benchEvent(n + i)
			}
			start := time.Now()
			for _, ev := range events {
				if err := w.Append(b.Context(), ev); err != nil {
					b.Fatal(err)
				}
			}
			if err := w.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
			ours = append(ours, size/time.Since(start).Seconds())

			for i := range events {
				events[i] = benchEvent(n + i)
			}
			stamp := hlc.New(time.Now().UnixMilli(), 0)
			start = time.Now()
			for i, ev := range events {
				m := &nats.Msg{Subject: "bare." + ev.User, Data: ev.Frame, Header: nats.Header{
					headerFormat: {formatVersion}, headerWriter: {"1"}, headerHlc: {(stamp + hlc.Timestamp(i)).String()},
					headerDevice: {ev.Device}, headerTimetoken: {ev.Timetoken}, headerMsgID: {ev.ID},
				}}
				if _, err := bare.PublishMsgAsync(m, jetstream.WithStallWait(time.Minute)); err != nil {
					b.Fatal(err)
				}
			}
			<-bare.PublishAsyncComplete()
			theirs = append(theirs, size/time.Since(start).Seconds())
			n += size
		}
	}
	b.ReportMetric(median(ours), "events/s")
	b.ReportMetric(median(theirs), "bare/s")
	b.ReportMetric(median(ours)/median(theirs), "ratio")
}

// BenchmarkRead compares a resume of 1,000 recent events from the log, search
// and probe and trim check included, with a bare batched Direct Get of the
// same records. It reports the ratio of the medians; the goal is 0.7.
//
//	go test ./stream -run '^$' -bench '^BenchmarkRead$' -benchtime 1x
func BenchmarkRead(b *testing.B) {
	l := openLog(b, nil)
	w := acquire(b, l, 0)
	ctx, cancel := context.WithCancel(context.Background())
	records := make(chan Record, 1<<20)
	done := make(chan error, 1)
	go func() { done <- l.Follow(ctx, 0, FollowOptions{}, func(r *Record) { records <- *r }) }()
	defer func() { cancel(); <-done }()
	<-records
	// Ten users take turns: 1,000 events of one lie in the newest 10,000.
	const of, behind = 1000, 10
	var since, last Position
	for n := range 50_000 {
		ev := benchEvent(n % behind)
		ev.ID = strconv.Itoa(n)
		if err := w.Append(b.Context(), ev); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	user := benchEvent(0).User
	var positions []Position
	for end := w.Stats().Last; last != end; {
		r := <-records
		if last = r.Position; r.User == user {
			positions = append(positions, r.Position)
		}
	}
	since = positions[len(positions)-of-1]

	const rounds, reads = 11, 20
	var ours, theirs []float64
	for b.Loop() {
		ours, theirs = ours[:0], theirs[:0]
		for range rounds {
			start := time.Now()
			for range reads {
				n := 0
				for at := (Position{Hlc: since.Hlc}); at != last; {
					chunk, err := l.Read(b.Context(), user, at, last)
					if err != nil {
						b.Fatal(err)
					}
					n, at = n+len(chunk.Records), chunk.Next
				}
				if n != of {
					b.Fatalf("read %d events, want %d", n, of)
				}
			}
			ours = append(ours, of*reads/time.Since(start).Seconds())

			start = time.Now()
			for range reads {
				n := 0
				for seq := since.Seq + 1; n < of; {
					_, err := l.direct.get(b.Context(), eventsStream(0), msgGet{Seq: seq, NextFor: subjectOf(0, user), Batch: readBatch, MaxBytes: readBytes}, readBatch, func(m *nats.Msg) error {
						seq = number(m.Header, headerSequence) + 1
						n++
						return nil
					})
					if err != nil {
						b.Fatal(err)
					}
				}
			}
			theirs = append(theirs, of*reads/time.Since(start).Seconds())
		}
	}
	b.ReportMetric(median(ours), "events/s")
	b.ReportMetric(median(theirs), "bare/s")
	b.ReportMetric(median(ours)/median(theirs), "ratio")
}
