package deploy

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// stages reads a Dockerfile as BuildKit does, with all that its linter says.
func stages(raw []byte) (list []instructions.Stage, warnings []string, err error) {
	tree, err := parser.Parse(bytes.NewReader(raw))
	if err != nil {
		return nil, nil, err
	}
	for _, w := range tree.Warnings {
		warnings = append(warnings, w.Short)
	}
	lint := linter.New(&linter.Config{Warn: func(rule, _, _, message string, _ []parser.Range) {
		warnings = append(warnings, rule+": "+message)
	}})
	list, _, err = instructions.Parse(tree.AST, lint)
	return list, warnings, err
}

// tracked are the files that a clean checkout has, and those that are about to
// be added: the context of a build.
func tracked(t *testing.T) []string {
	t.Helper()
	cmd := exec.Command("git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard")
	cmd.Dir = top
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	return strings.Fields(string(out))
}

// ignored returns a function that tells whether .dockerignore keeps a path out of
// the context.
func ignored(t *testing.T) func(path string) bool {
	t.Helper()
	patterns, err := ignorefile.ReadAll(bytes.NewReader(read(t, top+"/.dockerignore")))
	if err != nil || len(patterns) == 0 {
		t.Fatalf(".dockerignore: %q, %v", patterns, err)
	}
	matcher, err := patternmatcher.New(patterns)
	if err != nil {
		t.Fatal(err)
	}
	return func(path string) bool {
		is, err := matcher.MatchesOrParentMatches(path)
		if err != nil {
			t.Fatal(err)
		}
		return is
	}
}

// TestDockerignore holds the context to having neither secrets nor a log in it, and
// everything that is in the repository: one file less, and the program would say
// that it was built with changes.
func TestDockerignore(t *testing.T) {
	t.Parallel()
	is := ignored(t)
	for _, path := range []string{"reprise", "reprise-data/jetstream/x", "jwt.key", "keys/admin.token", "nats.creds", "e2e/browser/node_modules/x"} {
		if !is(path) {
			t.Errorf("%s gets into the context", path)
		}
	}
	for _, path := range tracked(t) {
		if is(path) {
			t.Errorf("%s does not get into the context", path)
		}
	}
}

// place copies files of the repository into dir.
func place(t *testing.T, dir string, paths []string) {
	t.Helper()
	for _, path := range paths {
		raw, err := os.ReadFile(filepath.Join(top, path))
		if os.IsNotExist(err) {
			continue // deleted, and not yet committed
		}
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// build carries out the first stage in a bare directory, with nothing of the
// environment but the way to Go and its caches, and returns where /out is.
func build(t *testing.T, stage instructions.Stage) (out string) {
	t.Helper()
	dir := t.TempDir()
	out = filepath.Join(dir, "out")
	work := dir
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GOTOOLCHAIN=local"}
	for _, name := range []string{"GOPROXY", "GOMODCACHE", "GOCACHE", "GOFLAGS"} {
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		env = append(env, name+"="+strings.TrimSpace(string(value)))
	}
	for _, command := range stage.Commands {
		switch c := command.(type) {
		case *instructions.WorkdirCommand:
			work = filepath.Join(dir, c.Path)
			if err := os.MkdirAll(work, 0o755); err != nil {
				t.Fatal(err)
			}
		case *instructions.CopyCommand:
			paths := c.SourcePaths
			if slices.Equal(paths, []string{"."}) {
				paths = slices.DeleteFunc(tracked(t), ignored(t))
			}
			place(t, filepath.Join(work, c.DestPath), paths)
		case *instructions.ArgCommand:
			for _, arg := range c.Args {
				env = append(env, arg.Key+"="+strings.Trim(arg.ValueString(), `"`))
			}
		case *instructions.RunCommand:
			script := strings.ReplaceAll(strings.Join(c.CmdLine, " "), "/out/", out+"/")
			cmd := exec.Command("sh", "-c", script)
			cmd.Dir, cmd.Env = work, env
			if said, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("RUN %s: %v\n%s", script, err, said)
			}
		default:
			t.Fatalf("%s: the test does not know how to do this", command.Name())
		}
	}
	return out
}

// bare runs the program where there is nothing else: in a directory of its own as
// the root, without an environment.
func bare(t *testing.T, program string, args ...string) string {
	t.Helper()
	root := t.TempDir()
	raw := read(t, program)
	if err := os.WriteFile(filepath.Join(root, "reprise"), raw, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/reprise", args...)
	cmd.Path, cmd.Dir, cmd.Env = "/reprise", "/", []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("reprise %v in a bare directory: %v\n%s", args, err, out)
	}
	return string(out)
}

func sum(t *testing.T, path string) (sum [32]byte) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return [32]byte(h.Sum(nil))
}

