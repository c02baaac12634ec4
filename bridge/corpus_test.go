package bridge

import (
	"os"
	"testing"
)

// TestCorporaAreThere fails where a fuzz target's committed corpus is empty: it
// would then guard nothing, and nobody would notice.
func TestCorporaAreThere(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"FuzzBody", "FuzzEnvelope", "FuzzScan"} {
		entries, err := os.ReadDir("testdata/fuzz/" + target)
		if err != nil || len(entries) < 10 {
			t.Errorf("testdata/fuzz/%s: %d inputs, %v, want at least 10", target, len(entries), err)
		}
	}
}
