package fleet

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Config is what a [Fleet] is made from.
type Config struct {
	// URL is the edge's: ws, wss, http or https, with its path.
	URL string
	// Token makes the JWT of a user; nil is none, and the user is in the query.
	Token func(user string) (string, error)
	// Dialing is how many handshakes are under way at a time; 0 is 256.
	Dialing int
	// OnEvent is called for each event that a device is sent; live is false before
	// it has caught up. Nil hears nothing.
	OnEvent func(d *Device, number int, live bool)
	// OnBack is called when a device has caught up that had lost its connection:
	// away is since then. Nil hears nothing.
	OnBack func(d *Device, away time.Duration)
}

// Fleet is devices that are connected to one edge.
type Fleet struct {
	// static after construction
	cfg   Config
	url   *url.URL
	local bool // towards loopback

	dialed  atomic.Int64 // chooses source addresses
	refused atomic.Int64
	lost    atomic.Int64
	reason  atomic.Pointer[error] // of the last one lost
	ready   atomic.Int64
	reading sync.WaitGroup
}

// New makes a fleet without devices. Its error says what is wrong with cfg.
func New(cfg Config) (*Fleet, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" {
		return nil, errors.New("fleet: url: no URL with a host")
	}
	switch u.Scheme {
	case "ws", "http":
		u.Scheme = "http"
	case "wss", "https":
		u.Scheme = "https"
	default:
		return nil, fmt.Errorf("fleet: url: scheme %q is none of ws, wss, http, https", u.Scheme)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/ws"
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	}
	if cfg.Dialing == 0 {
		cfg.Dialing = 256
	}
	if cfg.OnEvent == nil {
		cfg.OnEvent = func(*Device, int, bool) {}
	}
	if cfg.OnBack == nil {
		cfg.OnBack = func(*Device, time.Duration) {}
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return &Fleet{cfg: cfg, url: u, local: err == nil && addr.Is4() && addr.IsLoopback()}, nil
}

// Refused is how many handshakes were refused, and made again.
func (f *Fleet) Refused() int64 { return f.refused.Load() }

// Ready is how many devices have caught up so far.
func (f *Fleet) Ready() int64 { return f.ready.Load() }

// Lost is how many connections have ended that were not cut, and why the last did.
func (f *Fleet) Lost() (n int64, last error) {
	if p := f.reason.Load(); p != nil {
		last = *p
	}
	return f.lost.Load(), last
}

func (f *Fleet) heard(d *Device, number int, live bool) { f.cfg.OnEvent(d, number, live) }

// Connect connects devices and returns how long each took until it had caught up,
// from the moment of the call. One that is refused for a time comes again then.
func (f *Fleet) Connect(ctx context.Context, devices []*Device) (took []time.Duration, err error) {
	took = make([]time.Duration, len(devices))
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(f.cfg.Dialing)
	for i, d := range devices {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			caughtUp := make(chan struct{})
			if err := f.connect(ctx, d, sync.OnceFunc(func() { close(caughtUp) })); err != nil {
				return err
			}
			late := time.NewTimer(catchUp)
			defer late.Stop()
			select {
			case <-caughtUp:
				took[i] = time.Since(began)
				f.ready.Add(1)
				return nil
			case <-late.C:
				return fmt.Errorf("fleet: a device has not caught up within %v", catchUp)
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}
	return took, g.Wait()
}

// connect makes a connection, and makes it again whenever it is lost.
func (f *Fleet) connect(ctx context.Context, d *Device, caughtUp func()) error {
	nc, r, err := f.enter(ctx, d)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.wanted, d.nc = true, nc
	d.mu.Unlock()
	f.reading.Go(func() {
		for {
			after, err := d.hear(f, nc, r, caughtUp)
			lost := time.Now()
			caughtUp = func() { f.cfg.OnBack(d, time.Since(lost)) }
			for {
				nc.Close()
				d.mu.Lock()
				d.nc = nil
				again := d.wanted
				d.mu.Unlock()
				if !again {
					return
				}
				f.reason.Store(&err)
				f.lost.Add(1)
				if after == 0 {
					after = backoff + rand.N(backoff)
				}
				time.Sleep(after)
				after = 0
				if nc, r, err = f.enter(context.Background(), d); err == nil {
					break
				}
				nc = closedConn{}
			}
			d.mu.Lock()
			d.nc = nc
			wanted := d.wanted
			d.mu.Unlock()
			if !wanted {
				nc.Close()
			}
		}
	})
	return nil
}

// backoff is how long a device at least waits that has lost its connection, and
// was not told how long to wait.
const backoff = 250 * time.Millisecond

// closedConn is no connection.
type closedConn struct{ net.Conn }

func (closedConn) Close() error { return nil }

// enter dials until it is not refused for a time only.
func (f *Fleet) enter(ctx context.Context, d *Device) (net.Conn, *bufio.Reader, error) {
	for {
		nc, r, again, err := f.dial(ctx, d)
		if err == nil || again == 0 {
			return nc, r, err
		}
		f.refused.Add(1)
		timer := time.NewTimer(again)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, nil, ctx.Err()
		}
	}
}

