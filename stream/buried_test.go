package stream

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"
)

func TestDeadLettersAreListed(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	if got, err := l.DeadLetters(t.Context(), 0, "", 10); err != nil || len(got) != 0 {
		t.Errorf("DeadLetters of an empty log = %v, %v", got, err)
	}
	const n = readBatch + 100 // more than one batch
	letter := func(i int) DeadLetter {
		return DeadLetter{
			ID: fmt.Sprint("user.x.sync:", i), Reason: []string{"bad_id", "not_json"}[i%2], Detail: "detail: ü", Channel: "user.x.sync",
			Timetoken: fmt.Sprint(i), Publisher: "p", Raw: fmt.Append(nil, i),
		}
	}
	begin := time.Now()
	for i := range n {
		if err := l.Bury(t.Context(), letter(i)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		after  uint64
		reason string
		most   int
		want   []uint64 // first, last
		len    int
	}{
		{0, "", 10 * n, []uint64{1, n}, n},
		{0, "", 7, []uint64{1, 7}, 7},
		{n - 1, "", 1, []uint64{n, n}, 1},
		{n, "", 1, nil, 0},
		{0, "", 0, nil, 0},
		{0, "", -1, nil, 0},
		{0, "bad_id", n, []uint64{1, n - 1}, n / 2},
		{100, "not_json", 3, []uint64{102, 106}, 3},
		{0, "too_deep", n, nil, 0},
	} {
		got, err := l.DeadLetters(t.Context(), c.after, c.reason, c.most)
		if err != nil || len(got) != c.len || c.len > 0 && (got[0].Seq != c.want[0] || got[c.len-1].Seq != c.want[1]) {
			t.Errorf("DeadLetters(%d, %q, %d) = %d letters, %v, want %d, %v", c.after, c.reason, c.most, len(got), err, c.len, c.want)
			continue
		}
		for _, b := range got {
			if want := letter(int(b.Seq - 1)); !reflect.DeepEqual(b.DeadLetter, want) || b.Size != len(want.Raw) || b.At.Sub(begin).Abs() > time.Minute {
				t.Errorf("DeadLetters has %+v, want %+v", b, want)
			}
		}
	}
	if _, err := l.DeadLetters(t.Context(), 0, "a.b", 1); err == nil {
		t.Error("DeadLetters of a reason that is none = nil")
	}

	// Their ids, from a time on.
	middle, err := l.DeadLetter(t.Context(), 400)
	if err != nil || !reflect.DeepEqual(middle.DeadLetter, letter(399)) {
		t.Fatalf("DeadLetter(400) = %+v, %v", middle, err)
	}
	for at, want := range map[time.Time]int{
		{}: n, time.Unix(0, 0): n, begin.Add(-time.Hour): n, middle.At: n - 399, middle.At.Add(1): n - 400, time.Now().Add(time.Hour): 0,
	} {
		ids, err := l.BuriedSince(t.Context(), at)
		if err != nil || len(ids) != want {
			t.Errorf("BuriedSince(%v) = %d ids, %v, want %d", at, len(ids), err, want)
		}
		if _, ok := ids[letter(n-1).ID]; ok != (want > 0) {
			t.Errorf("BuriedSince(%v) has the newest: %v", at, ok)
		}
	}
}

func TestUnbury(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	for i := range 3 {
		if err := l.Bury(t.Context(), DeadLetter{ID: fmt.Sprint(i), Reason: "bad_id", Raw: bytes.Repeat([]byte("x"), deadMost+i)}); err != nil {
			t.Fatal(err)
		}
	}
	cut, err := l.DeadLetter(t.Context(), 3)
	if err != nil || cut.Size != deadMost+2 || len(cut.Raw) != deadMost {
		t.Errorf("DeadLetter(3) has %d of %d bytes, %v", len(cut.Raw), cut.Size, err)
	}
	for _, seq := range []uint64{2, 2, 0, 1000} {
		if err := l.Unbury(t.Context(), seq); err != nil {
			t.Errorf("Unbury(%d) = %v", seq, err)
		}
	}
	for _, seq := range []uint64{0, 2, 1000} {
		if _, err := l.DeadLetter(t.Context(), seq); !errors.Is(err, ErrNoDeadLetter) {
			t.Errorf("DeadLetter(%d) = %v, want %v", seq, err, ErrNoDeadLetter)
		}
	}
	left, err := l.DeadLetters(t.Context(), 0, "", 10)
	if err != nil || len(left) != 2 || left[1].Seq != 3 {
		t.Errorf("DeadLetters after Unbury = %d, %v, want 1 and 3", len(left), err)
	}
}
