package main

import (
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// handshakes bounds how often one address may shake hands. An IPv6 address
// counts as its network of 64 bits, since that is what one household has.
type handshakes struct {
	// static after construction
	limit    rate.Limit
	burst    int
	loopback bool // count loopback as well
	address  func(*http.Request) string
	next     http.Handler

	mu    sync.Mutex
	known map[netip.Prefix]*rate.Limiter // guarded by mu
	swept time.Time                      // guarded by mu
}

// maxAddresses bounds the memory of handshakes. When it is reached, those that
// have their whole burst again are forgotten; if that does not help, all are.
const maxAddresses = 100_000

// limitHandshakes puts the limit before next; limit 0 is none.
func limitHandshakes(limit rate.Limit, loopback bool, address func(*http.Request) string, next http.Handler) http.Handler {
	if limit == 0 {
		return next
	}
	return &handshakes{
		limit: limit, burst: max(1, int(limit)), loopback: loopback, address: address, next: next,
		known: map[netip.Prefix]*rate.Limiter{},
	}
}

func (h *handshakes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !h.allow(h.address(r), time.Now()) {
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusTooManyRequests, "too_many_connections", "too many handshakes from this address")
		return
	}
	h.next.ServeHTTP(w, r)
}

// allow tells whether another handshake may begin now.
func (h *handshakes) allow(address string, now time.Time) bool {
	at, err := netip.ParseAddr(address)
	if err != nil || at.IsLoopback() && !h.loopback {
		return true
	}
	bits := at.BitLen()
	if at.Is6() {
		bits = 64
	}
	network, err := at.WithZone("").Prefix(bits)
	if err != nil {
		return true // cannot be: bits fit
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	limiter := h.known[network]
	if limiter == nil {
		if len(h.known) >= maxAddresses {
			h.forget(now)
		}
		limiter = rate.NewLimiter(h.limit, h.burst)
		h.known[network] = limiter
	}
	return limiter.AllowN(now, 1)
}

// forget makes room; the caller holds mu.
func (h *handshakes) forget(now time.Time) {
	if now.Sub(h.swept) > time.Second {
		h.swept = now
		for network, limiter := range h.known {
			if limiter.TokensAt(now) >= float64(h.burst) {
				delete(h.known, network)
			}
		}
	}
	if len(h.known) >= maxAddresses {
		clear(h.known)
	}
}
