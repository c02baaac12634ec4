package browser

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	user   = "11111111-1111-4111-8111-111111111111"
	device = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
	secret = "a secret of thirty-two bytes ...."
)

// attempt opens a WebSocket and says what became of it, and who tried.
const attempt = `(function(url, protocols) {
	return new Promise(function(done) {
		var ws = new WebSocket(url, protocols), opened = false;
		ws.onopen = function() { opened = true; };
		ws.onmessage = function(m) { done({opened: true, protocol: ws.protocol, frame: m.data, origin: self.origin}); ws.close(); };
		ws.onclose = function(e) { done({opened: opened, code: e.code, origin: self.origin}); };
	});
})`

// framed has a sandboxed frame, whose origin is null, make the attempt.
const framed = `(function(url, protocols) {
	return new Promise(function(done) {
		addEventListener("message", function(e) { done(e.data); });
		var frame = document.createElement("iframe");
		frame.sandbox = "allow-scripts";
		frame.srcdoc = "<script>" + ` + "`" + attempt + "`" + ` + "(" + JSON.stringify(url) + "," + JSON.stringify(protocols) + ").then(function(r) { parent.postMessage(r, '*'); })<\/script>";
		document.body.appendChild(frame);
	});
})`

// data is a page of no site at all. Its origin is null too.
const data = "data:text/html,<title>a page</title>"

// outcome is what became of an attempt.
type outcome struct {
	Opened                  bool
	Protocol, Frame, Origin string
	Code                    int
}

func quoted(list ...string) string { return `["` + strings.Join(list, `","`) + `"]` }

func TestWhichPagesMayConnect(t *testing.T) {
	t.Parallel()
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
	beside, besideOpen := behind(t, guarded.addrs["devices"], "/ws").port, behind(t, open.addrs["devices"], "/ws").port
	// with is where a device with a token connects, named where one without does.
	with := func(authority string) string { return "ws://" + authority + "/ws?device_id=" + device }
	named := func(authority string) string { return with(authority) + "&user_id=" + user }
	evil, app := "http://evil.example:"+port, "http://app.example:"+port

	for _, tt := range []struct {
		name      string
		node      *node
		page      string
		how       string
		url       string
		protocols string
		origin    string
		opens     bool
	}{
		{"another site, with a token that it got hold of", guarded, evil, attempt, with(guarded.addrs["devices"]), withToken, evil, false},
		{"another port of the same host", guarded, "http://127.0.0.1:" + port, attempt, with(guarded.addrs["devices"]), withToken, "http://127.0.0.1:" + port, false},
		{"another name for the same server", guarded, "http://evil.example:" + beside, attempt, with("site.example:" + beside), withToken, "http://evil.example:" + beside, false},
		{"a listed page", guarded, app, attempt, with(guarded.addrs["devices"]), withToken, app, true},
		{"a sandboxed frame in a listed page", guarded, app, framed, with(guarded.addrs["devices"]), withToken, "null", false},
		{"a data page", guarded, data, attempt, with(guarded.addrs["devices"]), withToken, "null", false},
		{"the same origin", guarded, "http://site.example:" + beside, attempt, with("site.example:" + beside), withToken, "http://site.example:" + beside, true},

		{"another site, no token needed", open, evil, attempt, named(open.addrs["devices"]), bare, evil, false},
		{"another port, no token needed", open, "http://127.0.0.1:" + port, attempt, named(open.addrs["devices"]), bare, "http://127.0.0.1:" + port, false},
		{"a name that was made to lead here, no token needed", open, "http://evil.example:" + besideOpen, attempt, named("evil.example:" + besideOpen), bare, "http://evil.example:" + besideOpen, false},
		{"a sandboxed frame in a page at localhost", open, "http://localhost:" + besideOpen, framed, named("localhost:" + besideOpen), bare, "null", false},
		{"a data page, no token needed", open, data, attempt, named(open.addrs["devices"]), bare, "null", false},
		{"localhost", open, "http://localhost:" + besideOpen, attempt, named("localhost:" + besideOpen), bare, "http://localhost:" + besideOpen, true},
		{"the address", open, "http://127.0.0.1:" + besideOpen, attempt, named("127.0.0.1:" + besideOpen), bare, "http://127.0.0.1:" + besideOpen, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := tt.node.refusedFor(t, "origin")
			got := run[outcome](t, tt.page, tt.how+`("`+tt.url+`",`+tt.protocols+`)`)
			refused := tt.node.refusedFor(t, "origin") - before
			wantRefused := 1
			if tt.opens {
				wantRefused = 0
			}
			if got.Opened != tt.opens || refused != wantRefused {
				t.Errorf("opened %v with %d counted as refused, want %v with %d: %+v", got.Opened, refused, tt.opens, wantRefused, got)
			}
			if got.Origin != tt.origin {
				t.Errorf("the attempt came from origin %q, want %q", got.Origin, tt.origin)
			}
			if !tt.opens {
				return
			}
			if got.Protocol != "reprise.v1" {
				t.Errorf("negotiated protocol %q, want reprise.v1", got.Protocol)
			}
			if !strings.HasPrefix(got.Frame, `{"type":"welcome"`) || !strings.Contains(got.Frame, user) {
				t.Errorf("first frame %s, want a welcome of user %s", got.Frame, user)
			}
		})
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("the token has %d parts, want 3", len(parts))
	}
	for what, text := range map[string]string{"claims": parts[1], "signature": parts[2], "secret": secret} {
		if strings.Contains(guarded.log(), text) {
			t.Errorf("log has the %s, want nothing of the token", what)
		}
	}
}

// TestNoListHasEverybody has the list of origins refuse what would let in pages
// that nobody named.
func TestNoListHasEverybody(t *testing.T) {
	t.Parallel()
	for _, list := range []string{"*", "null", "http://*.example", "http://app.example,null"} {
		t.Run(list, func(t *testing.T) {
			t.Parallel() // one that does start runs on until it is stopped
			within, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			said, err := exec.CommandContext(within, binary, "serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir", t.TempDir(),
				"--auth", "none", "--pubnub-subscribe-key", "demo", "--pubnub-origin", "127.0.0.1:1", "--pubnub-tls=false", "--allowed-origins", list).CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(string(said), "allowed-origins") {
				t.Errorf("serve --allowed-origins %s = %v, want exit status 2 for allowed-origins:\n%s", list, err, said)
			}
		})
	}
}
