//go:build !linux

package edge

import (
	"errors"
	"net"
)

// poller is none: readers wait in their reads.
type poller struct{}

func newPoller() (*poller, error) { return nil, errors.ErrUnsupported }

func (*poller) run()             {}
func (*poller) watch(*conn) bool { return false }
func (*poller) forget(*conn)     {}
func (*poller) close()           {}

// hungUp is found out by the reader only.
func hungUp(net.Conn) bool { return false }
