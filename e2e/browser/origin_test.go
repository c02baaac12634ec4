package browser

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

const (
	user   = "11111111-1111-4111-8111-111111111111"
	device = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
	secret = "a secret of thirty-two bytes ...."
)

// attempt opens a WebSocket and says what became of it.
const attempt = `(function(url, protocols) {
	return new Promise(function(done) {
		var ws = new WebSocket(url, protocols), opened = false;
		ws.onopen = function() { opened = true; };
		ws.onmessage = function(m) { done({opened: true, protocol: ws.protocol, frame: m.data}); ws.close(); };
		ws.onclose = function(e) { done({opened: opened, code: e.code}); };
	});
})`

// framed has a sandboxed frame, whose origin is null, make the attempt.
const framed = `(function(url, protocols) {
	return new Promise(function(done) {
		addEventListener("message", function(e) { done(e.data); });
		var frame = document.createElement("iframe");
		frame.sandbox = "allow-scripts";
		frame.srcdoc = "<script>" + ATTEMPT + "(" + JSON.stringify(url) + "," + JSON.stringify(protocols) + ").then(function(r) { r.origin = origin; parent.postMessage(r, '*'); })<\/script>";
		document.body.appendChild(frame);
	});
})`

// outcome is what became of an attempt.
type outcome struct {
	Opened                  bool
	Protocol, Frame, Origin string
	Code                    int
}

// run loads a page in a tab of its own and has it evaluate an expression.
func run[T any](t *testing.T, browser context.Context, page, expression string) T {
	t.Helper()
	tab, stop := chromedp.NewContext(browser)
	defer stop()
	err := chromedp.Do(tab) // opens the tab
	var result T
	if err == nil {
		within, cancel := context.WithTimeout(tab, patience)
		defer cancel()
		if err = chromedp.Do(within, chromedp.Navigate(page)); err == nil {
			result, err = chromedp.Run(within, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
		}
	}
	if err != nil {
		t.Fatalf("on %s: %v", page, err)
	}
	return result
}

func quoted(list ...string) string { return `["` + strings.Join(list, `","`) + `"]` }

func TestWhichPagesMayConnect(t *testing.T) {
	t.Parallel()
	browser := browse(t)
	emulator := start(t, "listening", "emulator", "--emulator-listen", "127.0.0.1:0")
	port := pages(t)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	guarded := serve(t, emulator, "--auth-hmac-secret-file", key, "--allowed-origins", "http://app.example:"+port)
	open := serve(t, emulator, "--auth", "none")
	made, err := exec.Command(binary, "token", "--user", user, "--auth-hmac-secret-file", key).Output()
	if err != nil {
		t.Fatal(err)
	}
	token := strings.TrimSpace(string(made))
	withToken, bare := quoted("reprise.v1", "bearer."+token), quoted("reprise.v1")
	ws := func(authority, more string) string { return "ws://" + authority + "/ws?device_id=" + device + more }
	byName := func(more string) string { return more + "&user_id=" + user }
	beside, besideOpen := behind(t, guarded), behind(t, open)

	for _, tt := range []struct {
		name      string
		node      *node
		page      string
		how       string
		url       string
		protocols string
		opens     bool
	}{
		{"a page of another site, with a token that it got hold of", guarded, "http://evil.example:" + port, attempt, ws(guarded.addrs["devices"], ""), withToken, false},
		{"a page of another port of the same host", guarded, "http://127.0.0.1:" + port, attempt, ws(guarded.addrs["devices"], ""), withToken, false},
		{"a listed page", guarded, "http://app.example:" + port, attempt, ws(guarded.addrs["devices"], ""), withToken, true},
		{"a sandboxed frame in a listed page", guarded, "http://app.example:" + port, strings.Replace(framed, "ATTEMPT", "`"+attempt+"`", 1), ws(guarded.addrs["devices"], ""), withToken, false},
		{"a page of the same origin", guarded, "http://site.example:" + beside, attempt, ws("site.example:"+beside, ""), withToken, true},
		{"a page of another site, where nobody needs a token", open, "http://evil.example:" + port, attempt, ws(open.addrs["devices"], byName("")), bare, false},
		{"a page whose name was made to lead here", open, "http://evil.example:" + besideOpen, attempt, ws("evil.example:"+besideOpen, byName("")), bare, false},
		{"a page at localhost", open, "http://localhost:" + besideOpen, attempt, ws("localhost:"+besideOpen, byName("")), bare, true},
		{"a page at the address", open, "http://127.0.0.1:" + besideOpen, attempt, ws("127.0.0.1:"+besideOpen, byName("")), bare, true},
	} {
		before := tt.node.refusedFor(t, "origin")
		got := run[outcome](t, browser, tt.page, tt.how+`(`+"`"+tt.url+"`"+`,`+tt.protocols+`)`)
		after := tt.node.refusedFor(t, "origin")
		if got.Opened != tt.opens || (before == after) != tt.opens {
			t.Errorf("%s: %+v, refusals went from %s to %s, want opened %v", tt.name, got, before, after, tt.opens)
		}
		if tt.opens && (got.Protocol != "reprise.v1" || !strings.HasPrefix(got.Frame, `{"type":"welcome"`)) {
			t.Errorf("%s: protocol %q, first frame %s, want reprise.v1 and a welcome", tt.name, got.Protocol, got.Frame)
		}
		if strings.Contains(tt.how, "iframe") && got.Origin != "null" {
			t.Errorf("%s: its origin is %q, want null", tt.name, got.Origin)
		}
	}
	if strings.Contains(guarded.log(), token) || strings.Contains(guarded.log(), secret) {
		t.Error("the token or the secret is in the log")
	}
}

// TestAdminIsNotForPages has a page of another site try the admin listener.
func TestAdminIsNotForPages(t *testing.T) {
	t.Parallel()
	browser := browse(t)
	emulator := start(t, "listening", "emulator", "--emulator-listen", "127.0.0.1:0")
	n := serve(t, emulator, "--auth", "none")
	port := pages(t)
	admin := "http://" + n.addrs["admin"]
	level := func() string {
		response, err := http.Get(admin + "/v1/log-level")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		var body [64]byte
		k, _ := response.Body.Read(body[:])
		return string(body[:k])
	}
	before := level()
	for name, call := range map[string]string{
		"read the figures":           `fetch("` + admin + `/v1/stats")`,
		"change the level":           `fetch("` + admin + `/v1/log-level", {method: "PUT", body: "error"})`,
		"change it without a glance": `fetch("` + admin + `/v1/log-level", {method: "PUT", body: "error", mode: "no-cors"})`,
	} {
		got := run[string](t, browser, "http://evil.example:"+port, call+`.then(function(r) { return r.text(); }, function() { return "refused"; })`)
		if got != "refused" {
			t.Errorf("a page could %s: %q", name, got)
		}
	}
	if after := level(); after != before {
		t.Errorf("the log's level is %s, want what it was: %s", after, before)
	}
	// A page cannot see the answer to such a POST, but it is made.
	done := run[string](t, browser, "http://evil.example:"+port, `fetch("`+admin+`/v1/dead/1/retry", {method: "POST", mode: "no-cors"}).then(function() { return "sent"; }, function(e) { return String(e); })`)
	if done != "sent" {
		t.Errorf("the POST was %q, want it sent", done)
	}
	request, err := http.NewRequest("POST", admin+"/v1/dead/1/retry", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Sec-Fetch-Site", "cross-site")
	request.Header.Set("Origin", "http://evil.example:"+port)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusForbidden {
		t.Errorf("the same POST with what the browser sends = %d, want 403", response.StatusCode)
	}
}
