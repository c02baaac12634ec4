package edge

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"reprise/hlc"
	"reprise/stream"
)

// TestCoalescedReplay replays a random log to devices that ask for all of it and to
// devices that ask for the newest positions only. Both must come to the same state, and
// the latter get of each content one position at most, and everything else whole.
func TestCoalescedReplay(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	r := newRelay(t, Config{TailPerUser: 16})
	var stamps []hlc.Timestamp
	for n := range 900 {
		content := string(rune('a' + random.IntN(4)))
		if random.IntN(3) == 0 {
			stamps = append(stamps, r.appendState(uuidA, n, "watchlist_update", fmt.Sprintf(`"content_id":%q,"action":%q,"unique_tag":"%d"`, content, [...]string{"add", "remove"}[random.IntN(2)], random.IntN(5))))
			continue
		}
		stamps = append(stamps, r.appendState(uuidA, n, "progress_update", fmt.Sprintf(`"content_id":%q,"position":%d,"device_id":"d","timestamp":"%d"`, content, n, random.IntN(500))))
	}
	r.flush()
	devices := 0
	replay := func(since string, more string) (frames []heard, state stream.State, replayed int) {
		devices++
		d := r.connect(uuidA, uuidOf('a', devices), "&since="+since+more)
		if hello := d.want("welcome"); !hello.Resume.Complete {
			t.Fatalf("since %s: %s, want complete", since, hello.text)
		}
		for {
			f := d.next()
			if f.Type == "caught_up" {
				return frames, state, f.Replayed
			}
			frames = append(frames, f)
			at, err := hlc.Parse(f.Hlc)
			if err == nil {
				err = state.Apply([]byte(f.text), at)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	text := func(s stream.State) string {
		s.Hlc = 0 // the newest event may have been one that was left out
		data, err := s.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	for _, from := range []int{-1, 0, random.IntN(len(stamps)), len(stamps) - 10, len(stamps) - 1} {
		since := "earliest"
		if from >= 0 {
			since = stamps[from].String()
		}
		all, want, _ := replay(since, "&coalesce=0")
		some, got, replayed := replay(since, "&coalesce=1")
		if text(got) != text(want) {
			t.Errorf("since %s: the state is\n%s\nwant\n%s", since, text(got), text(want))
		}
		if replayed != len(some) {
			t.Errorf("since %s: %d replayed, %d came", since, replayed, len(some))
		}
		positions := map[string]int{}
		others := 0
		last := ""
		for _, f := range some {
			if f.Hlc <= last {
				t.Errorf("since %s: %s came after %s", since, f.Hlc, last)
			}
			last = f.Hlc
			if f.Type != "progress_update" {
				others++
				continue
			}
			_, content, _ := strings.Cut(f.text, `"content_id":"`)
			positions[content[:1]]++
		}
		for content, n := range positions {
			if n != 1 {
				t.Errorf("since %s: %d positions of %s came, want one", since, n, content)
			}
		}
		for _, f := range all {
			if f.Type != "progress_update" {
				others--
			}
		}
		if others != 0 {
			t.Errorf("since %s: %d other events are missing", since, -others)
		}
	}
}
