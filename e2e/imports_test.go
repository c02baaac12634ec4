package e2e

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
)

// A sourceFile is a Go file that is no test.
type sourceFile struct {
	path    string   // from the module's root, with slashes
	imports []string // import paths
}

const module = "reprise"

// layers are the parts of the design and the layers that each may import besides
// itself. Those that are missing here, such as a folder that nobody has
// thought of, may import nothing of the module and nobody may import them.
var layers = map[string][]string{
	"hlc":    nil,
	"stream": {"hlc"},
	"bridge": {"hlc", "stream"},
	"edge":   {"hlc", "stream"},
	"otel":   nil,
	"cmd":    {"hlc", "stream", "bridge", "edge", "otel"},
}

// owners are the modules that one part alone may name.
var owners = []struct{ module, part string }{
	{"github.com/nats-io", "stream"},
	{"github.com/pubnub/go", "bridge"},
	{"github.com/coder/websocket", "edge"},
}

// telemetryAPI is what of OpenTelemetry every part but hlc may use; its SDK,
// exporters and contributions are for package otel.
var telemetryAPI = []string{
	"go.opentelemetry.io/otel/attribute",
	"go.opentelemetry.io/otel/baggage",
	"go.opentelemetry.io/otel/codes",
	"go.opentelemetry.io/otel/metric",
	"go.opentelemetry.io/otel/propagation",
	"go.opentelemetry.io/otel/semconv",
	"go.opentelemetry.io/otel/trace",
}

// wrongImports says what is wrong with the imports of a whole module.
func wrongImports(files []sourceFile) []string {
	var wrong []string
	sdk := 0 // files of package bridge that import the PubNub SDK
	for _, file := range files {
		for _, imported := range file.imports {
			if why := wrongImport(file.path, imported); why != "" {
				wrong = append(wrong, fmt.Sprintf("%s imports %s: %s", file.path, imported, why))
			}
			if path.Dir(file.path) == "bridge" && isUnder(imported, "github.com/pubnub/go") {
				sdk++
			}
		}
	}
	if sdk != 1 {
		wrong = append(wrong, fmt.Sprintf("%d imports of the PubNub SDK in package bridge, want 1", sdk))
	}
	return wrong
}

// wrongImport says why the file may not import this, "" if it may.
func wrongImport(file, imported string) string {
	folder := path.Dir(file)
	part, _, _ := strings.Cut(folder, "/")
	if folder == "bridge/pubnubtest" && (imported == "testing" || isUnder(imported, module)) {
		return "the emulator is also for programs, and for others than this module"
	}
	if part == "e2e" || isTestPackage(folder) {
		return ""
	}
	switch first, _, _ := strings.Cut(imported, "/"); {
	case first == module:
		return wrongPart(folder, strings.TrimPrefix(imported, module+"/"))
	case !strings.Contains(first, "."):
		return "" // standard library
	case part == "hlc":
		return "hlc is for the standard library only"
	}
	for _, owner := range owners {
		// One package of bridge, not the whole part, has the PubNub SDK.
		own := part == owner.part && (part != "bridge" || folder == "bridge")
		if isUnder(imported, owner.module) && !own {
			return "only " + owner.part + " may"
		}
	}
	if isUnder(imported, "go.opentelemetry.io") && part != "otel" && imported != "go.opentelemetry.io/otel" &&
		!slices.ContainsFunc(telemetryAPI, func(api string) bool { return isUnder(imported, api) }) {
		return "only otel may use more than the API"
	}
	return ""
}

// wrongPart is wrongImport inside the module: target is a folder of it.
func wrongPart(folder, target string) string {
	from, _, _ := strings.Cut(folder, "/")
	to, _, _ := strings.Cut(target, "/")
	if isTestPackage(target) && from != "cmd" {
		return "a test package is for tests, and for cmd"
	}
	if from == to || slices.Contains(layers[from], to) {
		return ""
	}
	return fmt.Sprintf("%s may import only %v", from, layers[from])
}

func isTestPackage(folder string) bool { return strings.HasSuffix(folder, "test") }

// isUnder reports whether the import path p is root or lies below it.
func isUnder(p, root string) bool { return p == root || strings.HasPrefix(p, root+"/") }

func TestImports(t *testing.T) {
	t.Parallel()
	_, files := tree(t)
	for _, wrong := range wrongImports(files) {
		t.Error(wrong)
	}
}

