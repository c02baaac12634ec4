package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"reprise/bridge/pubnubtest"
	"reprise/edge/client"
)

func TestReread(t *testing.T) {
	t.Parallel()
	path := write(t, "token", "one")
	parse := func() (string, error) {
		raw, err := os.ReadFile(path)
		if err == nil && len(raw) == 0 {
			err = errors.New("empty")
		}
		return string(raw), err
	}
	r, err := newReread("token", discard(), parse, path)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	r.now = func() time.Time { return now }
	replace := func(text string) { // as editors and Kubernetes do
		t.Helper()
		next := filepath.Join(filepath.Dir(path), "next")
		if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, path); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		name, text string
		after      time.Duration
		want       string
	}{
		{"at once", "two", 0, "one"},
		{"a second later", "two", time.Second, "two"},
		{"unreadable", "", time.Second, "two"},
		{"of the same length", "too", time.Second, "too"},
	} {
		replace(step.text)
		now = now.Add(step.after)
		if got := r.get(); got != step.want {
			t.Errorf("%s: get() = %q, want %q", step.name, got, step.want)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Second)
	if got := r.get(); got != "too" {
		t.Errorf("get() without the file = %q, want what it said before", got)
	}
	if _, err := newReread("token", discard(), parse, path); err == nil {
		t.Error("newReread() without the file: error = nil, want one")
	}
}

// TestPubNubTokenFile has PubNub refuse the token; the next one is put into its
// file, and what was published meanwhile comes.
func TestPubNubTokenFile(t *testing.T) {
	t.Parallel()
	pubnub, err := pubnubtest.Start(pubnubtest.Config{RequirePAM: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pubnub.Close)
	grant := pubnubtest.Token{ChannelPatterns: map[string]int{".*": pubnubtest.Read | pubnubtest.Write}}
	pubnub.SetToken("old", grant)
	path := write(t, "token", "old\n")
	n := start(t, append([]string{"serve", "--data-dir", t.TempDir(), "--drain", "0s", "--auth", "none",
		"--pubnub-subscribe-key", "demo", "--pubnub-origin", pubnub.Addr(), "--pubnub-tls=false", "--pubnub-token-file", path}, freePorts...)...)
	_, frames := n.device(client.Config{User: exampleUser, Since: "latest"})
	channel := "user." + exampleUser + ".notifications"
	expect(t, frames, "welcome", "")
	expect(t, frames, "caught_up", "")
	pubnub.Publish(channel, []byte(`{"n":1}`))
	expect(t, frames, "notification", `"n":1`)
	pubnub.DropToken("old")
	journal := pubnub.Journal()
	pubnub.Publish(channel, []byte(`{"n":2}`)) // ends the poll; the next is refused
	if _, err := pubnub.WaitRequest(t.Context(), journal[len(journal)-1].N, nil); err != nil {
		t.Fatal(err)
	}
	pubnub.SetToken("new", grant)
	if err := os.Rename(write(t, "token", "new\n"), path); err != nil {
		t.Fatal(err)
	}
	pubnub.Publish(channel, []byte(`{"n":3}`))
	expect(t, frames, "notification", `"n":2`)
	expect(t, frames, "notification", `"n":3`)
	n.end(0)
}

func TestSecretFiles(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		mode  os.FileMode
		doubt bool
		bad   bool
	}{{0o600, false, false}, {0o640, false, false}, {0o400, false, false}, {0o644, true, false}, {0o666, false, true}, {0o602, false, true}} {
		path := write(t, "key", hush)
		if err := os.Chmod(path, tt.mode); err != nil {
			t.Fatal(err)
		}
		doubt, err := checkSecretFile(path)
		if (doubt != "") != tt.doubt || (err != nil) != tt.bad {
			t.Errorf("checkSecretFile(%o) = %q, %v, want doubt %v, error %v", tt.mode, doubt, err, tt.doubt, tt.bad)
		}
		// Every setting with a secret in it goes through the same eye.
		for _, name := range []string{"auth-hmac-secret-file", "tls-key-file"} {
			code, _, complaint := reprise(t.Context(), nil, "check", "--print", "--auth-hmac-secret", hush, "--tls-cert-file", path, "--"+name, path)
			if name == "auth-hmac-secret-file" {
				code, _, complaint = reprise(t.Context(), nil, "check", "--print", "--"+name, path)
			}
			if (code == 2) != tt.bad || strings.Contains(complaint, name+": "+path+" can be") != (tt.bad || tt.doubt) && strings.Contains(complaint, "can be") != (tt.bad || tt.doubt) {
				t.Errorf("run(check --%s, mode %o) = %d, %s, want doubt %v, refused %v", name, tt.mode, code, complaint, tt.doubt, tt.bad)
			}
		}
	}
	long := write(t, "long", strings.Repeat("x", maxSecretFile+1))
	if _, err := readSecret(long); err == nil {
		t.Error("readSecret(64 KiB and one byte) error = nil, want one")
	}
}
