package bridge

import (
	"os"
	"strings"
	"testing"
)

// bodyCase is one case of testdata/bodies.txt: cases are separated by empty
// lines, and each line is a field.
type bodyCase struct {
	name, ids, channel, payload string
	frame, device, expires      string
	reason, heartbeat           string
}

// bodyCases reads the table. It fails when there is none.
func bodyCases(t testing.TB) []bodyCase {
	t.Helper()
	data, err := os.ReadFile("testdata/bodies.txt")
	if err != nil {
		t.Fatal(err)
	}
	var cases []bodyCase
	for _, block := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n\n") {
		var c bodyCase
		for _, line := range strings.Split(block, "\n") {
			name, value, ok := strings.Cut(line, ": ")
			field := map[string]*string{"name": &c.name, "ids": &c.ids, "channel": &c.channel, "payload": &c.payload, "frame": &c.frame,
				"device": &c.device, "expires": &c.expires, "reason": &c.reason, "heartbeat": &c.heartbeat}[name]
			if !ok || field == nil {
				t.Fatalf("testdata/bodies.txt: line %.60q", line)
			}
			*field = value
		}
		cases = append(cases, c)
	}
	if len(cases) < 150 {
		t.Fatalf("testdata/bodies.txt: %d cases, want at least 150", len(cases))
	}
	return cases
}