func TestWrongImports(t *testing.T) {
	t.Parallel()
	sound := []sourceFile{
		{"hlc/clock.go", []string{"fmt", "sync/atomic"}},
		{"stream/log.go", []string{"context", "reprise/hlc", "github.com/nats-io/nats.go", "go.opentelemetry.io/otel"}},
		{"stream/server.go", []string{"github.com/nats-io/nats-server/v2/server"}},
		{"stream/streamtest/node.go", []string{"testing", "reprise/stream", "github.com/nats-io/nats.go"}},
		{"bridge/sdk.go", []string{"github.com/pubnub/go/v7", "reprise/stream", "reprise/hlc", "golang.org/x/time/rate"}},
		{"bridge/trace.go", []string{"go.opentelemetry.io/otel/trace", "go.opentelemetry.io/otel/semconv/v1.43.0"}},
		{"bridge/pubnubtest/server.go", []string{"net/http", "github.com/google/uuid"}},
		{"edge/conn.go", []string{"github.com/coder/websocket", "reprise/edge/frame", "go.opentelemetry.io/otel/metric/noop"}},
		{"edge/client/dial.go", []string{"github.com/coder/websocket", "reprise/hlc"}},
		{"otel/otel.go", []string{"go.opentelemetry.io/otel/sdk/trace", "go.opentelemetry.io/contrib/propagators/autoprop"}},
		{"cmd/reprise/main.go", []string{"reprise/otel", "reprise/bridge", "reprise/bridge/pubnubtest", "reprise/edge/client", "reprise/stream"}},
		{"e2e/judge.go", []string{"reprise/cmd/reprise", "github.com/pubnub/go/v7", "github.com/coder/websocket"}},
	}
	if got := wrongImports(sound); len(got) > 0 {
		t.Fatalf("wrongImports(sound tree) = %q, want none", got)
	}
	tests := []struct{ file, imported string }{
		{"hlc/new.go", "golang.org/x/time/rate"},
		{"hlc/new.go", "go.opentelemetry.io/otel"},
		{"hlc/new.go", "reprise/stream"},
		{"stream/new.go", "reprise/bridge"},
		{"stream/new.go", "reprise/edge/client"},
		{"stream/new.go", "reprise/cmd/reprise"},
		{"stream/new.go", "reprise/stream/streamtest"},
		{"stream/new.go", "reprise/otel"},
		{"stream/new.go", "github.com/coder/websocket"},
		{"stream/new.go", "go.opentelemetry.io/otel/sdk/metric"},
		{"bridge/new.go", "github.com/pubnub/go/v7"}, // the second file
		{"bridge/new.go", "reprise/edge"},
		{"bridge/new.go", "reprise/bridge/pubnubtest"},
		{"bridge/new.go", "github.com/nats-io/nats.go/jetstream"},
		{"bridge/new.go", "go.opentelemetry.io/otel/exporters/prometheus"},
		{"bridge/body/new.go", "github.com/pubnub/go/v7"},
		{"bridge/pubnubtest/new.go", "testing"},
		{"bridge/pubnubtest/new.go", "reprise/hlc"},
		{"edge/new.go", "reprise/bridge"},
		{"edge/new.go", "github.com/pubnub/go/v7"},
		{"edge/new.go", "github.com/nats-io/nuid"},
		{"edge/new.go", "go.opentelemetry.io/contrib/instrumentation/runtime"},
		{"edge/new.go", "reprise/otel"},
		{"edge/client/new.go", "reprise/e2e"},
		{"edge/client/new.go", "github.com/nats-io/nats.go"},
		{"otel/new.go", "reprise/hlc"},
		{"cmd/reprise/new.go", "github.com/coder/websocket"},
		{"cmd/reprise/new.go", "github.com/pubnub/go/v7"},
		{"cmd/reprise/new.go", "github.com/nats-io/nats-server/v2/server"},
		{"cmd/reprise/new.go", "go.opentelemetry.io/otel/sdk"},
		{"cmd/reprise/new.go", "go.opentelemetry.io/otel/log"},
		{"cmd/reprise/new.go", "reprise/e2e"},
		{"util/new.go", "reprise/hlc"},
		{"cmd/reprise/new.go", "reprise/util"},
	}
	for _, tt := range tests {
		got := wrongImports(append(slices.Clone(sound), sourceFile{tt.file, []string{tt.imported}}))
		if len(got) != 1 {
			t.Errorf("wrongImports(%s imports %s) = %q, want one complaint", tt.file, tt.imported, got)
		}
	}
	without := slices.DeleteFunc(slices.Clone(sound), func(f sourceFile) bool { return f.path == "bridge/sdk.go" })
	if got := wrongImports(without); len(got) != 1 {
		t.Errorf("wrongImports(nobody imports the PubNub SDK) = %q, want one complaint", got)
	}
}
