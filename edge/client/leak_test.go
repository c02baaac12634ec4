package client_test

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain holds that Run leaves no goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
