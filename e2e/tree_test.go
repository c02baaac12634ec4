package e2e

import (
	"go/doc"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// topLevel is all that the repository's top level holds, dot names aside.
var topLevel = []string{"README.md", "Taskfile.yml", "bridge", "cmd", "e2e", "edge", "go.mod", "go.sum", "hlc", "otel", "stream"}

// firstSentences are the packages' own words for what they are.
var firstSentences = map[string]string{
	"hlc":    "Package hlc implements hybrid logical clocks.",
	"stream": "Package stream is the event log: each user's events, in order, once, in JetStream.",
	"bridge": "Package bridge carries PubNub channels into the event log, and the outbox back to PubNub.",
	"edge":   "Package edge serves the event log to devices over WebSocket.",
	"otel":   "Package otel configures OpenTelemetry for the process.",
	"e2e":    "Package e2e tests the relay as its users meet it: a binary, a PubNub origin, a NATS cluster, WebSocket clients.",
}

// A sourcePackage is a folder with Go files that are no tests.
type sourcePackage struct {
	name     string
	comments []string // package comments, one for each file that has one
}

// tree reads the module's packages, by their folder, and its files; tests,
// dot folders, testdata and modules below this one are not among them.
func tree(t *testing.T) (map[string]*sourcePackage, []sourceFile) {
	t.Helper()
	packages, files := map[string]*sourcePackage{}, []sourceFile(nil)
	root := os.DirFS("..")
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			_, nested := fs.Stat(root, path.Join(name, "go.mod"))
			if base := entry.Name(); name != "." && (nested == nil || base[0] == '.' || base[0] == '_' || base == "testdata" || base == "node_modules") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", filepath.FromSlash(name)), nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		file := sourceFile{path: name}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			file.imports = append(file.imports, imported)
		}
		files = append(files, file)
		folder := path.Dir(name)
		if packages[folder] == nil {
			packages[folder] = &sourcePackage{name: parsed.Name.Name}
		}
		if parsed.Doc != nil {
			packages[folder].comments = append(packages[folder].comments, parsed.Doc.Text())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(packages) == 0 || len(files) == 0 {
		t.Fatalf("%d packages and %d files found, want some", len(packages), len(files))
	}
	return packages, files
}

// wrongComment says what is wrong with the package comment of the package in
// this folder, "" if nothing is.
func wrongComment(folder string, p *sourcePackage) string {
	if len(p.comments) != 1 {
		return strconv.Itoa(len(p.comments)) + " package comments, want 1"
	}
	got := new(doc.Package).Synopsis(p.comments[0])
	if want := firstSentences[folder]; want != "" && got != want {
		return "begins with " + strconv.Quote(got) + ", want " + strconv.Quote(want)
	}
	want := "Package " + p.name + " "
	if p.name == "main" {
		want = "Command " + path.Base(folder) + " "
	}
	if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, ".") {
		return "begins with " + strconv.Quote(got) + ", want a sentence that begins with " + strconv.Quote(want)
	}
	return ""
}

func TestPackageComments(t *testing.T) {
	t.Parallel()
	packages, _ := tree(t)
	for _, folder := range slices.Sorted(maps.Keys(packages)) {
		if why := wrongComment(folder, packages[folder]); why != "" {
			t.Errorf("%s: %s", folder, why)
		}
	}
	for _, folder := range slices.Sorted(maps.Keys(firstSentences)) {
		if packages[folder] == nil {
			t.Errorf("no package in %s", folder)
		}
	}
}

func TestWrongComment(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, folder, pkg string
		comments          []string
		sound             bool
	}{
		{"the sentence of the table", "hlc", "hlc", []string{"Package hlc implements hybrid\nlogical clocks.\n\nMore.\n"}, true},
		{"another sentence", "hlc", "hlc", []string{"Package hlc implements clocks.\n"}, false},
		{"a package outside the table", "edge/client", "client", []string{"Package client is a device. It dials.\n"}, true},
		{"a command", "cmd/reprise", "main", []string{"Command reprise is the relay.\n"}, true},
		{"a command by another name", "cmd/reprise", "main", []string{"Command relay is the relay.\n"}, false},
		{"no comment", "edge/client", "client", nil, false},
		{"two comments", "edge/client", "client", []string{"Package client is a device.\n", "Package client dials.\n"}, false},
		{"an empty comment", "edge/client", "client", []string{"\n"}, false},
		{"another package's comment", "edge/client", "client", []string{"Package dial is a device.\n"}, false},
		{"no sentence", "edge/client", "client", []string{"Package client is\n"}, false},
	}
	for _, tt := range tests {
		if why := wrongComment(tt.folder, &sourcePackage{tt.pkg, tt.comments}); (why == "") != tt.sound {
			t.Errorf("wrongComment(%s) = %q, want sound = %v", tt.name, why, tt.sound)
		}
	}
}

// What .gitignore names may lie about: a data directory, a binary.
func TestTopLevel(t *testing.T) {
	t.Parallel()
	ignored, err := os.ReadFile("../.gitignore")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, entry := range entries {
		name := entry.Name()
		if name[0] != '.' && !slices.ContainsFunc(strings.Fields(string(ignored)), func(pattern string) bool {
			matched, err := path.Match(strings.Trim(pattern, "/"), name)
			return matched && err == nil
		}) {
			got = append(got, name)
		}
	}
	if slices.Sort(got); !slices.Equal(got, topLevel) {
		t.Errorf("the top level holds %q, want %q", got, topLevel)
	}
}
