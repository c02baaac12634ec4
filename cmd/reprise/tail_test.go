package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"reprise/edge/client"
	"reprise/hlc"
)

func TestFrameLine(t *testing.T) {
	t.Parallel()
	at := hlc.New(time.Date(2026, 11, 24, 2, 0, 1, 5e6, time.Local).UnixMilli(), 3)
	tests := []struct{ raw, want string }{
		{`{"type":"progress_update","hlc":"` + at.String() + `","content_id":"c","position":7,"device_id":"a b","timestamp":"1"}`,
			`02:00:01.005  progress_update   ` + at.String() + `  content_id=c  position=7  device_id="a b"  timestamp=1`},
		{`{"type":"notification","hlc":"` + at.String() + `","data":{"n":1.50,"type":"x"}}`,
			`02:00:01.005  notification      ` + at.String() + `  data={"n":1.50,"type":"x"}`},
		{`{"type":"announcement","data":{"a":"\u001b[2J"}}`,
			`              announcement      -                 data={"a":"\u001b[2J"}`},
	}
	for _, tt := range tests {
		f, err := client.Parse([]byte(tt.raw))
		if err != nil {
			t.Fatal(err)
		}
		if got := frameLine(f, nil); got != tt.want {
			t.Errorf("frameLine(%s) =\n%s, want\n%s", tt.raw, got, tt.want)
		}
		// Colours add nothing but themselves.
		if got := regexp.MustCompile(`\x1b\[[0-9;]*m`).ReplaceAllString(frameLine(f, coloured), ""); got != tt.want {
			t.Errorf("frameLine(%s), its colours taken off, =\n%s, want\n%s", tt.raw, got, tt.want)
		}
	}
}

func TestContinueLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	token, file := filepath.Join(dir, "a token's.jwt"), filepath.Join(dir, "relay.yaml")
	for path, text := range map[string]string{token: hush, file: "user: " + exampleUser + "\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct{ args, want []string }{
		{[]string{"--user", exampleUser}, []string{"--user", exampleUser, "--device", "d", "--since", "s"}},
		{[]string{"--user", exampleUser, "--url", "ws://h:1/ws?a=1&b=2", "--json", "--echo"}, []string{"--user", exampleUser, "--device", "d", "--since", "s", "--url", "ws://h:1/ws?a=1&b=2", "--echo", "--json"}},
		{[]string{"--token", hush}, []string{"--device", "d", "--since", "s", "--token", "…"}},
		{[]string{"--token-file", token}, []string{"--device", "d", "--since", "s", "--token-file", token}},
		{[]string{"--config", file}, []string{"--config", file, "--user", exampleUser, "--device", "d", "--since", "s"}},
	}
	for _, tt := range tests {
		cfg, _, _, err := load(find(allCommands(), "tail"), tt.args, nil)
		if err != nil {
			t.Fatal(err)
		}
		line := continueLine("reprise", cfg, "d", "s")
		// A shell makes of it what was meant.
		out, err := exec.Command("bash", "-c", `reprise() { printf '%s\n' "$@"; }; `+line).Output()
		if err != nil {
			t.Errorf("%s: %v", line, err)
		}
		if got, want := strings.Split(strings.TrimSpace(string(out)), "\n"), append([]string{"tail"}, tt.want...); !slices.Equal(got, want) || strings.Contains(line, hush) {
			t.Errorf("continueLine(%q) = %s, which is %q, want %q", tt.args, line, got, want)
		}
	}
}
