package pubnubtest_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"reprise/bridge/pubnubtest"
)

var update = flag.Bool("update", false, "write the answers in testdata/wire anew")

// An exchange is one request of a wire file and its answer.
type exchange struct {
	comment          string
	method, uri      string
	body             string
	status, response string
}

// readWire returns the exchanges of a file. Lines that begin with "> " are a
// request, with ">> " its body, with "< " the status; the line after that is
// the answer. {{any}} in an answer stands for any text.
func readWire(t *testing.T, file string) []exchange {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("ReadFile(%s) = %v", file, err)
	}
	var all []exchange
	for block := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n\n") {
		var x exchange
		for line := range strings.SplitSeq(block, "\n") {
			switch kind, rest, _ := strings.Cut(line, " "); kind {
			case "#":
				x.comment += line + "\n"
			case ">":
				x.method, x.uri, _ = strings.Cut(rest, " ")
			case ">>":
				x.body = rest
			case "<":
				x.status = rest
			default:
				x.response = line
			}
		}
		if x.method != "" {
			all = append(all, x)
		} else if x.comment == "" {
			t.Fatalf("readWire(%s): block without request: %q", file, block)
		}
	}
	if len(all) == 0 {
		t.Fatalf("readWire(%s) = 0 exchanges, want some", file)
	}
	return all
}

func TestWireForms(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/wire/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("Glob(testdata/wire/*.txt) = %d files, %v, want some", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now := time.Unix(0, 1795437339534210000)
			s := start(t, pubnubtest.Config{
				Now:         func() time.Time { return now },
				CursorSkew:  func() time.Duration { return 150 * time.Microsecond },
				PollTimeout: time.Millisecond,
				RequirePAM:  strings.HasPrefix(name, "access"),
				NoHistory:   name == "nohistory",
			})
			s.SetToken("reader", pubnubtest.Token{ChannelPatterns: map[string]int{`^user\..*$`: pubnubtest.Read}})
			s.SetToken("old", pubnubtest.Token{Channels: map[string]int{"user.*": pubnubtest.Read}, Expires: now})
			var out strings.Builder
			for _, x := range readWire(t, file) {
				uri := strings.ReplaceAll(x.uri, "{{40k}}", strings.Repeat("x", 40_000))
				body := strings.ReplaceAll(x.body, "{{40k}}", strings.Repeat("x", 40_000))
				status, response := fetch(t, s, x.method, uri, body)
				if !*update {
					if got := fmt.Sprint(status); got != x.status || !matches(response, x.response) {
						t.Errorf("%s %s = %s\n%s\nwant %s\n%s", x.method, x.uri, got, response, x.status, x.response)
					}
					continue
				}
				fmt.Fprintf(&out, "%s> %s %s\n", x.comment, x.method, x.uri)
				if x.body != "" {
					fmt.Fprintf(&out, ">> %s\n", x.body)
				}
				if matches(response, x.response) {
					response = x.response
				}
				fmt.Fprintf(&out, "< %d\n%s\n\n", status, response)
			}
			if *update {
				if err := os.WriteFile(file, []byte(strings.TrimSpace(out.String())+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func matches(got, want string) bool {
	before, after, wild := strings.Cut(want, "{{any}}")
	if !wild {
		return got == want
	}
	return len(got) >= len(before)+len(after) && strings.HasPrefix(got, before) && strings.HasSuffix(got, after)
}
