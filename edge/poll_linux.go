package edge

import (
	"encoding/binary"
	"net"
	"os"
	"sync"
	"syscall"
)

// poller tells when a socket of a parked reader has something, by an epoll
// instance of its own: each connection is reported once, and then has to be
// watched again.
type poller struct {
	epoll *os.File
	raw   syscall.RawConn // epoll's

	mu   sync.Mutex
	byFD []*conn // guarded by mu
}

// newPoller makes a poller, whose run must be called.
func newPoller() (*poller, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // so that waiting costs no thread
		syscall.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	p := &poller{epoll: os.NewFile(uintptr(fd), "epoll")}
	if p.raw, err = p.epoll.SyscallConn(); err != nil {
		p.epoll.Close()
		return nil, err
	}
	return p, nil
}

// pollBatch is how many sockets are taken at a time.
const pollBatch = 128

// run starts the readers of sockets that have something, until close.
func (p *poller) run() {
	events := make([]syscall.EpollEvent, pollBatch)
	for {
		n := 0
		err := p.raw.Read(func(fd uintptr) bool {
			for {
				var err error
				if n, err = syscall.EpollWait(int(fd), events, 0); err != syscall.EINTR {
					return n != 0
				}
			}
		})
		if err != nil {
			return
		}
		p.mu.Lock()
		for _, ev := range events[:max(0, n)] {
			// One that was closed meanwhile, and another has its number: its read finds
			// nothing.
			if c := p.byFD[ev.Fd]; c != nil && c.unpark() {
				go c.reads()
			}
		}
		p.mu.Unlock()
	}
}

// watch has c's reader started when there is something to read, or the other end
// has gone. It reports false when that cannot be.
func (p *poller) watch(c *conn) bool {
	ok := false
	err := c.wire.raw.Control(func(fd uintptr) {
		ev := syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT, Fd: int32(fd)}
		op := syscall.EPOLL_CTL_MOD
		if p.list(c, int32(fd)) {
			op = syscall.EPOLL_CTL_ADD
		}
		_ = p.raw.Control(func(epoll uintptr) { ok = syscall.EpollCtl(int(epoll), op, int(fd), &ev) == nil }) // closed: not ok
	})
	return err == nil && ok
}

// list notes c's number and reports whether it is new.
func (p *poller) list(c *conn, fd int32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.fd != 0 {
		return false
	}
	c.fd = fd
	for int(fd) >= len(p.byFD) {
		p.byFD = append(p.byFD, make([]*conn, 1+len(p.byFD))...)
	}
	p.byFD[fd] = c
	return true
}

// forget is for a connection whose reader has ended.
func (p *poller) forget(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.fd > 0 && p.byFD[c.fd] == c {
		p.byFD[c.fd] = nil
	}
	c.fd = -1
}

// close ends run.
func (p *poller) close() { p.epoll.Close() }

// tcpEstablished is TCP_ESTABLISHED of the kernel's tcp_states.h.
const tcpEstablished = 1

// hungUp reports whether the kernel has heard that the other end of a TCP connection
// has gone, which its reader may not have come to yet.
func hungUp(nc net.Conn) bool {
	if secure, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = secure.NetConn()
	}
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	state := [4]byte{tcpEstablished}   // the first byte of tcp_info
	_ = raw.Control(func(fd uintptr) { // on a closed one: its reader knows
		if v, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_INFO); err == nil {
			binary.NativeEndian.PutUint32(state[:], uint32(v))
		}
	})
	return state[0] != tcpEstablished
}
