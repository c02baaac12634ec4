package main

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

func TestAdminToken(t *testing.T) {
	t.Parallel()
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	ready := func() ([]string, []string) { return nil, nil }
	tests := []struct {
		token, path, authorization string
		want                       int
	}{
		{"", "http://evil.example:9090/v1/stats", "", 403},
		{"", "http://evil.example:9090/healthz", "", 200},
		{"", "http://localhost:9090/v1/stats", "", 200},
		{"", "http://[::1]:9090/v1/stats", "", 200},
		{"", "http://127.0.0.1/v1/stats", "", 200},
		{"t", "http://relay.example:9090/v1/stats", "Bearer t", 200},
		{"", "http://127.0.0.1:9090/v1/stats", "", 200},
		{"", "http://127.0.0.1:9090/debug/pprof/", "", 200},
		{"t", "/healthz", "", 200},
		{"t", "/readyz", "", 200},
		{"t", "/", "", 200},
		{"t", "/console/console.js", "", 200},
		{"t", "/console/about", "", 200},
		{"t", "/v1/stats", "", 401},
		{"t", "/metrics", "", 401},
		{"t", "/debug/pprof/", "", 401},
		{"t", "/nothing", "", 401},
		{"t", "/v1/stats", "Bearer wrong", 401},
		{"t", "/v1/stats", "Basic t", 401},
		{"t", "/v1/stats", "Bearer t", 200},
		{"t", "/metrics", "bearer t", 200},
		{"t", "/nothing", "Bearer t", 404},
	}
	for _, tt := range tests {
		a := &admin{token: newSecret(tt.token), ready: ready, metrics: ok, v1: ok}
		r := httptest.NewRequest("GET", tt.path, nil)
		if tt.authorization != "" {
			r.Header.Set("Authorization", tt.authorization)
		}
		w := httptest.NewRecorder()
		a.handler().ServeHTTP(w, r)
		if w.Code != tt.want {
			t.Errorf("GET %s with %q = %d, want %d", tt.path, tt.authorization, w.Code, tt.want)
		}
	}
}

func TestOtherOrigins(t *testing.T) {
	t.Parallel()
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	tests := []struct {
		method, header, value string
		want                  int
	}{
		{"POST", "", "", 200},
		{"POST", "Sec-Fetch-Site", "same-origin", 200},
		{"POST", "Sec-Fetch-Site", "none", 200},
		{"POST", "Sec-Fetch-Site", "cross-site", 403},
		{"POST", "Sec-Fetch-Site", "same-site", 403},
		{"POST", "Origin", "https://evil.example", 403},
		{"POST", "Origin", "null", 403},
		{"DELETE", "Origin", "https://evil.example", 403},
		{"GET", "Sec-Fetch-Site", "cross-site", 200},
	}
	for _, tt := range tests {
		a := &admin{ready: func() (_, _ []string) { return nil, nil }, metrics: ok, v1: ok}
		r := httptest.NewRequest(tt.method, "http://127.0.0.1:9090/v1/dead/1/retry", nil)
		if tt.header != "" {
			r.Header.Set(tt.header, tt.value)
		}
		w := httptest.NewRecorder()
		a.handler().ServeHTTP(w, r)
		if w.Code != tt.want {
			t.Errorf("%s with %s: %s = %d %s, want %d", tt.method, tt.header, tt.value, w.Code, w.Body, tt.want)
		}
	}
}

func TestReadyz(t *testing.T) {
	t.Parallel()
	tests := []struct {
		reasons, warnings []string
		code              int
		body              string
	}{
		{nil, nil, 200, `{"ready":true,"reasons":[],"warnings":[]}`},
		{nil, []string{"pubnub_silent"}, 200, `{"ready":true,"reasons":[],"warnings":["pubnub_silent"]}`},
		{[]string{"draining"}, nil, 503, `{"ready":false,"reasons":["draining"],"warnings":[]}`},
	}
	for _, tt := range tests {
		a := &admin{ready: func() ([]string, []string) { return tt.reasons, tt.warnings }, metrics: http.NotFoundHandler(), v1: http.NotFoundHandler()}
		w := httptest.NewRecorder()
		a.handler().ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
		if w.Code != tt.code || w.Body.String() != tt.body {
			t.Errorf("GET /readyz = %d %s, want %d %s", w.Code, w.Body, tt.code, tt.body)
		}
	}
}

