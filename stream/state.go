package stream

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"reprise/hlc"
)

// State is what a user's events amount to: the watchlist, an observed-remove set
// whose tags tell additions apart, and of each content the position with the newest
// origin timestamp. Events may be applied in any order and any number of times.
// Commands and notifications are no state. The zero value is that of no event.
//
// It is not safe for concurrent use.
type State struct {
	// Hlc is the stamp of the newest event that was applied, of whatever type.
	Hlc hlc.Timestamp
	// Gap is the stamp of the newest gap that concerns the user; zero is none.
	Gap hlc.Timestamp

	live     map[string]tags // by content: additions that nobody took back
	removed  map[string]tags // by content: tags that were taken back
	progress map[string]progress
	full     bool // there was too much: nothing is kept but the stamps
}

// tags are in no order while they are in memory.
type tags map[string]struct{}

// progress is where a content was watched to.
type progress struct {
	Content   string  `json:"content_id"`
	Position  uint64  `json:"position"`
	Duration  *uint64 `json:"duration,omitempty"`
	Device    string  `json:"device_id,omitempty"`
	Timestamp string  `json:"timestamp,omitempty"`
}

// stateOf is the members of the frames that are state.
type stateOf struct {
	Type      string  `json:"type"`
	Content   string  `json:"content_id"`
	Action    string  `json:"action"`
	Tag       string  `json:"unique_tag"`
	Position  uint64  `json:"position"`
	Duration  *uint64 `json:"duration"`
	Device    string  `json:"device_id"`
	Timestamp string  `json:"timestamp"`
}

// Apply applies the event of a frame. An error says that frame is none.
func (s *State) Apply(frame []byte, at hlc.Timestamp) error {
	var e stateOf
	if err := json.Unmarshal(frame, &e); err != nil {
		return fmt.Errorf("stream: state: %w", err)
	}
	switch {
	case s.full:
	case e.Type == "watchlist_update":
		if e.Action == "add" {
			s.add(e.Content, e.Tag)
		} else {
			s.remove(e.Content, e.Tag)
		}
	case e.Type == "progress_update":
		s.watched(progress{e.Content, e.Position, e.Duration, e.Device, e.Timestamp})
	}
	s.Hlc = max(s.Hlc, at)
	return nil
}

// merge applies all that o has been applied.
func (s *State) merge(o *State) {
	s.Hlc, s.Gap = max(s.Hlc, o.Hlc), max(s.Gap, o.Gap)
	if o.full {
		*s = State{Hlc: s.Hlc, Gap: s.Gap, full: true}
	}
	if s.full {
		return
	}
	for content, some := range o.removed {
		for tag := range some {
			s.remove(content, tag)
		}
	}
	for content, some := range o.live {
		for tag := range some {
			s.add(content, tag)
		}
	}
	for _, p := range o.progress {
		s.watched(p)
	}
}

func (s *State) add(content, tag string) {
	if _, gone := s.removed[content][tag]; !gone {
		s.live = put(s.live, content, tag)
	}
}

func (s *State) remove(content, tag string) {
	s.removed = put(s.removed, content, tag)
	if delete(s.live[content], tag); len(s.live[content]) == 0 {
		delete(s.live, content)
	}
}

func put(all map[string]tags, content, tag string) map[string]tags {
	if all == nil {
		all = make(map[string]tags)
	}
	if all[content] == nil {
		all[content] = make(tags)
	}
	all[content][tag] = struct{}{}
	return all
}

func (s *State) watched(p progress) {
	if s.progress == nil {
		s.progress = make(map[string]progress)
	}
	if have, known := s.progress[p.Content]; !known || have.compare(p) < 0 {
		s.progress[p.Content] = p
	}
}

