package hlc

import (
	"math"
	"strconv"
	"strings"
)

// Origin is the time of an event's origin, as publishers write it, in the form of a
// stamp, so that any two can be compared: 16 hexadecimal characters that begin with 0
// or have a letter are a stamp; digits are Unix time in milliseconds below 10^14, in
// microseconds below 10^17, and a stamp in decimal from there. What is none of these is
// Zero, what is too great the greatest stamp.
func Origin(timestamp string) Timestamp {
	if len(timestamp) == 16 && (timestamp[0] == '0' || strings.ContainsAny(timestamp, "abcdef")) {
		if at, err := Parse(timestamp); err == nil {
			return at
		}
	}
	if len(timestamp) == 0 || len(timestamp) > 20 || strings.Trim(timestamp, "0123456789") != "" {
		return Zero
	}
	n, err := strconv.ParseUint(timestamp, 10, 64)
	switch {
	case err != nil:
		return math.MaxUint64
	case n < 1e14:
		return Timestamp(n << 16)
	case n < 1e17:
		return Timestamp(n/1000<<16 + n%1000<<16/1000)
	}
	return Timestamp(n)
}
