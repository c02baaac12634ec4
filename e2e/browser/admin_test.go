package browser

import (
	"net/http"
	"strings"
	"testing"
)

// TestAdminIsNotForPages has pages try the admin listener, which has no token.
// What it answered is seen by the proxy before it, and not only by the page: a
// page that is not shown an answer may have done something all the same.
func TestAdminIsNotForPages(t *testing.T) {
	t.Parallel()
	emulator := start(t, "listening", "emulator", "--emulator-listen", "127.0.0.1:0")
	n := serve(t, emulator, "--auth", "none")
	port := pages(t)
	admin := behind(t, n.addrs["admin"], "/v1/")
	evil, own := "http://evil.example:"+port, "http://127.0.0.1:"+admin.port
	rebound := "http://evil.example:" + admin.port

	// level sets the log's level, which changed says afterwards.
	level := func(at, mode string) string {
		return `fetch("` + at + `/v1/log-level", {method: "PUT", body: "error"` + mode + `})`
	}
	post := func(at, mode string) string {
		return `fetch("` + at + `/v1/users/` + user + `/disconnect", {method: "POST", body: ""` + mode + `})`
	}
	const blind = `, mode: "no-cors"`

	for _, tt := range []struct {
		name, page, call string
		shown            string // to the page; a beginning
		method           string // of what reaches the server, "" if nothing may
		status           int    // of the answer to it
	}{
		// The answer is there, but the browser does not show it.
		{"another site reads", evil, `fetch("` + own + `/v1/stats")`, "TypeError", "GET", http.StatusOK},
		{"another site reads blindly", evil, `fetch("` + own + `/v1/stats"` + `, {mode: "no-cors"})`, "opaque 0 ", "GET", http.StatusOK},
		// It asks before it sends, and is not answered.
		{"another site sets", evil, level(own, ""), "TypeError", "OPTIONS", http.StatusMethodNotAllowed},
		{"another site sets blindly", evil, level(own, blind), "TypeError", "", 0},
		// It sends without asking.
		{"another site posts", evil, post(own, ""), "TypeError", "POST", http.StatusForbidden},
		{"another site posts blindly", evil, post(own, blind), "opaque 0 ", "POST", http.StatusForbidden},
		{"a data page posts", data, post(own, ""), "TypeError", "POST", http.StatusForbidden},
		// To the browser these are of the same origin.
		{"a name that was made to lead here reads", rebound, `fetch("/v1/stats")`, `basic 403 {"error":{"code":"host"`, "GET", http.StatusForbidden},
		{"a name that was made to lead here sets", rebound, level("", ""), `basic 403 {"error":{"code":"host"`, "PUT", http.StatusForbidden},
		{"a name that was made to lead here posts", rebound, post("", ""), `basic 403 {"error":{"code":"host"`, "POST", http.StatusForbidden},
		// What is refused above is refused for the page's sake: its own page may.
		{"its own page reads", own, `fetch("/v1/stats")`, `basic 200 {"active_connections":0`, "GET", http.StatusOK},
		{"its own page posts", own, post("", ""), `basic 200 `, "POST", http.StatusOK},
	} {
		t.Run(tt.name, func(t *testing.T) {
			admin.seen() // forgets what was before
			shown := run[string](t, tt.page, tt.call+`.then(function(r) { return r.text().then(function(text) { return r.type + " " + r.status + " " + text; }); }, String)`)
			if !strings.HasPrefix(shown, tt.shown) {
				t.Errorf("the page was shown %q, want %q…", shown, tt.shown)
			}
			var method string
			var status int
			answers := admin.seen()
			for _, a := range answers {
				method, status = a.method, a.status
				if a.cors != "" {
					t.Errorf("%s was answered with Access-Control-Allow-Origin %q, want none", a.method, a.cors)
				}
			}
			if len(answers) > 1 || method != tt.method || status != tt.status {
				t.Errorf("answers %+v, want one of %d to %q", answers, tt.status, tt.method)
			}
		})
	}
	if got := n.level(t); got != "debug" {
		t.Errorf("log level is %q, want debug as before", got)
	}
	run[string](t, own, level("", "")+`.then(function(r) { return r.text(); })`)
	if got := n.level(t); got != "error" {
		t.Errorf("log level is %q after the listener's own page set it, want error", got)
	}
}
