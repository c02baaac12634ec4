package main

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// clientAddress returns a function that tells where a request comes from: the
// peer, or where the peer is a trusted proxy, the last address in
// X-Forwarded-For that is not one.
func clientAddress(trusted []netip.Prefix) func(*http.Request) string {
	isProxy := func(a netip.Addr) bool {
		for _, network := range trusted {
			if network.Contains(a) {
				return true
			}
		}
		return false
	}
	return func(r *http.Request) string {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			return r.RemoteAddr
		}
		at, err := netip.ParseAddr(host)
		if err != nil {
			return host
		}
		at = at.Unmap()
		hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
		for len(hops) > 0 && isProxy(at) {
			hop, err := netip.ParseAddr(strings.TrimSpace(hops[len(hops)-1]))
			if err != nil {
				break // what a proxy has not written is worth nothing
			}
			at, hops = hop.Unmap(), hops[:len(hops)-1]
		}
		return at.String()
	}
}
