package client

import (
	"bytes"
	"encoding/json"

	"reprise/hlc"
)

// Frame is one frame from the edge.
type Frame struct {
	// Type is the frame's type, such as "welcome" or "progress_update".
	Type string
	// Hlc is the relay's stamp of an event, and the position of a caught_up,
	// position or snapshot frame; zero where there is none.
	Hlc hlc.Timestamp
	// Raw is the frame as it came. It may be kept.
	Raw []byte
}

// IsEvent tells whether f is an event of the user's log.
func (f Frame) IsEvent() bool {
	switch f.Type {
	case "welcome", "caught_up", "position", "snapshot":
		return false
	}
	return f.Hlc != hlc.Zero
}

// Parse reads the type and the stamp of a frame. The error is that of
// [json.Unmarshal]. The Frame keeps raw.
func Parse(raw []byte) (Frame, error) {
	if f, ok := parseEvent(raw); ok {
		return f, nil
	}
	var head struct {
		Type string         `json:"type"`
		Hlc  *hlc.Timestamp `json:"hlc"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return Frame{}, err
	}
	f := Frame{Type: head.Type, Raw: raw}
	if head.Hlc != nil {
		f.Hlc = *head.Hlc
	}
	return f, nil
}

// parseEvent is the fast path for {"type":"…","hlc":"…"…: in events these two
// come first, and neither needs unescaping.
func parseEvent(raw []byte) (f Frame, ok bool) {
	rest, ok := bytes.CutPrefix(raw, []byte(`{"type":"`))
	if !ok {
		return f, false
	}
	kind, rest, ok := bytes.Cut(rest, []byte(`","hlc":"`))
	if !ok || bytes.ContainsAny(kind, `\"`) || len(rest) < 17 || rest[16] != '"' {
		return f, false
	}
	at, err := hlc.ParseBytes(rest[:16])
	if err != nil {
		return f, false
	}
	return Frame{Type: string(kind), Hlc: at, Raw: raw}, true
}

// welcome is what the client reads of a welcome frame.
type welcome struct {
	Resume resume `json:"resume"`
}

type resume struct {
	Since    hlc.Timestamp `json:"since"`
	Complete bool          `json:"complete"`
	Reason   string        `json:"reason"`
}
