package stream

import (
	"encoding/json"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"reprise/hlc"
)

// frames are of few users' few things, so that they meet.
var frames = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
	content := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "content")
	origin := fmt.Sprintf(`"device_id":%q,"timestamp":"%d"`, rapid.SampledFrom([]string{"d", "e"}).Draw(t, "device"), rapid.IntRange(1, 4).Draw(t, "timestamp"))
	switch rapid.IntRange(0, 3).Draw(t, "kind") {
	case 0:
		return fmt.Sprintf(`{"type":"notification","data":{},%s}`, origin)
	case 1:
		return fmt.Sprintf(`{"type":"watchlist_update","content_id":%q,"action":%q,"unique_tag":%q,%s}`, content,
			rapid.SampledFrom([]string{"add", "remove"}).Draw(t, "action"), rapid.SampledFrom([]string{"<1>", "2"}).Draw(t, "tag"), origin)
	case 2:
		return fmt.Sprintf(`{"type":"progress_update","content_id":%q,"position":%d,"duration":%d,%s}`, content,
			rapid.IntRange(0, 3).Draw(t, "position"), rapid.IntRange(0, 1).Draw(t, "duration"), origin)
	}
	return fmt.Sprintf(`{"type":"progress_update","content_id":%q,"position":%d,%s}`, content, rapid.IntRange(0, 3).Draw(t, "position"), origin)
}), 0, 40)

func textOf(t *rapid.T, s *State) string {
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestStateWhateverTheOrder applies events shuffled, with repeats, and with the state
// written and read again in between.
func TestStateWhateverTheOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := frames.Draw(t, "frames")
		var want State
		for i, frame := range all {
			if err := want.Apply([]byte(frame), hlc.Timestamp(i+1)); err != nil {
				t.Fatal(err)
			}
		}
		order := rapid.Permutation(indices(len(all))).Draw(t, "order")
		if len(all) > 0 {
			order = append(order, rapid.SliceOf(rapid.SampledFrom(order)).Draw(t, "repeats")...)
		}
		var got State
		for _, i := range order {
			if err := got.Apply([]byte(all[i]), hlc.Timestamp(i+1)); err != nil {
				t.Fatal(err)
			}
			if rapid.Bool().Draw(t, "stored") {
				var again State
				if err := json.Unmarshal([]byte(textOf(t, &got)), &again); err != nil {
					t.Fatal(err)
				}
				got = again
			}
		}
		if got, want := textOf(t, &got), textOf(t, &want); got != want {
			t.Fatalf("the state is\n%s\nwant\n%s", got, want)
		}
	})
}

func indices(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

func TestStateForm(t *testing.T) {
	t.Parallel()
	var s State
	for i, frame := range []string{
		`{"type":"watchlist_update","hlc":"0000000000000001","content_id":"f","action":"add","unique_tag":"<t>"}`,
		`{"type":"watchlist_update","hlc":"0000000000000002","content_id":"g","action":"remove","unique_tag":"u"}`,
		`{"type":"progress_update","hlc":"0000000000000003","content_id":"f","position":7,"duration":0,"device_id":"tv","timestamp":"5"}`,
		`{"type":"device_command","hlc":"0000000000000004","command":"pause","target_device":"x"}`,
	} {
		if err := s.Apply([]byte(frame), hlc.Timestamp(i+1)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := plainJSON(&s)
	want := `{"hlc":"0000000000000004","watchlist":[{"content_id":"f","unique_tags":["<t>"]}],"progress":[{"content_id":"f","position":7,"duration":0,"device_id":"tv","timestamp":"5"}],"removed":[{"content_id":"g","unique_tags":["u"]}]}`
	if err != nil || string(got) != want {
		t.Errorf("State = %s, %v, want\n%s", got, err, want)
	}
	if err := s.Apply([]byte(`[`), 5); err == nil {
		t.Error("Apply took what is no JSON")
	}
}

// TestStateMerge has two states hear of parts of the events, some of both.
func TestStateMerge(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var whole State
		var parts [2]State
		for i, frame := range frames.Draw(t, "frames") {
			to := rapid.IntRange(0, 2).Draw(t, "to")
			for n, s := range []*State{&parts[0], &parts[1], &whole} {
				if n == to || to == 2 || n == 2 {
					if err := s.Apply([]byte(frame), hlc.Timestamp(i+1)); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		parts[0].merge(&parts[1])
		if got, want := textOf(t, &parts[0]), textOf(t, &whole); got != want {
			t.Fatalf("merged the state is\n%s\nwant\n%s", got, want)
		}
	})
}
