package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestBashCompletion has bash complete command lines.
func TestBashCompletion(t *testing.T) {
	t.Parallel()
	script := filepath.Join(t.TempDir(), "completion")
	if err := os.WriteFile(script, []byte(bashCompletion(allCommands())), 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string][]string{
		"reprise ta":                    {"tail"},
		"reprise dead ":                 {"list", "show", "retry"},
		"reprise dead re":               {"retry"},
		"reprise dead list --re":        {"--reason"},
		"reprise tail --js":             {"--json"},
		"reprise tail --json --us":      {"--user"},
		"reprise serve --log-format ":   {"text", "json"},
		"reprise serve --log-format j":  {"json"},
		"reprise token --auth-hmac-sec": {"--auth-hmac-secret", "--auth-hmac-secret-file"},
		"reprise help to":               {"token"},
		"reprise completion z":          {"zsh"},
		"reprise version --h":           {"--help"},
		"reprise nonsense ":             nil,
	} {
		words := strings.Split(line, " ")
		args := []string{"-c", `source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _reprise; printf '%s\n' "${COMPREPLY[@]}"`, script}
		out, err := exec.Command("bash", append(args, words...)...).CombinedOutput()
		if err != nil {
			t.Errorf("%q: %v: %s", line, err, out)
		}
		if got := strings.Fields(string(out)); !slices.Equal(got, want) {
			t.Errorf("%q is completed by %q, want %q", line, got, want)
		}
	}
}

// TestCompletionKnowsEverything holds that no command and no flag is missing.
func TestCompletionKnowsEverything(t *testing.T) {
	t.Parallel()
	for shell, script := range completions {
		text := script(allCommands())
		for _, cmd := range allCommands() {
			for _, word := range strings.Fields(cmd.name) {
				if !strings.Contains(text, word) {
					t.Errorf("%s: no command %s", shell, word)
				}
			}
			for _, s := range usedBy(cmd.name) {
				if !strings.Contains(text, s.name) {
					t.Errorf("%s: no flag %s", shell, s.name)
				}
			}
		}
	}
}
