package client

import "encoding/json"

// replay is what the app is told of at the end of one, over as many connections as it
// takes.
type replay struct {
	Resumed
	running   bool
	delivered int // events, on the connection
}

// begin takes note of a welcome. What one before has said to be missing still is.
func (r *replay) begin(w resume) {
	now := Resumed{Since: w.Since, Complete: w.Complete, Reason: w.Reason}
	if r.running {
		now.Replayed = r.Replayed + r.delivered
		if w.Complete {
			now.Since = r.Since
		}
		if !r.Complete {
			now.Complete, now.Reason = false, r.Reason
		}
	}
	*r = replay{Resumed: now, running: true}
}

// end is what a caught_up frame ends.
func (r *replay) end(f Frame) Resumed {
	var end struct {
		Replayed int `json:"replayed"`
	}
	_ = json.Unmarshal(f.Raw, &end) // it is one object, Parse has seen to that
	r.running = false
	r.Replayed += end.Replayed
	return r.Resumed
}
