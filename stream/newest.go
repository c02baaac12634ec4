package stream

import (
	"bytes"
	"encoding/json"

	"reprise/hlc"
)

// newestMost bounds the contents that a Newest tells apart.
const newestMost = 10_000

// Newest finds out which of a stretch of events say nothing that a later state would
// show: all positions but the newest of each content, by the rule of [State]. The zero
// value has been shown nothing. It is not safe for concurrent use.
type Newest struct {
	best map[string]newest
	keep map[hlc.Timestamp]struct{}
	upTo hlc.Timestamp
	full bool
}

type newest struct {
	progress
	at hlc.Timestamp
}

// positionHead is how the frame of a position begins.
var positionHead = []byte(`{"type":"progress_update",`)

// Add shows it the next event of the stretch. From the 10,001st content on nothing is
// found to be superseded.
func (n *Newest) Add(frame []byte, at hlc.Timestamp) {
	if n.full {
		return
	}
	var p progress
	if !bytes.HasPrefix(frame, positionHead) || json.Unmarshal(frame, &p) != nil {
		n.upTo = at
		return
	}
	have, known := n.best[p.Content]
	if !known && len(n.best) == newestMost {
		n.full = true
		return
	}
	n.upTo = at
	switch {
	case known && have.compare(p) > 0:
		return
	case known:
		delete(n.keep, have.at)
	case n.best == nil:
		n.best, n.keep = make(map[string]newest), make(map[hlc.Timestamp]struct{})
	}
	n.best[p.Content] = newest{p, at}
	n.keep[at] = struct{}{}
}

// Superseded reports whether the event at a stamp is of the stretch, and a position
// that another one of it supersedes.
func (n *Newest) Superseded(frame []byte, at hlc.Timestamp) bool {
	if at > n.upTo || !bytes.HasPrefix(frame, positionHead) {
		return false
	}
	_, keep := n.keep[at]
	return !keep
}
