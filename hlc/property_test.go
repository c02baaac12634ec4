package hlc

import (
	"cmp"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// anyStamp favours the places where something can break: the ends of the range
// and full counters.
func anyStamp() *rapid.Generator[Timestamp] {
	return rapid.OneOf(
		rapid.Map(rapid.Uint64(), func(v uint64) Timestamp { return Timestamp(v) }),
		rapid.SampledFrom([]Timestamp{Zero, 1, 65535, 65536, last - 65536, last - 1, last}),
		rapid.Custom(func(t *rapid.T) Timestamp {
			return New(rapid.Int64Range(0, maxMillis).Draw(t, "ms"), rapid.SampledFrom([]uint16{0, 1, 65534, 65535}).Draw(t, "counter"))
		}),
	)
}

// Whatever the wall clock does, a clock gives exactly what the rules of the
// paper give, written here without atomics: the greater of the wall and one
// more than all it has seen.
func TestClockKeepsToTheModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		wall := rapid.Int64Range(0, 4e12).Draw(t, "wall")
		drift := time.Duration(rapid.Int64Range(1, 120_000).Draw(t, "drift")) * time.Millisecond
		c := &Clock{MaxDrift: drift, Wall: func() time.Time { return time.UnixMilli(wall) }}
		seen := Zero
		stamped := func(what string, got Timestamp) {
			want := New(wall, 0)
			if seen == last {
				want = last
			} else if want <= seen {
				want = seen + 1
			}
			if got != want || c.Last() != want {
				t.Fatalf("%s = %s, Last() = %s, want %s (wall %d, seen %s)", what, got, c.Last(), want, wall, seen)
			}
			if got <= seen && seen != last {
				t.Fatalf("%s = %s, not after %s", what, got, seen)
			}
			seen = got
		}
		nearStamp := rapid.Custom(func(t *rapid.T) Timestamp {
			return New(wall+rapid.Int64Range(-200_000, 200_000).Draw(t, "offset"), rapid.Uint16().Draw(t, "counter"))
		})
		t.Repeat(map[string]func(*rapid.T){
			"jump":      func(t *rapid.T) { wall += rapid.Int64Range(-4e9, 4e9).Draw(t, "by") },
			"jump long": func(t *rapid.T) { wall = rapid.Int64Range(-1e12, maxMillis+1e6).Draw(t, "to") },
			"tick":      func(*rapid.T) { wall++ },
			"Now":       func(*rapid.T) { stamped("Now()", c.Now()) },
			"Update": func(t *rapid.T) {
				remote := rapid.OneOf(nearStamp, anyStamp()).Draw(t, "remote")
				got, err := c.Update(remote)
				if ahead := remote.Millis() - New(wall, 0).Millis(); ahead > drift.Milliseconds() {
					if err == nil || got != Zero || c.Last() != seen {
						t.Fatalf("Update(%s) = %s, %v, Last() = %s, want a refusal and %s", remote, got, err, c.Last(), seen)
					}
					return
				}
				if err != nil {
					t.Fatalf("Update(%s) = %v, want no error (wall %d, drift %v)", remote, err, wall, drift)
				}
				seen = max(seen, remote)
				stamped("Update("+remote.String()+")", got)
			},
			"Merge": func(t *rapid.T) {
				// Far stamps are rare, or every run would end at one.
				in := nearStamp
				if rapid.IntRange(0, 19).Draw(t, "far") == 0 {
					in = anyStamp()
				}
				stamp := in.Draw(t, "stamp")
				ahead := c.Merge(stamp)
				if got, want := cmp.Compare(ahead, 0), cmp.Compare(stamp.Millis(), New(wall, 0).Millis()); got != want {
					t.Fatalf("Merge(%s) = %v, want the sign %d", stamp, ahead, want)
				}
				if seen = max(seen, stamp); c.Last() != seen {
					t.Fatalf("Last() after Merge(%s) = %s, want %s", stamp, c.Last(), seen)
				}
			},
		})
	})
}

func TestTextSortsAsNumbers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a := anyStamp().Draw(t, "a")
		b := rapid.OneOf(anyStamp(), rapid.Just(a), rapid.Map(rapid.Uint64Range(0, 3), func(d uint64) Timestamp { return a + Timestamp(d) })).Draw(t, "b")
		if got, want := strings.Compare(a.String(), b.String()), cmp.Compare(a, b); got != want {
			t.Fatalf("Compare(%q, %q) = %d, want %d", a, b, got, want)
		}
	})
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in := anyStamp().Draw(t, "stamp")
		if got, err := Parse(in.String()); got != in || err != nil {
			t.Fatalf("Parse(%q) = %s, %v, want it back", in, got, err)
		}
		if got, err := ParseBytes(in.AppendTo(nil)); got != in || err != nil {
			t.Fatalf("ParseBytes(%q) = %s, %v, want it back", in, got, err)
		}
		if got := New(in.Millis(), in.Counter()); got != in {
			t.Fatalf("New(%d, %d) = %s, want %s", in.Millis(), in.Counter(), got, in)
		}
		if got := New(in.Time().UnixMilli(), in.Counter()); got != in {
			t.Fatalf("New(%v, %d) = %s, want %s", in.Time(), in.Counter(), got, in)
		}
	})
}

func TestNewKeepsToItsRange(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ms, counter := rapid.Int64().Draw(t, "ms"), rapid.Uint16().Draw(t, "counter")
		got := New(ms, counter)
		if want := min(max(ms, 0), int64(math.MaxUint64>>16)); got.Millis() != want || got.Counter() != counter {
			t.Fatalf("New(%d, %d) = %d, %d, want %d, %d", ms, counter, got.Millis(), got.Counter(), want, counter)
		}
	})
}
