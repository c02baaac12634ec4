package edge

import (
	"net/http"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// No goroutine outlives the tests: not one of a connection, of a Server, or of
// the log under it.
func TestMain(m *testing.M) {
	if addr := os.Getenv(peerDrain); addr != "" {
		drain(addr)
		return
	}
	code := m.Run()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	http.DefaultClient.CloseIdleConnections()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			code = 1
		}
	}
	os.Exit(code)
}
