package main

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// write puts text into a new file and returns its path.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// problemsOf loads a configuration and returns what is wrong with it.
func problemsOf(t *testing.T, command string, env []string, args ...string) []string {
	t.Helper()
	_, _, _, err := load(find(allCommands(), command), args, newEnvironment(env))
	if err == nil {
		return nil
	}
	var misuse *usageError
	if !errors.As(err, &misuse) {
		t.Fatalf("load(%s %q) error = %T, want a usageError", command, args, err)
	}
	return misuse.problems
}

func TestPrecedence(t *testing.T) {
	t.Parallel()
	file := write(t, "relay.yaml", "# a comment\nping-interval: 7s\ndrain: 8s\nnode: file\ntail-per-user: 9\npubnub-tls: false\nallowed-origins:\n  - https://a.example\n  - https://b.example\n")
	env := []string{"REPRISE_CONFIG=" + file, "REPRISE_DRAIN=5s", "REPRISE_NODE=env", "REPRISE_IDLE_TIMEOUT=", "HOME=/nowhere"}
	cfg, _, _, err := load(find(allCommands(), "dev"), []string{"--node", "flag"}, newEnvironment(env))
	if err != nil {
		t.Fatalf("load() error = %v", err)
	}
	for _, tt := range []struct {
		name      string
		got, want any
		from      source
	}{
		{"node", cfg.node, "flag", "--node"},
		{"drain", cfg.drain, 5 * time.Second, "REPRISE_DRAIN"},
		{"ping-interval", cfg.pingInterval, 7 * time.Second, source(file + ":2")},
		{"tail-per-user", cfg.tailPerUser, 9, source(file + ":5")},
		{"pubnub-tls", cfg.pubnubTLS, false, source(file + ":6")},
		{"allowed-origins", strings.Join(cfg.allowedOrigins, " "), "https://a.example https://b.example", source(file + ":7")},
		{"idle-timeout", cfg.idleTimeout, time.Minute, fromDefault},
		{"auth", cfg.auth, "none", fromDefault},
	} {
		if tt.got != tt.want {
			t.Errorf("%s = %v, want %v", tt.name, tt.got, tt.want)
		}
		if got := cfg.origins[tt.name]; got != tt.from {
			t.Errorf("%s came from %q, want %q", tt.name, got, tt.from)
		}
	}
	other := write(t, "other.yaml", "node: other\n")
	cfg, _, _, err = load(find(allCommands(), "dev"), []string{"--config", other}, newEnvironment([]string{"REPRISE_CONFIG=" + file}))
	if err != nil || cfg.node != "other" || cfg.drain != time.Second {
		t.Errorf("load(--config other) = node %q drain %v, %v, want other, 1s, nil", cfg.node, cfg.drain, err)
	}
}

func TestPubNubVariables(t *testing.T) {
	t.Parallel()
	key := write(t, "key", "from-file\n")
	tests := []struct {
		name string
		args []string
		env  []string
		want string
		from source
	}{
		{"PubNub's own name", nil, []string{"PUBNUB_SUBSCRIBE_KEY=sub"}, "sub", "PUBNUB_SUBSCRIBE_KEY"},
		{"ours beats it", nil, []string{"PUBNUB_SUBSCRIBE_KEY=sub", "REPRISE_PUBNUB_SUBSCRIBE_KEY=ours"}, "ours", "REPRISE_PUBNUB_SUBSCRIBE_KEY"},
		{"our file beats it", nil, []string{"PUBNUB_SUBSCRIBE_KEY=sub", "REPRISE_PUBNUB_SUBSCRIBE_KEY_FILE=" + key}, "from-file", "REPRISE_PUBNUB_SUBSCRIBE_KEY_FILE"},
		{"a flag beats all", []string{"--pubnub-subscribe-key=flag"}, []string{"REPRISE_PUBNUB_SUBSCRIBE_KEY=ours"}, "flag", "--pubnub-subscribe-key"},
		{"a file flag beats a variable", []string{"--pubnub-subscribe-key-file", key}, []string{"REPRISE_PUBNUB_SUBSCRIBE_KEY=ours"}, "from-file", "--pubnub-subscribe-key-file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg, _, _, err := load(find(allCommands(), "check"), tt.args, newEnvironment(tt.env))
			if err != nil {
				t.Fatalf("load() error = %v", err)
			}
			if got := cfg.pubnubSubscribeKey.reveal(); got != tt.want {
				t.Errorf("key = %q, want %q", got, tt.want)
			}
			if got := cfg.origins["pubnub-subscribe-key"]; got != tt.from {
				t.Errorf("came from %q, want %q", got, tt.from)
			}
		})
	}
}

