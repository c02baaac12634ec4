package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
)

// facts is what can be read in a frame. Members that a frame does not have are
// zero.
type facts struct {
	Type       string `json:"type"`
	Hlc        string `json:"hlc"`
	User       string `json:"user_id"`
	Device     string `json:"device_id"`
	ServerTime int64  `json:"server_time"`
	ExpiresAt  int64  `json:"expires_at"`
	Replayed   int    `json:"replayed"`
	Resume     struct {
		Since    string `json:"since"`
		Complete bool   `json:"complete"`
		Reason   string `json:"reason"`
	} `json:"resume"`
}

func parseFrame(text string) (facts, error) {
	var f facts
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		return facts{}, fmt.Errorf("%w in the frame %s", err, text)
	}
	return f, nil
}

const (
	noStamp = "0000000000000000"
	// stampKey stands between the type and the stamp of an event's frame.
	stampKey = `","hlc":"`
)

// Blank returns an event's frame with 16 zeros in the place of its stamp, which
// tells the event but not when it was stored. Anything else is returned as it
// is.
func Blank(frame string) string {
	head, rest, ok := strings.Cut(frame, stampKey)
	if !ok || len(rest) < len(noStamp) || !isStamp(rest[:len(noStamp)]) {
		return frame
	}
	return head + stampKey + noStamp + rest[len(noStamp):]
}

// isStamp reports whether s is a stamp: 16 lower-case hex digits.
func isStamp(s string) bool {
	return len(s) == len(noStamp) && strings.Trim(s, "0123456789abcdef") == ""
}
