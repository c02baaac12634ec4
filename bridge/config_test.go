package bridge

import (
	"strings"
	"testing"
	"time"

	"reprise/stream"
)

func TestConfigSaysEverythingAtOnce(t *testing.T) {
	t.Parallel()
	_, err := New(Config{Origin: "https://ps.pndsn.com/", SubscribeKey: "demo?", PublishKey: "a b", UserID: "x y",
		Channels: []string{"user.*", "a,b", "user.x", "user.*", "*", "a.*.b", "a.b.c.*"}, PollTimeout: -1, StopTimeout: -time.Second})
	if err == nil {
		t.Fatal("New(bad) = nil, want errors")
	}
	for _, want := range []string{"Log is missing", `Origin "https://ps.pndsn.com/"`, "SubscribeKey is not", "PublishKey is not", "UserID is not",
		`channel "a,b" is no`, `channel "user.x" is covered by "user.*"`, `channel "user.*" is covered by "user.*"`, `channel "*" is no`, `channel "a.*.b" is no`,
		`channel "a.b.c.*" is no`, "PollTimeout is negative", "StopTimeout is negative"} {
		if n := strings.Count(err.Error(), want); n != 1 && want != `channel "user.x" is covered by "user.*"` || n == 0 {
			t.Errorf("New(bad): %q %d times, want once, in\n%v", want, n, err)
		}
	}
	if strings.Contains(err.Error(), "demo?") {
		t.Errorf("New(bad) = %v, want no key in it", err)
	}
	if _, err := New(Config{}); err == nil || !strings.Contains(err.Error(), "SubscribeKey is missing") || !strings.Contains(err.Error(), "Channels is empty") {
		t.Errorf("New(Config{}) = %v, want what is missing", err)
	}
}

func TestConfigOrigin(t *testing.T) {
	t.Parallel()
	for origin, want := range map[string]bool{"": true, "ps.pndsn.com": true, "ps.pndsn.com:443": true, "127.0.0.1:8090": true, "[::1]:8090": true,
		"http://x": false, "x/": false, "x:": false, ":80": false, "x:y": false, "u@x": false, "x y": false, "::1": false} {
		_, err := New(Config{Log: &stream.Log{}, Origin: origin, SubscribeKey: "demo", Channels: []string{"user.*"}})
		if (err == nil) != want {
			t.Errorf("New(origin %q) = %v, want ok %v", origin, err, want)
		}
	}
}

func TestParseChannel(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]feed{
		"user." + testUser + ".sync": syncFeed, "user." + testUser + ".devices": deviceFeed, "user." + testUser + ".notifications": noticeFeed,
		"global.announcements": broadcastFeed, "global.announcements2": noFeed, "user." + testUser + ".Sync": noFeed, "user." + testUser: noFeed,
		"user." + strings.ToUpper(testUser) + ".sync": noFeed, "user.": noFeed, "": noFeed, "User." + testUser + ".sync": noFeed,
		"user." + strings.Replace(testUser, "-", "_", 1) + ".sync": noFeed, "user." + testUser[:35] + "g.sync": noFeed,
	} {
		user, got := parseChannel(in)
		if got != want || (user == testUser) != (want != noFeed && want != broadcastFeed) {
			t.Errorf("parseChannel(%q) = %q, %d, want %d", in, user, got, want)
		}
	}
}