func TestEveryErrorAtOnce(t *testing.T) {
	t.Parallel()
	file := write(t, "relay.yaml", "drain: soon\n\nlisten-on: 1\nstream-sync: {every: 1s}\nlog-level: loud\nnode: a\nmessage-rate: 20\n")
	empty := write(t, "empty", "\n")
	got := problemsOf(t, "serve",
		[]string{"REPRISE_TAIL_BYTES=lots", "REPRISE_AUTH=none", "REPRISE_ADMIN_TOKEN=a", "REPRISE_ADMIN_TOKEN_FILE=/b"},
		"--config", file, "--listen", "0.0.0.0:8080", "--pnig-interval", "3s", "--max-connections=-1",
		"--auth-hmac-secret-file", empty, "--tls-cert-file", "cert.pem", "--tls-acme-hosts", "relay.example")
	want := []string{
		"pnig-interval: no such setting (--pnig-interval); did you mean --ping-interval?",
		"listen-on: no such setting (" + file + ":3); did you mean listen?",
		"stream-sync: is neither a plain value nor a list of such (" + file + ":4)",
		"admin-token: given twice, as itself (REPRISE_ADMIN_TOKEN) and as a file (REPRISE_ADMIN_TOKEN_FILE)",
		"auth-hmac-secret-file: " + empty + " is empty (--auth-hmac-secret-file)",
		`max-connections: "-1" is not within 0 and 1073741824 (--max-connections)`,
		`message-rate: "20" is no rate such as 20/s (` + file + `:7)`,
		`tail-bytes: "lots" is no size such as 256MiB (REPRISE_TAIL_BYTES)`,
		`drain: "soon" is no duration such as 30s or 1h30m (` + file + `:1)`,
		`log-level: "loud" is none of debug, info, warn, error (` + file + `:5)`,
		"pubnub-subscribe-key: missing (set --pubnub-subscribe-key, REPRISE_PUBNUB_SUBSCRIBE_KEY, PUBNUB_SUBSCRIBE_KEY or the key pubnub-subscribe-key in the file)",
		"auth: none is for loopback only, and listen is 0.0.0.0:8080 (REPRISE_AUTH)",
		"tls-key-file: missing: tls-cert-file is set (set --tls-key-file, REPRISE_TLS_KEY_FILE or the key tls-key-file in the file)",
		"tls-acme-hosts: a certificate comes from one place, and tls-cert-file is set (--tls-acme-hosts)",
	}
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("missing: %s", w)
		}
	}
	for _, g := range got {
		if !slices.Contains(want, g) {
			t.Errorf("unexpected: %s", g)
		}
	}
}

