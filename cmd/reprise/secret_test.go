package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const hush = "hunter2-hunter2"

func TestSecretIsNeverPrinted(t *testing.T) {
	t.Parallel()
	s := newSecret(hush)
	held := struct {
		Name  string
		Key   secret
		inner *config
	}{"n", s, &config{adminToken: s, origins: map[string]source{"admin-token": "--admin-token"}}}

	var shown []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%e"} {
		shown = append(shown, fmt.Sprintf(verb, s), fmt.Sprintf(verb, &s), fmt.Sprintf(verb, held), fmt.Sprintf(verb, *held.inner))
	}
	encoded, err := json.Marshal(held)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", s, "held", held)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", s, "held", held)
	shown = append(shown, string(encoded), log.String(), s.String(), fmt.Sprint(fmt.Errorf("bad %v", s)))
	for _, text := range shown {
		if strings.Contains(text, hush) || strings.Contains(text, fmt.Sprintf("%x", hush)) {
			t.Errorf("printed %q, want no secret", text)
		}
	}
	if got := s.reveal(); got != hush {
		t.Errorf("reveal() = %q, want %q", got, hush)
	}
	if got := s.String(); got != "[redacted]" {
		t.Errorf("String() = %q, want [redacted]", got)
	}
}

// TestOutputHoldsNoSecret gives every secret, and looks for it in all that the
// program writes.
func TestOutputHoldsNoSecret(t *testing.T) {
	t.Parallel()
	args := []string{"check", "--print", "--nats-url", "nats://me:" + hush + "@127.0.0.1:4222"}
	for _, s := range table {
		if s.hidden && s.name != "token" {
			args = append(args, "--"+s.name, hush)
		}
	}
	code, out, err := reprise(t.Context(), nil, args...)
	if code != 0 || strings.Contains(out+err, hush) {
		t.Errorf("run(check --print) = %d, %s%s, want 0 and no secret", code, out, err)
	}
	if !strings.Contains(out, "admin-token") || !strings.Contains(out, "[redacted]") {
		t.Errorf("run(check --print) wrote %s, want admin-token [redacted]", out)
	}
	code, out, err = reprise(t.Context(), nil, "serve", "--pubnub-subscribe-key", hush, "--auth-hmac-secret", hush,
		"--nats-url", "me:"+hush+"@host", "--drain", "x", "--admin-token", hush, "--admin-token-file", "x")
	if code != 2 || strings.Contains(out+err, hush) {
		t.Errorf("run(serve) = %d, %s%s, want 2 and no secret", code, out, err)
	}
}