// perAddress is how many connections one source address makes.
const perAddress = 20_000

// dial shakes hands. again is when a refusal asks to come again; 0 is never.
func (f *Fleet) dial(ctx context.Context, d *Device) (nc net.Conn, r *bufio.Reader, again time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var dialer net.Dialer
	if n := f.dialed.Add(1) / perAddress; f.local && n > 0 {
		dialer.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+n%200))}
	}
	if nc, err = dialer.DialContext(ctx, "tcp", f.url.Host); err != nil {
		return nil, nil, 0, fmt.Errorf("fleet: %w", err)
	}
	if f.url.Scheme == "https" {
		nc = tls.Client(nc, &tls.Config{ServerName: f.url.Hostname(), NextProtos: []string{"http/1.1"}})
	}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	query := url.Values{"device_id": {d.ID}, "since": {"latest"}}
	if since := d.Cursor(); since != "" {
		query.Set("since", since)
	}
	head := "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
	if f.cfg.Token == nil {
		query.Set("user_id", d.User)
	} else {
		token, err := f.cfg.Token(d.User)
		if err != nil {
			nc.Close()
			return nil, nil, 0, fmt.Errorf("fleet: token: %w", err)
		}
		head += "Authorization: Bearer " + token + "\r\n"
	}
	r = bufio.NewReaderSize(nc, 512)
	if _, err = io.WriteString(nc, "GET "+f.url.Path+"?"+query.Encode()+" HTTP/1.1\r\nHost: "+f.url.Host+"\r\n"+head+"\r\n"); err == nil {
		var resp *http.Response
		if resp, err = http.ReadResponse(r, nil); err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
			again, err = refusal(resp)
		}
	}
	if err != nil {
		nc.Close()
		return nil, nil, again, err
	}
	return nc, r, 0, nil
}

// refusal reads an answer that is no upgrade.
func refusal(resp *http.Response) (again time.Duration, err error) {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 512)) // it is only shown
	err = fmt.Errorf("fleet: refused with status %d: %s", resp.StatusCode, body)
	if n, perr := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16); perr == nil && resp.StatusCode != http.StatusUnauthorized {
		again = max(time.Second/2, time.Duration(n)*time.Second)
	}
	return again, err
}

// Cut ends the connections of devices without a word to the edge.
func (f *Fleet) Cut(devices []*Device) {
	for _, d := range devices {
		d.mu.Lock()
		nc, wanted := d.nc, d.wanted
		d.nc, d.wanted = nil, false
		d.mu.Unlock()
		if nc != nil {
			nc.Close()
		}
		if wanted {
			f.ready.Add(-1)
		}
	}
}

// Wait waits until no device hears anything any more. All must have been cut.
func (f *Fleet) Wait() { f.reading.Wait() }