func TestClientAddress(t *testing.T) {
	t.Parallel()
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	tests := []struct {
		peer, forwarded string
		trusted         []netip.Prefix
		want            string
	}{
		{"192.0.2.1:5", "", proxies, "192.0.2.1"},
		{"192.0.2.1:5", "198.51.100.7", proxies, "192.0.2.1"},
		{"10.1.1.1:5", "198.51.100.7", nil, "10.1.1.1"},
		{"10.1.1.1:5", "198.51.100.7", proxies, "198.51.100.7"},
		{"10.1.1.1:5", "1.1.1.1, 198.51.100.7, 10.2.2.2", proxies, "198.51.100.7"},
		{"10.1.1.1:5", "1.1.1.1, unknown, 10.2.2.2", proxies, "10.2.2.2"},
		{"10.1.1.1:5", "10.3.3.3", proxies, "10.3.3.3"},
		{"10.1.1.1:5", "", proxies, "10.1.1.1"},
		{"[::ffff:10.1.1.1]:5", "198.51.100.7", proxies, "198.51.100.7"},
		{"[fd00::1]:5", "2001:db8::9", proxies, "2001:db8::9"},
		{"pipe", "", proxies, "pipe"},
	}
	for _, tt := range tests {
		r := httptest.NewRequest("GET", "/ws", nil)
		r.RemoteAddr = tt.peer
		if tt.forwarded != "" {
			r.Header.Set("X-Forwarded-For", tt.forwarded)
		}
		if got := clientAddress(tt.trusted)(r); got != tt.want {
			t.Errorf("clientAddress(%s, %q) = %s, want %s", tt.peer, tt.forwarded, got, tt.want)
		}
	}
}

func TestHandshakes(t *testing.T) {
	t.Parallel()
	served := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	from := func(r *http.Request) string { return r.RemoteAddr }
	h := limitHandshakes(3, false, from, served)
	ask := func(address string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "/ws", nil)
		r.RemoteAddr = address
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	for i := range 3 {
		if w := ask("2001:db8::1"); w.Code != 200 {
			t.Errorf("handshake %d = %d, want 200", i, w.Code)
		}
	}
	w := ask("2001:db8::2") // the same network
	if w.Code != 429 || w.Header().Get("Retry-After") != "1" || !strings.Contains(w.Body.String(), `"too_many_connections"`) {
		t.Errorf("handshake 4 = %d %v %s, want 429 too_many_connections, Retry-After 1", w.Code, w.Header(), w.Body)
	}
	if w := ask("2001:db8:1::1"); w.Code != 200 {
		t.Errorf("handshake from another network = %d, want 200", w.Code)
	}
	for range 10 {
		if w := ask("127.0.0.1"); w.Code != 200 {
			t.Errorf("handshake from loopback = %d, want 200", w.Code)
		}
	}
	if got := limitHandshakes(0, true, from, served); got == nil || h == got {
		t.Error("limitHandshakes(0) limits, want the next handler itself")
	}
}

// TestHandshakesAreBounded holds that many addresses do not take memory for good.
func TestHandshakesAreBounded(t *testing.T) {
	t.Parallel()
	h := &handshakes{limit: 1, burst: 1, loopback: true, known: map[netip.Prefix]*rate.Limiter{}}
	now := time.Unix(1e9, 0)
	for i := range maxAddresses + maxAddresses/5 {
		h.allow(netip.AddrFrom4([4]byte{1, byte(i >> 16), byte(i >> 8), byte(i)}).String(), now)
		now = now.Add(10 * time.Microsecond)
	}
	if got := len(h.known); got > maxAddresses {
		t.Errorf("known addresses = %d, want at most %d", got, maxAddresses)
	}
}
