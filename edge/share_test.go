package edge

import (
	"net/http"
	"testing"
)

// TestPageMayReadWhyItWasRefused asks as a page's fetch does, once it could not connect.
func TestPageMayReadWhyItWasRefused(t *testing.T) {
	t.Parallel()
	r := newRelay(t, Config{AllowedOrigins: []string{"https://app.example"}, MaxConnections: 1})
	ask := func(method, origin string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, r.url+"/ws?user_id="+uuidA+"&device_id="+uuidOf('a', 1), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Origin", origin)
		if method == http.MethodOptions {
			req.Header.Set("Access-Control-Request-Method", http.MethodGet)
			req.Header.Set("Access-Control-Request-Headers", "authorization")
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	check := func(what string, resp *http.Response, status int, origin string) {
		t.Helper()
		if got := resp.Header.Get("Access-Control-Allow-Origin"); resp.StatusCode != status || got != origin {
			t.Errorf("%s: status %d, allowed for %q, want %d for %q", what, resp.StatusCode, got, status, origin)
		}
	}
	check("preflight", ask(http.MethodOptions, "https://app.example"), http.StatusNoContent, "https://app.example")
	check("preflight of a stranger", ask(http.MethodOptions, "https://evil.example"), http.StatusForbidden, "")
	check("nothing against it", ask(http.MethodGet, "https://app.example"), http.StatusUpgradeRequired, "https://app.example")
	check("a stranger", ask(http.MethodGet, "https://evil.example"), http.StatusForbidden, "")
	r.joined(uuidA, uuidOf('a', 2), "")
	resp := ask(http.MethodGet, "https://app.example")
	check("full", resp, http.StatusTooManyRequests, "https://app.example")
	if resp.Header.Get("Retry-After") == "" || resp.Header.Get("Access-Control-Expose-Headers") != "Retry-After" {
		t.Errorf("full: headers %v, want a Retry-After that the page may read", resp.Header)
	}
}
