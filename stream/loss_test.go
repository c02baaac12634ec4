package stream

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// TestLossIsNotedHoweverOftenTheShardWasFenced cuts the end of a shard off, as a
// backup does that is put back, and lets a writer die between its fence and the gap
// marker: the next one knows of the loss all the same, and the one after it, once
// there is a newer checkpoint, does not.
func TestLossIsNotedHoweverOftenTheShardWasFenced(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	save := func(w *Writer, lane string) {
		b, err := w.Bookmark(t.Context(), lane)
		if err == nil {
			err = b.Save(t.Context(), "17954373395342100", 1, nil)
		}
		if err != nil {
			t.Fatalf("Save() = %v", err)
		}
	}
	lost := func(w *Writer, lane string) Gap {
		b, err := w.Bookmark(t.Context(), lane)
		if err != nil {
			t.Fatalf("Bookmark() = %v", err)
		}
		return b.Lost()
	}
	w := acquire(t, l, 0)
	appendAll(t, w, alice, 0, 10)
	kept := w.Stats().Last
	appendAll(t, w, alice, 10, 20)
	end := w.Stats().Last
	save(w, "1")
	save(w, "2")
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w := acquire(t, l, 0); lost(w, "1") != (Gap{}) {
		t.Fatalf("Lost() = %+v before anything was lost", lost(w, "1"))
	} else if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	cut(t, l, kept.Seq)

	le, err := l.takeLease(t.Context(), "shard.0", 0, 0, func() bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	dies := newWriter(l, 0, le)
	dies.start(make(chan struct{}))
	if err := dies.takeOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	dies.fail(ErrClosed)
	<-dies.done
	le.giveBack(t.Context(), dies.clock.Last())

	w = acquire(t, l, 0)
	want := Gap{From: kept.Hlc, To: end.Hlc}
	if got := lost(w, "1"); got != want {
		t.Errorf("Lost() = %+v, want %+v", got, want)
	}
	save(w, "1") // the other lane's has not got so far
	if err := w.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	w = acquire(t, l, 0)
	if got := lost(w, "1"); got != (Gap{}) {
		t.Errorf("Lost() = %+v after a newer checkpoint, want nothing", got)
	}
	if got := lost(w, "2"); got != want {
		t.Errorf("Lost() of the other lane = %+v, want %+v", got, want)
	}
}

// TestIdleWriterNoticesABackup puts a backup in the log's place while nobody appends.
// The writer notices long before it has something to say.
func TestIdleWriterNoticesABackup(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	w := acquire(t, l, 0)
	appendAll(t, w, alice, 0, 10)
	kept := w.Stats().Last
	appendAll(t, w, alice, 10, 20)
	cut(t, l, kept.Seq)
	select {
	case <-w.Done():
		if !errors.Is(w.Err(), ErrDeposed) {
			t.Errorf("Err() = %v, want %v", w.Err(), ErrDeposed)
		}
	case <-time.After(markerEvery - 5*time.Second):
		t.Error("the writer goes on")
	}
}

// cut makes shard 0 a stream that ends at seq: what its backup from then would be.
func cut(t *testing.T, l *Log, seq uint64) {
	t.Helper()
	ctx := t.Context()
	var kept []*nats.Msg
	for at := uint64(1); at <= seq; at++ {
		m, err := l.leaderGet(ctx, eventsStream(0), msgGet{Seq: at})
		if err != nil {
			t.Fatal(err)
		}
		h, err := nats.DecodeHeadersMsg(m.Header)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{headerExpectedSeq, headerBatchID, headerBatchSeq, headerBatchCommit} {
			delete(h, key)
		}
		kept = append(kept, &nats.Msg{Subject: m.Subject, Header: h, Data: m.Data})
	}
	s, err := l.js.Stream(ctx, eventsStream(0))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.js.DeleteStream(ctx, eventsStream(0)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.js.CreateStream(ctx, s.CachedInfo().Config); err != nil {
		t.Fatal(err)
	}
	for _, m := range kept {
		if _, err := l.js.PublishMsg(ctx, m); err != nil {
			t.Fatal(err)
		}
	}
}
