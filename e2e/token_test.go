package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/coder/websocket"
)

// TestTokensSayWhoItIs serves with signed tokens: a device gets the events of
// its token's user, whatever it says in its query, and none without a token.
func TestTokensSayWhoItIs(t *testing.T) {
	t.Parallel()
	key := filepath.Join(t.TempDir(), "jwt.key")
	if err := os.WriteFile(key, []byte("a secret of at least 32 characters, for tests"), 0o600); err != nil {
		t.Fatal(err)
	}
	pubnub := emulator(t)
	relay := serveWith(t, pubnub.Addr(), "--auth", "jwt", "--auth-hmac-secret-file", key)
	run := newRun(t, relay)
	token := func(user string) string {
		p := launch(t, "token", "--user", user, "--auth-hmac-secret-file", key)
		if code := p.exit(t); code != 0 || len(p.stdout) != 1 {
			t.Fatalf("reprise token exits with %d and prints %q, want 0 and one line:\n%s", code, p.stdout, p.said())
		}
		return p.stdout[0]
	}
	for i := range 2 {
		d := run.device(userNo(i), deviceNo(i))
		d.token = token(d.user)
		d.connect("latest").caughtUp()
	}
	p := run.publisher(pubnub.Addr())
	for i := range 20 {
		p.publish(progress(userNo(i%2), deviceNo(9), i))
	}
	for _, tt := range []struct {
		name, token string
		want        int
	}{
		{"no token", "", http.StatusUnauthorized},
		{"nonsense", "nonsense", http.StatusUnauthorized},
		{"a token with another signature", token(userNo(0)) + "x", http.StatusUnauthorized},
		{"a token, and another user in the query", token(userNo(0)), http.StatusSwitchingProtocols},
	} {
		ws, resp, err := websocket.Dial(within(t), relay.url(userNo(1), deviceNo(5), "earliest"),
			&websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + tt.token}}})
		if resp == nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if resp.StatusCode != tt.want {
			t.Errorf("%s = %d, want %d", tt.name, resp.StatusCode, tt.want)
		}
		if err != nil {
			continue
		}
		_, text, err := ws.Read(within(t))
		if f, bad := parseFrame(string(text)); err != nil || bad != nil || f.User != userNo(0) {
			t.Errorf("%s: the welcome is %s (%v), want the token's user", tt.name, text, err)
		}
		ws.CloseNow()
	}
	run.judge(pubnub.Addr())
}