// compare orders what was said of one content: the newest is the greatest. A tie
// goes by the device, and then by what was said, so that even of two that say
// different things under one timestamp everybody takes the same.
func (p progress) compare(o progress) int {
	return cmp.Or(
		cmp.Compare(hlc.Origin(p.Timestamp), hlc.Origin(o.Timestamp)),
		strings.Compare(p.Device, o.Device),
		cmp.Compare(p.Position, o.Position),
		cmp.Compare(p.length(), o.length()))
}

// length is one more than the duration, and 0 where there is none.
func (p progress) length() uint64 {
	if p.Duration == nil {
		return 0
	}
	return *p.Duration + 1
}

// added is an entry of the watchlist.
type added struct {
	Content string   `json:"content_id"`
	Tags    []string `json:"unique_tags"`
}

// stateRecord is a State as the bucket keeps it, and, without Removed, as a device
// gets it.
type stateRecord struct {
	Hlc       hlc.Timestamp `json:"hlc"`
	Gap       hlc.Timestamp `json:"gap,omitempty"`
	Watchlist []added       `json:"watchlist"`
	Progress  []progress    `json:"progress"`
	Removed   []added       `json:"removed,omitempty"`
	Full      bool          `json:"full,omitempty"`
}

// MarshalJSON implements [json.Marshaler]. Equal states have equal bytes.
func (s *State) MarshalJSON() ([]byte, error) {
	r := stateRecord{Hlc: s.Hlc, Gap: s.Gap, Full: s.full, Watchlist: sorted(s.live), Removed: sorted(s.removed), Progress: []progress{}}
	for _, content := range slices.Sorted(maps.Keys(s.progress)) {
		r.Progress = append(r.Progress, s.progress[content])
	}
	return plainJSON(r)
}

// UnmarshalJSON implements [json.Unmarshaler].
func (s *State) UnmarshalJSON(data []byte) error {
	var r stateRecord
	if err := json.Unmarshal(data, &r); err != nil {
		return err
	}
	*s = State{Hlc: r.Hlc, Gap: r.Gap, full: r.Full}
	for _, a := range r.Watchlist {
		for _, tag := range a.Tags {
			s.live = put(s.live, a.Content, tag)
		}
	}
	for _, a := range r.Removed {
		for _, tag := range a.Tags {
			s.removed = put(s.removed, a.Content, tag)
		}
	}
	for _, p := range r.Progress {
		s.watched(p)
	}
	return nil
}

// shrink makes the state's text no longer than most bytes, and reports whether
// anything had to go for that: first the tags that were taken back, and if that does
// not do, everything.
func (s *State) shrink(most int) bool {
	if s.size() <= most {
		return false
	}
	if s.removed = nil; s.size() > most {
		*s = State{Hlc: s.Hlc, Gap: s.Gap, full: true}
	}
	return true
}

// contents is how many contents the state has something of, each of up to three kinds.
func (s *State) contents() int { return len(s.live) + len(s.removed) + len(s.progress) }

// watchlistHead is how the frame of a change to the watchlist begins.
var watchlistHead = []byte(`{"type":"watchlist_update",`)

// size is an upper bound of the text's bytes.
func (s *State) size() (n int) {
	for _, all := range []map[string]tags{s.live, s.removed} {
		for content, some := range all {
			n += quoted(content) + 64
			for tag := range some {
				n += quoted(tag) + 1
			}
		}
	}
	for content, p := range s.progress {
		n += quoted(content) + quoted(p.Device) + quoted(p.Timestamp) + 128
	}
	return n
}

// quoted is an upper bound of the bytes of s in JSON.
func quoted(s string) int {
	n := len(s) + 2 + 3*strings.Count(s, "\u2028") + 3*strings.Count(s, "\u2029")
	for i := range len(s) {
		if s[i] < ' ' || s[i] == '"' || s[i] == '\\' {
			n += 5
		}
	}
	return n
}

func sorted(all map[string]tags) []added {
	list := []added{}
	for _, content := range slices.Sorted(maps.Keys(all)) {
		list = append(list, added{content, slices.Sorted(maps.Keys(all[content]))})
	}
	return list
}