// TestEveryErrorOfOperandsAtOnce holds that operands are judged together with
// the settings.
func TestEveryErrorOfOperandsAtOnce(t *testing.T) {
	t.Parallel()
	got := problemsOf(t, "dead retry", nil, "x", "1", "--reason", "foo", "-1", "--jsn", "--admin-url=ftp://a")
	want := []string{
		"jsn: no such setting (--jsn)",
		`reason: "foo" is none of ` + strings.Join(deadReasons, ", ") + " (--reason)",
		`admin-url: "ftp://a" is no URL with http or https (--admin-url)`,
		`N: "x" is no number of a dead letter`,
		`N: "-1" is no number of a dead letter`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("load(dead retry) = %q, want %q", got, want)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	key := []string{"PUBNUB_SUBSCRIBE_KEY=k", "REPRISE_AUTH_HMAC_SECRET=s"}
	pem := write(t, "key.pem", "x")
	tests := []struct {
		name    string
		command string
		env     []string
		args    []string
		want    string // "" is in order
	}{
		{"serve", "serve", key, nil, ""},
		{"serve on all addresses", "serve", key, []string{"--listen", ":8080"}, ""},
		{"auth none on IPv6 loopback", "serve", key, []string{"--auth", "none", "--listen", "[::1]:8080"}, ""},
		{"auth none on localhost", "serve", key, []string{"--auth", "none", "--listen", "localhost:0"}, ""},
		{"auth none on all addresses", "serve", key, []string{"--auth", "none", "--listen", ":8080"}, "auth: none is for loopback only"},
		{"auth none in dev elsewhere", "dev", nil, []string{"--listen", "192.0.2.1:80"}, "auth: none is for loopback only"},
		{"no key for tokens", "serve", key[:1], nil, "auth-hmac-secret: missing: auth is jwt"},
		{"two keys for tokens", "serve", key, []string{"--auth-jwks-url", "https://a.example/keys"}, "auth: jwt takes one of"},
		{"admin off loopback", "serve", key, []string{"--admin-listen", "0.0.0.0:9090"}, "admin-listen: 0.0.0.0:9090 is not loopback, so admin-token must be set"},
		{"admin off loopback with a token", "serve", key, []string{"--admin-listen", "0.0.0.0:9090", "--admin-token", "t"}, ""},
		{"bridge without NATS", "bridge", key, nil, "nats-url: missing"},
		{"edge without NATS", "edge", key, nil, "nats-url: missing"},
		{"bridge", "bridge", key, []string{"--nats-url", "nats://a:4222,nats://b:4222"}, ""},
		{"edge does not need PubNub", "edge", key[1:], []string{"--nats-url", "nats://a:4222"}, ""},
		{"NATS is no URL", "serve", key, []string{"--nats-url", "a:4222"}, "nats-url: "},
		{"embedded settings with NATS", "serve", key, []string{"--nats-url", "nats://a", "--stream-sync", "always"}, "stream-sync: is for the embedded server"},
		{"credentials without NATS", "serve", key, []string{"--nats-creds", "x"}, "nats-creds: is for an external server"},
		{"copies without a cluster", "serve", key, []string{"--stream-replicas", "3"}, "stream-replicas: 3 copies need a cluster"},
		{"idle below ping", "serve", key, []string{"--idle-timeout", "10s"}, "idle-timeout: 10s is not above ping-interval 30s"},
		{"one port twice", "dev", nil, []string{"--admin-listen", "127.0.0.1:8080"}, "admin-listen: 127.0.0.1:8080 is taken by listen"},
		{"free ports are many", "dev", nil, []string{"--admin-listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"}, ""},
		{"channel", "serve", key, []string{"--pubnub-channels", "user.*,a.b.c.*"}, `pubnub-channels: "a.b.c.*" has more than three segments`},
		{"channel star", "serve", key, []string{"--pubnub-channels", "*"}, `pubnub-channels: "*" has a wildcard`},
		{"no channel", "serve", key, []string{"--pubnub-channels="}, "pubnub-channels: is empty"},
		{"lanes", "serve", key, []string{"--pubnub-lanes"}, ""},
		{"lanes in dev", "dev", nil, []string{"--pubnub-lanes"}, ""},
		{"lanes and another channel", "serve", key, []string{"--pubnub-lanes", "--pubnub-channels", "global.announcements,user,users.a"}, ""},
		{"lanes and a wildcard", "serve", key, []string{"--pubnub-lanes", "--pubnub-channels", "user.*,global.announcements"}, `pubnub-channels: "user.*" is a user's, and pubnub-lanes (--pubnub-lanes) carries users`},
		{"lanes and a user's channel", "serve", append(key, "REPRISE_PUBNUB_LANES=true"), []string{"--pubnub-channels", "user." + exampleUser + ".sync"}, `pubnub-channels: "user.` + exampleUser + `.sync" is a user's, and pubnub-lanes (REPRISE_PUBNUB_LANES)`},
		{"no lanes and a wildcard", "serve", key, []string{"--pubnub-lanes=false", "--pubnub-channels", "user.*"}, ""},
		{"lanes on an edge", "edge", key, []string{"--nats-url", "nats://a", "--pubnub-lanes"}, "pubnub-lanes: edge does not use this setting"},
		{"never reconcile", "serve", key, []string{"--pubnub-reconcile", "0"}, ""},
		{"reconcile without end", "serve", key, []string{"--pubnub-reconcile", "1ms"}, "pubnub-reconcile: 1ms is below 1s; 0 is never (--pubnub-reconcile)"},
		{"no history", "serve", key, []string{"--pubnub-history-rate", "0"}, "pubnub-history-rate: "},
		{"any origin", "serve", key, []string{"--allowed-origins", "https://app.example,*"}, `allowed-origins: "https://app.example,*" has a wildcard`},
		{"any host of a domain", "serve", key, []string{"--allowed-origins", "https://*.example"}, `allowed-origins: "https://*.example" has a wildcard`},
		{"null origin", "serve", key, []string{"--allowed-origins", "null"}, `allowed-origins: "null" has null`},
		{"origin with a path", "serve", key, []string{"--allowed-origins", "https://app.example/a"}, "allowed-origins: "},
		{"origins", "serve", key, []string{"--allowed-origins", "https://app.example, other.example:8443,http://[::1]:80/"}, ""},
		{"certificate twice", "edge", key[1:], []string{"--nats-url", "nats://a", "--tls-acme-hosts", "relay.example", "--tls-cert-file", "a", "--tls-key-file", pem}, "tls-acme-hosts: a certificate comes from one place"},
		{"certificate for an address", "serve", key, []string{"--tls-acme-hosts", "192.0.2.1"}, "tls-acme-hosts: "},
		{"certificate for all hosts", "serve", key, []string{"--tls-acme-hosts", "*.example.org"}, "tls-acme-hosts: "},
		{"admin certificate without its key", "bridge", key, []string{"--nats-url", "nats://a", "--admin-tls-cert-file", "a"}, "admin-tls-key-file: missing: admin-tls-cert-file is set"},
		{"two identities for NATS", "bridge", key, []string{"--nats-url", "nats://a", "--nats-creds", pem, "--nats-nkey-file", pem}, "nats-nkey-file: NATS takes one of"},
		{"key that is not there", "bridge", key, []string{"--nats-url", "nats://a", "--nats-nkey-file", "/no/such"}, "nats-nkey-file: stat /no/such"},
		{"proxy", "serve", key, []string{"--trusted-proxies", "10.0.0.0/8,::1,ten"}, "trusted-proxies: "},
		{"origin with a scheme", "serve", key, []string{"--pubnub-origin", "https://ps.pndsn.com"}, "pubnub-origin: "},
		{"port too great", "serve", key, []string{"--listen", "127.0.0.1:70000"}, "listen: "},
		{"publish with one key", "publish", key[:1], []string{"a", "1"}, "pubnub-publish-key: missing: publishing takes both keys"},
		{"log from latest", "log", nil, []string{"--user", exampleUser, "--since", "latest"}, "since: latest leaves nothing to show"},
		{"log since a duration", "log", nil, []string{"--user", exampleUser, "--since", "5m"}, "since: 5m0s is no cursor"},
		{"dead list since a duration", "dead list", nil, []string{"--since", "36h"}, ""},
		{"dead list since a cursor", "dead list", nil, []string{"--since", "019a3f2c8e410003"}, "since: 019a3f2c8e410003 is for events"},
		{"dead list since nothing such", "dead list", nil, []string{"--since", "24"}, `since: "24" is neither a cursor`},
		{"dead list by an unknown reason", "dead list", nil, []string{"--reason", "bad"}, `reason: "bad" is none of not_json, `},
		{"user in upper case", "log", nil, []string{"--user", strings.ToUpper("aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa")}, "user: "},
		{"cursor in upper case", "tail", nil, []string{"--user", exampleUser, "--since", "019A3F2C8E410003"}, "since: "},
		{"token without a secret", "token", nil, []string{"--user", exampleUser}, "auth-hmac-secret: missing"},
		{"no such file", "dev", nil, []string{"--config", "/no/such/file.yaml"}, "config: /no/such/file.yaml: no such file or directory (--config)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := problemsOf(t, tt.command, tt.env, tt.args...)
			switch {
			case tt.want == "" && len(got) > 0:
				t.Errorf("load(%s %q) = %q, want no problem", tt.command, tt.args, got)
			case tt.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], tt.want)):
				t.Errorf("load(%s %q) = %q, want one problem: %s…", tt.command, tt.args, got, tt.want)
			}
		})
	}
}

