package edge

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	"reprise/stream"
)

// subprotocol is the only one that is ever echoed.
const subprotocol = "reprise.v1"

// ServeHTTP answers a handshake at /ws. It returns when the handshake is over:
// the connection lives on with goroutines of its own, and nothing of the request
// is kept.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !upgrade(r) && s.shareWith(w.Header(), r) && isPreflight(r) {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	req, refused := s.check(r)
	if refused == nil {
		refused = s.accept(w, r, req)
	}
	if refused != nil {
		s.metrics.refused(refused.code)
		refused.write(w)
	}
}

// shareWith lets a page that may connect read why it was refused, which a WebSocket
// does not tell: it asks by fetch. It reports whether r is such a page's.
func (s *Server) shareWith(h http.Header, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || !s.originAllowed(r) {
		return false
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Allow-Headers", "Authorization")
	h.Set("Access-Control-Expose-Headers", "Retry-After")
	h.Set("Access-Control-Max-Age", "600")
	h.Add("Vary", "Origin")
	return true
}

// isPreflight reports whether a browser asks what it may ask (Fetch, section 3.2.2).
func isPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != ""
}

// accept takes the seats, upgrades and starts the connection.
func (s *Server) accept(w http.ResponseWriter, r *http.Request, req request) *refusal {
	switch s.registry.reserve(s.cfg.MaxConnections) {
	case admitsNone:
		return refuseDraining
	case admitsNoMore:
		return refuseFull
	}
	sh := s.shardOf(req.user)
	t := sh.reserve(req.user, req.device, s.cfg.MaxConnectionsPerUser)
	if t == nil {
		s.registry.release()
		return refuseUserFull
	}
	c := &conn{
		server: s, shard: sh, tail: t,
		id: uuid.NewString(), user: req.user, device: req.device, remote: req.remote,
		asked: req.since, echo: req.echo, snapshot: req.snapshot, coalesce: req.coalesce,
		connected: time.Now(),
		came:      s.arrivals.clock.Now(),
		welcomed:  make(chan struct{}),
		gone:      make(chan struct{}),
	}
	c.runs, c.reads = c.run, c.read
	c.expires.Store(unixMilli(req.expires))
	hijack := &hijacker{ResponseWriter: w, server: s}
	ws, err := websocket.Accept(hijack, r, &websocket.AcceptOptions{
		Subprotocols:       []string{subprotocol},
		InsecureSkipVerify: true, // the origin has been checked
		OnPingReceived:     c.pinged,
		OnPongReceived:     c.ponged,
	})
	if err != nil {
		sh.release(t)
		s.registry.release()
		s.cfg.Logger.Debug("handshake failed", "user", req.user, "err", err)
		return nil // the library has answered
	}
	ws.SetReadLimit(-1) // the reader keeps the limit, and says 1009 itself
	c.ws, c.wire = ws, hijack.wire
	s.register(c)
	if s.cfg.Authenticate != nil && s.revoked(req.user, req.issued) {
		c.close(codeTokenExpired, "token revoked") // while it shook hands
	}
	return nil
}

// hijacker is what the library upgrades on. Below the library it puts a wire,
// and around it buffers of the smallest size: frames are read from and written
// to the wire whole, and an idle connection keeps the buffers.
type hijacker struct {
	http.ResponseWriter
	server *Server
	wire   *wire
}

// Sizes of the library's buffers. Reading with a small one costs system calls
// only for messages of devices, which are few; writing goes past it.
const (
	readBuffer  = 128
	writeBuffer = 16
)

// Hijack implements [http.Hijacker] for the library.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	nc, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	nc.SetDeadline(time.Time{}) // the handshake's
	nc = unwrapped(nc)
	limitSendBuffer(nc)
	h.wire = &wire{Conn: nc, elapsed: h.server.elapsed, slow: h.server.cfg.SlowTimeout}
	h.wire.lastRead.Store(int64(h.server.elapsed()))
	if tcp, ok := nc.(*net.TCPConn); ok && h.server.poller != nil {
		h.wire.raw, _ = tcp.SyscallConn() // it fails for none that is open
	}
	if n := rw.Reader.Buffered(); n > 0 {
		early, _ := rw.Reader.Peek(n)
		h.wire.early = bytes.Clone(early)
	}
	return h.wire, bufio.NewReadWriter(bufio.NewReaderSize(h.wire, readBuffer), bufio.NewWriterSize(h.wire, writeBuffer)), nil
}

// unwrapped is the connection below what a listener has put around it, up to TLS.
func unwrapped(nc net.Conn) net.Conn {
	for {
		over, ok := nc.(interface{ NetConn() net.Conn })
		if _, secure := nc.(*tls.Conn); !ok || secure {
			return nc
		}
		nc = over.NetConn()
	}
}

func limitSendBuffer(nc net.Conn) {
	if over, ok := nc.(*tls.Conn); ok {
		nc = unwrapped(over.NetConn())
	}
	if tcp, ok := nc.(*net.TCPConn); ok {
		tcp.SetWriteBuffer(sendBuffer) // without it the device is closed later, that is all
	}
}

// register makes c a connection of its user. From here on the connection's end
// is the reader's.
func (s *Server) register(c *conn) {
	// The first ping comes early by up to half an interval, so that connections
	// that were made together are not pinged together for ever.
	interval := s.cfg.PingInterval
	c.nextPing = s.elapsed() + interval - time.Duration(rand.Int64N(int64(interval)/2+1))
	if !s.registry.add(c) {
		// A drain has begun since the handshake was checked.
		c.shard.release(c.tail)
		s.registry.release()
		c.wire.hurry()
		c.wire.sendLast(appendFrame(nil, opClose, appendClose(nil, codeRestart, "drain")))
		c.ws.CloseNow()
		return
	}
	first := c.shard.attach(c)
	s.metrics.opened()
	s.registrations.add(c.user)
	s.arrivals.add(stream.Arrived, c.mention())
	c.present()
	if first {
		s.users.Add(1)
	}
	s.cfg.Logger.Debug("connected", "user", c.user, "device", c.device, "conn", c.id, "remote", c.remote)
	s.wheel.schedule(c, s.elapsed())
	c.wake()
	go c.reads()
}