func TestDockerfile(t *testing.T) {
	t.Parallel()
	raw := read(t, files+"/Dockerfile")
	list, warnings, err := stages(raw)
	if err != nil || len(warnings) > 0 || len(list) != 2 {
		t.Fatalf("the Dockerfile has %d stages, %v, and warnings %q, want two and none", len(list), err, warnings)
	}
	first, last := list[0], list[1]
	if version := goVersion(t); !strings.HasPrefix(first.BaseName, "golang:"+version) {
		t.Errorf("built from %s, and go.mod says %s", first.BaseName, version)
	}
	out := build(t, first)
	program := filepath.Join(out, "reprise")

	// What the image takes from the first stage is there.
	user := ""
	var entry, args, volumes, exposed []string
	for _, command := range last.Commands {
		switch c := command.(type) {
		case *instructions.CopyCommand:
			for _, path := range c.SourcePaths {
				if under, ok := strings.CutPrefix(path, "/out/"); ok {
					if _, err := os.Stat(filepath.Join(out, under)); err != nil {
						t.Errorf("COPY %s: %v", path, err)
					}
				} else if path != "/etc/ssl/certs/ca-certificates.crt" { // of the base image
					t.Errorf("COPY %s: nothing makes that", path)
				}
			}
		case *instructions.UserCommand:
			user = c.User
		case *instructions.EntrypointCommand:
			entry = c.CmdLine
		case *instructions.CmdCommand:
			args = c.CmdLine
		case *instructions.VolumeCommand:
			volumes = c.Volumes
		case *instructions.ExposeCommand:
			exposed = c.Ports
		}
	}
	if last.BaseName != "scratch" || user == "" || strings.HasPrefix(user, "0") || strings.ContainsAny(user, "abcdefghijklmnopqrstuvwxyz") {
		t.Errorf("the image is from %s and runs as %q, want scratch and a number that is not root's", last.BaseName, user)
	}

	// The program needs nothing.
	f, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the program is not static: it asks for an interpreter")
		}
	}
	if said := bare(t, program, "version"); !strings.HasPrefix(said, "reprise ") {
		t.Errorf("reprise version said %q", said)
	}
	if said := bare(t, program, "check", "--print"); !strings.Contains(said, "data-dir") {
		t.Errorf("reprise check --print said %q", said)
	}

	// It starts as the image starts it, with what it listens on and where it keeps
	// the log as the image says.
	if !slices.Equal(entry, []string{"/reprise"}) || len(args) == 0 || args[0] != "serve" {
		t.Fatalf("the image starts %q %q, want /reprise serve", entry, args)
	}
	said := bare(t, program, append([]string{"check", "--print"}, args[1:]...)...)
	for setting, values := range map[string][]string{"data-dir": volumes, "listen": exposed, "admin-listen": exposed} {
		m := regexp.MustCompile(`(?m)^` + setting + ` +(\S*?:?)([^:\s]+) `).FindStringSubmatch(said)
		if m == nil || !slices.Contains(values, m[2]) {
			t.Errorf("%s is %q, and the image has %q", setting, m, values)
		}
	}

	// Built once more, elsewhere, it is the same to the last byte.
	again := filepath.Join(build(t, first), "reprise")
	if sum(t, program) != sum(t, again) {
		t.Error("two builds in two directories differ")
	}
	// The version is the one that was asked for.
	named := bytes.Replace(raw, []byte(`ARG VERSION=""`), []byte(`ARG VERSION="v9.8.7"`), 1)
	list, _, err = stages(named)
	if err != nil || bytes.Equal(named, raw) {
		t.Fatalf("the Dockerfile has no ARG VERSION, or %v", err)
	}
	if said := bare(t, filepath.Join(build(t, list[0]), "reprise"), "version"); !strings.HasPrefix(said, "reprise v9.8.7\n") {
		t.Errorf("reprise version said %q, want v9.8.7", said)
	}
}

// goVersion is the Go that go.mod asks for, without the patch.
func goVersion(t *testing.T) string {
	t.Helper()
	for line := range strings.Lines(string(read(t, top+"/go.mod"))) {
		if version, ok := strings.CutPrefix(strings.TrimSpace(line), "go "); ok {
			return strings.Join(strings.Split(version, ".")[:2], ".")
		}
	}
	t.Fatal("go.mod has no version of Go")
	return ""
}

// TestLinter holds the linter to finding something.
func TestLinter(t *testing.T) {
	t.Parallel()
	for what, text := range map[string]string{
		"an unknown instruction": "FROM scratch\nCOPPY a b\n",
		"as in another case":     "FROM golang as a\n",
		"who maintains it":       "FROM scratch\nMAINTAINER somebody\n",
	} {
		if _, warnings, err := stages([]byte(text)); err == nil && len(warnings) == 0 {
			t.Errorf("%s: nothing was found", what)
		}
	}
}
