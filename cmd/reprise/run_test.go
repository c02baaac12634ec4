package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"sync"
	"testing"
)

// asProgram is the variable that makes the test binary the program itself, for
// the tests that need a process to send signals to.
const asProgram = "TEST_BINARY_IS_REPRISE"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// reprise runs the program in this process and returns how it ended.
func reprise(ctx context.Context, env []string, args ...string) (code int, out, err string) {
	var stdout, stderr buffer
	p := program{args: args, env: newEnvironment(env), out: &stdout, err: &stderr}
	code = p.run(ctx)
	return code, stdout.String(), stderr.String()
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		args []string
		code int
		out  string // must be in standard output
		err  string // must be in standard error
	}{
		{"nothing", nil, 2, "", "Usage: reprise COMMAND"},
		{"help", []string{"help"}, 0, "Usage: reprise COMMAND", ""},
		{"--help", []string{"--help"}, 0, "Usage: reprise COMMAND", ""},
		{"-h", []string{"-h"}, 0, "Usage: reprise COMMAND", ""},
		{"help serve", []string{"help", "serve"}, 0, "--pubnub-subscribe-key", ""},
		{"serve --help", []string{"serve", "--help"}, 0, "--pubnub-subscribe-key", ""},
		{"serve -h among others", []string{"serve", "--listen", "x", "-h"}, 0, "--pubnub-subscribe-key", ""},
		{"help on nothing", []string{"help", "nothing"}, 2, "", "no help on nothing"},
		{"version", []string{"version"}, 0, "reprise ", ""},
		{"--version", []string{"--version"}, 0, "go1.", ""},
		{"a group", []string{"dead"}, 2, "", "reprise dead: takes one of list, show, retry"},
		{"a group with a flag", []string{"dead", "--json", "list"}, 2, "", "reprise dead: takes one of list, show, retry"},
		{"a group's help", []string{"dead", "--help"}, 0, "dead show N ", ""},
		{"help on a group", []string{"help", "dead"}, 0, "dead retry [N …] ", ""},
		{"help on one of a group", []string{"help", "dead", "list"}, 0, "--reason REASON", ""},
		{"help of one of a group", []string{"dead", "show", "--help"}, 0, "Usage: reprise dead show N [--setting value …]", ""},
		{"help on none of a group", []string{"help", "dead", "lists"}, 2, "", "no help on dead lists"},
		{"none of a group", []string{"dead", "lst"}, 2, "", "no such command: dead lst; did you mean reprise dead list?"},
		{"no number", []string{"dead", "show", "0"}, 2, "", `reprise dead show: N: "0" is no number of a dead letter`},
		{"retry nothing", []string{"dead", "retry"}, 2, "", "N: missing: name dead letters by their numbers"},
		{"retry by both", []string{"dead", "retry", "5", "--reason", "bad_id"}, 2, "", "reason: is given, and numbers are too; either will do (--reason)"},
		{"no dead letters to reach", []string{"dead", "list", "--admin-url", "http://127.0.0.1:1"}, 1, "", "connection refused"},
		{"unknown command", []string{"serv"}, 2, "", "did you mean reprise serve?"},
		{"unknown flag", []string{"dev", "--lisen", "127.0.0.1:0"}, 2, "", "did you mean --listen?"},
		{"flag of another command", []string{"emulator", "--listen", "127.0.0.1:0"}, 2, "", "emulator does not use this setting"},
		{"flag without a value", []string{"dev", "--listen"}, 2, "", "listen: no value (--listen)"},
		{"flag twice", []string{"dev", "--drain=1s", "--drain=2s"}, 2, "", "drain: given twice (--drain)"},
		{"bad value", []string{"dev", "--drain", "20"}, 2, "", `drain: "20" is no duration such as 30s or 1h30m (--drain)`},
		{"operand too many", []string{"dev", "now"}, 2, "", "arguments: got 1, want 0"},
		{"operand missing", []string{"publish", "user"}, 2, "", "arguments: got 1, want 2: reprise publish CHANNEL JSON"},
		{"no JSON", []string{"publish", "user", "{"}, 2, "", "is no JSON"},
		{"nothing listens", []string{"log", "--user", exampleUser, "--admin-url", "http://127.0.0.1:1"}, 1, "", "connection refused"},
		{"nowhere to publish", []string{"publish", "a", "1", "--pubnub-origin", "127.0.0.1:1"}, 1, "", "connection refused"},
		{"check", []string{"check"}, 0, "in order", ""},
		{"tail nobody", []string{"tail"}, 2, "", "user: missing, and no token either (set --user, REPRISE_USER or the key user in the file)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			code, out, err := reprise(t.Context(), nil, tt.args...)
			if code != tt.code {
				t.Errorf("run(%q) = %d, want %d; standard error:\n%s", tt.args, code, tt.code, err)
			}
			if !strings.Contains(out, tt.out) {
				t.Errorf("run(%q) wrote %q, want %q in it", tt.args, out, tt.out)
			}
			if !strings.Contains(err, tt.err) {
				t.Errorf("run(%q) complained %q, want %q in it", tt.args, err, tt.err)
			}
			if code == 0 && err != "" {
				t.Errorf("run(%q) complained %q, want nothing", tt.args, err)
			}
		})
	}
}
