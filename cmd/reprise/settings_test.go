package main

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
)

// contract is every setting of a node with its default and a command that uses
// it, as operators rely on them.
var contract = []struct{ name, def, command string }{
	{"listen", "127.0.0.1:8080", "serve"},
	{"admin-listen", "127.0.0.1:9090", "serve"},
	{"admin-token", "none", "serve"},
	{"data-dir", "./reprise-data", "serve"},
	{"nats-url", "embedded", "serve"},
	{"nats-creds", "none", "serve"},
	{"nats-listen", "none", "serve"},
	{"stream-shards", "1, on a cluster 8", "serve"},
	{"stream-replicas", "1, on a cluster 3", "serve"},
	{"stream-max-age", "168h", "serve"},
	{"stream-max-bytes", "none", "serve"},
	{"stream-sync", "1s", "serve"},
	{"pubnub-subscribe-key", "none", "serve"},
	{"pubnub-publish-key", "none", "serve"},
	{"pubnub-token", "none", "serve"},
	{"pubnub-origin", "ps.pndsn.com", "serve"},
	{"pubnub-tls", "true", "serve"},
	{"pubnub-channels", "user.*,global.announcements", "serve"},
	{"pubnub-lanes", "false", "serve"},
	{"pubnub-reconcile", "1h", "serve"},
	{"pubnub-history-rate", "20/s", "serve"},
	{"pubnub-lanes", "false", "bridge"},
	{"auth", "jwt", "serve"},
	{"auth", "none", "dev"},
	{"auth-hmac-secret", "none", "serve"},
	{"auth-public-key-file", "none", "serve"},
	{"auth-jwks-url", "none", "serve"},
	{"auth-issuer", "none", "serve"},
	{"auth-audience", "none", "serve"},
	{"allowed-origins", "same origin", "serve"},
	{"tls-cert-file", "none", "serve"},
	{"tls-key-file", "none", "serve"},
	{"tls-acme-hosts", "none", "serve"},
	{"tls-acme-cache", "reprise/acme in the user's cache", "edge"},
	{"admin-tls-cert-file", "none", "bridge"},
	{"nats-nkey-file", "none", "edge"},
	{"nats-ca-file", "the system's", "bridge"},
	{"trusted-proxies", "none", "serve"},
	{"node", "host name, made safe", "serve"},
	{"max-connections", "0 (no limit)", "serve"},
	{"max-connections-per-user", "20", "serve"},
	{"max-handshakes-per-address", "50/s", "serve"},
	{"max-message-bytes", "32768", "serve"},
	{"message-rate", "20/s", "serve"},
	{"ping-interval", "30s", "serve"},
	{"idle-timeout", "60s", "serve"},
	{"slow-timeout", "30s", "serve"},
	{"tail-bytes", "256MiB", "serve"},
	{"tail-per-user", "256", "serve"},
	{"tail-linger", "5m", "serve"},
	{"id-format", "uuid", "serve"},
	{"max-drift", "60s", "serve"},
	{"drain", "20s", "serve"},
	{"log-level", "info", "serve"},
	{"log-format", "text on a terminal, else json", "serve"},
	{"emulator-listen", "127.0.0.1:8090", "emulator"},
	{"emulator-listen", "127.0.0.1:8090", "dev"},
	{"url", "ws://127.0.0.1:8080/ws", "tail"},
	{"user", "none", "tail"},
	{"device", "a random one", "tail"},
	{"since", "none", "tail"},
	{"token", "none", "tail"},
	{"json", "false", "tail"},
	{"admin-url", "http://127.0.0.1:9090", "log"},
	{"admin-url", "http://127.0.0.1:9090", "dead list"},
	{"admin-token", "none", "dead retry"},
	{"json", "false", "dead show"},
	{"since", "none", "dead list"},
	{"reason", "none", "dead list"},
	{"reason", "none", "dead retry"},
}

func TestHelpHoldsTheContract(t *testing.T) {
	t.Parallel()
	for _, want := range contract {
		var help bytes.Buffer
		writeCommandHelp(&help, find(allCommands(), want.command))
		_, entry, ok := strings.Cut(help.String(), "\n  --"+want.name)
		if !ok || entry[0] != ' ' && entry[0] != '\n' {
			t.Errorf("reprise help %s does not have --%s", want.command, want.name)
			continue
		}
		entry, _, _ = strings.Cut(entry+"\n", "\n  --")
		entry += "\n"
		for _, part := range []string{"REPRISE_" + strings.ToUpper(strings.ReplaceAll(want.name, "-", "_")), "· default " + want.def + "\n"} {
			if !strings.Contains(entry, part) {
				t.Errorf("reprise help %s says of --%s: %s, want %q in it", want.command, want.name, entry, part)
			}
		}
	}
}

// TestDefaultsParse holds that every default is a value that the setting takes.
func TestDefaultsParse(t *testing.T) {
	t.Parallel()
	for _, s := range table {
		for _, def := range []string{s.def, devDefaults()[s.name]} {
			if def == "" {
				continue
			}
			if err := s.parse(&config{})(def); err != nil {
				t.Errorf("parse(%s, %q) error = %v, want nil", s.name, def, err)
			}
		}
	}
}

func TestTableIsSound(t *testing.T) {
	t.Parallel()
	commands := allCommands()
	var names []string
	for _, s := range table {
		if slices.Contains(names, s.name) {
			t.Errorf("setting %s is in the table twice", s.name)
		}
		names = append(names, s.name)
		if s.help == "" || len(s.used) == 0 {
			t.Errorf("setting %s has no help or no command", s.name)
		}
		for _, c := range s.used {
			if find(commands, c) == nil {
				t.Errorf("setting %s is used by %s, want a command", s.name, c)
			}
		}
		if slices.Contains(names, strings.TrimSuffix(s.name, "-file")) && strings.HasSuffix(s.name, "-file") && lookup(strings.TrimSuffix(s.name, "-file")).hidden {
			t.Errorf("setting %s hides the file of a secret", s.name)
		}
	}
	for _, c := range commands {
		for name := range c.defaults {
			if s := lookup(name); s == nil || !slices.Contains(s.used, c.name) {
				t.Errorf("command %s has a default for %s, which it does not use", c.name, name)
			}
		}
	}
}

// TestReadmeHasEverySetting keeps the README's table whole.
func TestReadmeHasEverySetting(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(raw), "\n## Settings\n")
	if !ok {
		t.Fatal("README.md has no section Settings")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	for _, s := range usedBy("check") {
		if s.name != "print" && !strings.Contains(section, "`"+s.name+"`") {
			t.Errorf("README.md does not have `%s` among the settings", s.name)
		}
	}
	for _, c := range allCommands() {
		if !strings.Contains(string(raw), "`reprise "+c.name) {
			t.Errorf("README.md does not have `reprise %s`", c.name)
		}
	}
}
