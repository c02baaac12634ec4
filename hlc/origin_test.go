package hlc

import (
	"math"
	"testing"
)

func TestOrigin(t *testing.T) {
	t.Parallel()
	const at = 1795437339530
	for timestamp, want := range map[string]Timestamp{
		"1795437339530":        at << 16,
		"1795437339530000":     at << 16,
		"1795437339530500":     at<<16 + 1<<15,
		"99999999999999":       99999999999999 << 16,
		"100000000000000":      100000000000 << 16,
		"117665781483438080":   117665781483438080, // decimal, and a stamp
		"0000000000000001":     1,
		"1a00000000000000":     0x1a00000000000000,
		"18446744073709551615": math.MaxUint64,
		"99999999999999999999": math.MaxUint64,
		"":                     0, "-1": 0, "1.5": 0, "yesterday": 0, "123456789012345678901": 0, "1A00000000000000": 0,
	} {
		if got := Origin(timestamp); got != want {
			t.Errorf("Origin(%q) = %d, want %d", timestamp, got, want)
		}
	}
}
