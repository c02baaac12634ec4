package main

import (
	"regexp"
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
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"--user", exampleUser}, "reprise tail --user " + exampleUser + " --device d --since s"},
		{[]string{"--user", exampleUser, "--url", "ws://h:1/ws", "--json", "--echo"}, "reprise tail --user " + exampleUser + " --device d --since s --url ws://h:1/ws --echo --json"},
		{[]string{"--token", hush}, "reprise tail --device d --since s --token …"},
	}
	for _, tt := range tests {
		cfg, _, _, err := load(find(allCommands(), "tail"), tt.args, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := continueLine("reprise", cfg, "d", "s"); got != tt.want || strings.Contains(got, hush) {
			t.Errorf("continueLine(%q) = %q, want %q", tt.args, got, tt.want)
		}
	}
}
