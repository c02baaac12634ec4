package hlc

import (
	"os"
	"regexp"
	"strconv"
	"testing"
)

const corpus = "testdata/fuzz/FuzzParse"

var reText = regexp.MustCompile(`^[0-9a-f]{16}$`)

// Parse accepts exactly the texts that String gives, with their value.
func FuzzParse(f *testing.F) {
	f.Add("019a3f2c8e410003")
	f.Fuzz(func(t *testing.T, in string) {
		got, err := Parse(in)
		gotBytes, errBytes := ParseBytes([]byte(in))
		if got != gotBytes || (err == nil) != (errBytes == nil) {
			t.Fatalf("Parse(%q) = %s, %v, but ParseBytes = %s, %v", in, got, err, gotBytes, errBytes)
		}
		if want := reText.MatchString(in); want != (err == nil) {
			t.Fatalf("Parse(%q) = %v, want accepted = %v", in, err, want)
		}
		if err != nil {
			if got != Zero {
				t.Fatalf("Parse(%q) = %s with an error, want %s", in, got, Zero)
			}
			return
		}
		if want, err := strconv.ParseUint(in, 16, 64); err != nil || uint64(got) != want {
			t.Fatalf("Parse(%q) = %d, want %d (%v)", in, got, want, err)
		}
		if got.String() != in {
			t.Fatalf("Parse(%q).String() = %q", in, got)
		}
	})
}

// A fuzz target whose committed corpus got lost tests next to nothing and
// stays green, so the corpus itself is a case.
func TestCorpusIsThere(t *testing.T) {
	t.Parallel()
	files, err := os.ReadDir(corpus)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 12 {
		t.Errorf("%s holds %d inputs, want at least the 12 seeds", corpus, len(files))
	}
}
