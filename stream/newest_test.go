package stream

import (
	"fmt"
	"testing"

	"reprise/hlc"
)

// Of more contents than can be told apart nothing is lost: those beyond are all kept.
func TestNewestOfTooMany(t *testing.T) {
	t.Parallel()
	position := func(content int) []byte {
		return fmt.Appendf(nil, `{"type":"progress_update","content_id":"%d","position":1,"timestamp":"1"}`, content)
	}
	var n Newest
	at := hlc.Timestamp(0)
	add := func(content int) hlc.Timestamp {
		at++
		n.Add(position(content), at)
		return at
	}
	old := add(0)
	for content := range newestMost {
		add(content)
	}
	beyond := add(newestMost)
	if !n.Superseded(position(0), old) {
		t.Error("Superseded(an older position) = false, want true")
	}
	if n.Superseded(position(newestMost), beyond) {
		t.Errorf("Superseded(the only position of content %d) = true, want false", newestMost)
	}
}