// TestLanesChannels holds that with lanes the default of pubnub-channels has no
// users in it, and that check --print shows so.
func TestLanesChannels(t *testing.T) {
	t.Parallel()
	file := write(t, "relay.yaml", "pubnub-lanes: true\npubnub-reconcile: 0s\npubnub-history-rate: 90/m\n")
	cfg, _, _, err := load(find(allCommands(), "bridge"), nil, newEnvironment([]string{"REPRISE_CONFIG=" + file, "PUBNUB_SUBSCRIBE_KEY=k", "REPRISE_NATS_URL=nats://a"}))
	if err != nil {
		t.Fatalf("load() error = %v", err)
	}
	if got := strings.Join(cfg.pubnubChannels, " "); got != "global.announcements" {
		t.Errorf("pubnub-channels = %s, want global.announcements", got)
	}
	if !cfg.pubnubLanes || cfg.pubnubReconcile != 0 || cfg.pubnubHistoryRate != 1.5 {
		t.Errorf("load() = lanes %t, reconcile %v, history rate %v, want true, 0s, 1.5", cfg.pubnubLanes, cfg.pubnubReconcile, cfg.pubnubHistoryRate)
	}
	_, out, _ := reprise(t.Context(), nil, "check", "--print", "--config", file)
	for _, want := range []string{`pubnub-channels +global.announcements +default\n`, `pubnub-lanes +true +\S+:1\n`} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("run(check --print) printed %s, want %s in it", out, want)
		}
	}
}

func TestParseFile(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		want       map[string]string
		problems   int
	}{
		{"empty", "", map[string]string{}, 0},
		{"only a comment", "# nothing\n", map[string]string{}, 0},
		{"kinds", "node: n\ntail-per-user: 0x10\npubnub-tls: false\nauth-issuer: \"a: b\"\nnats-url:\n", map[string]string{
			"node": "n", "tail-per-user": "0x10", "pubnub-tls": "false", "auth-issuer": "a: b", "nats-url": ""}, 0},
		{"list", "allowed-origins: [a, b]\n", map[string]string{"allowed-origins": "a,b"}, 0},
		{"a secret's file", "admin-token-file: /run/x\n", map[string]string{"admin-token-file": "/run/x"}, 0},
		{"twice", "node: a\nnode: b\n", nil, 1},
		{"nested", "stream:\n  shards: 1\n", nil, 1},
		{"underscores", "max_connections: 1\n", nil, 1},
		{"a file of what is no secret", "node-file: /x\n", nil, 1},
		{"a list", "- node\n", nil, 1},
		{"a word", "node\n", nil, 1},
		{"broken", "node: [a\n", nil, 1},
		{"three", "a: 1\nb: 2\nc: 3\n", nil, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			found, problems := parseFile("f.yaml", []byte(tt.text))
			if len(problems) != tt.problems {
				t.Errorf("parseFile(%q) problems = %q, want %d", tt.text, problems, tt.problems)
			}
			for _, p := range problems {
				if strings.Contains(p, "\n") {
					t.Errorf("parseFile(%q) problem = %q, want one line", tt.text, p)
				}
			}
			if tt.want == nil {
				return
			}
			if len(found) != len(tt.want) {
				t.Errorf("parseFile(%q) = %v, want %v", tt.text, found, tt.want)
			}
			for name, text := range tt.want {
				if found[name].text != text {
					t.Errorf("parseFile(%q)[%s] = %q, want %q", tt.text, name, found[name].text, text)
				}
			}
		})
	}
}

func TestUnknownVariables(t *testing.T) {
	t.Parallel()
	env := newEnvironment([]string{"REPRISE_LISEN=x", "REPRISE_SERVICE_HOST=10.0.0.1", "REPRISE_PORT_8080_TCP=tcp", "REPRISE_NODE=n", "OTHER=1"})
	_, _, warnings, err := load(find(allCommands(), "dev"), nil, env)
	if err != nil || !slices.Equal(warnings, []string{"REPRISE_LISEN"}) {
		t.Errorf("load() warnings = %q, %v, want REPRISE_LISEN", warnings, err)
	}
}

func TestArguments(t *testing.T) {
	t.Parallel()
	publish := find(allCommands(), "publish")
	for _, tt := range []struct {
		args []string
		rest []string
		tls  string
	}{
		{[]string{"a", "-1"}, []string{"a", "-1"}, ""},
		{[]string{"a", "--", "--tls"}, []string{"a", "--tls"}, ""},
		{[]string{"--pubnub-tls", "a", "b"}, []string{"a", "b"}, "true"},
		{[]string{"a", "-pubnub-tls=false", "b"}, []string{"a", "b"}, "false"},
		{[]string{"a", "b", "--pubnub-tls=0"}, []string{"a", "b"}, "0"},
	} {
		l := &loader{command: publish}
		flags, rest := l.arguments(tt.args)
		if !slices.Equal(rest, tt.rest) || flags["pubnub-tls"].text != tt.tls || len(l.problems) > 0 {
			t.Errorf("arguments(%q) = %v, %q, %q, want pubnub-tls %q, %q", tt.args, flags, rest, l.problems, tt.tls, tt.rest)
		}
	}
}
