package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// completed is what command lines are completed by, in any order.
var completed = map[string][]string{
	"reprise ta":                                        {"tail"},
	"reprise dead ":                                     {"list", "retry", "show"},
	"reprise dead re":                                   {"retry"},
	"reprise dead list --re":                            {"--reason"},
	"reprise tail --js":                                 {"--json"},
	"reprise tail --json --us":                          {"--user"},
	"reprise serve --log-format ":                       {"json", "text"},
	"reprise serve --log-format j":                      {"json"},
	"reprise serve --conf":                              {"--config"},
	"reprise token --auth-hmac-sec":                     {"--auth-hmac-secret", "--auth-hmac-secret-file"},
	"reprise user forget --admin-token-":                {"--admin-token-file"},
	"reprise help to":                                   {"token"},
	"reprise completion z":                              {"zsh"},
	"reprise version --h":                               {"--help"},
	"reprise bench storm --he":                          {"--help"},
	"reprise nonsense ":                                 nil,
	"reprise token --auth-hmac-secret-file DIR/a":       {"DIR/a key's.pem"},
	"reprise token --auth-hmac-secret-file DIR/ke":      {"DIR/keys here"},
	"reprise token --auth-hmac-secret-file DIR/nowhere": nil,
}

// shellTest runs a shell's completion of all lines of completed. args are what the shell
// is called with for a line, the script and its words.
func shellTest(t *testing.T, shell string, args func(file, line string) []string) {
	t.Parallel()
	code, script := run(t, binary, "completion", shell)
	if code != 0 {
		t.Fatalf("reprise completion %s = %d: %s", shell, code, script)
	}
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "completion"), script)
	write(t, filepath.Join(dir, "a key's.pem"), "")
	if err := os.Mkdir(filepath.Join(dir, "keys here"), 0o700); err != nil {
		t.Fatal(err)
	}
	for line, want := range completed {
		line = strings.ReplaceAll(line, "DIR", dir)
		out, err := exec.Command(shell, args(file, line)...).CombinedOutput()
		if err != nil {
			t.Errorf("%q: %v: %s", line, err, out)
		}
		last := line[strings.LastIndex(line, " ")+1:]
		var got []string
		for _, offer := range strings.Split(string(out), "\n") {
			offer, _, _ = strings.Cut(offer, "\t") // fish says more
			if offer = strings.TrimSuffix(offer, "/"); offer != "" && strings.HasPrefix(offer, last) {
				got = append(got, strings.ReplaceAll(offer, dir, "DIR"))
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%q is completed by %q, want %q; it printed %s", line, got, want, out)
		}
	}
}

func TestBashCompletion(t *testing.T) {
	shellTest(t, "bash", func(file, line string) []string {
		// What bash is to do with names of files it can only be told while it completes.
		const drive = `source "$0"
			compopt() { [[ "$*" == "-o filenames" ]] && names=1; }
			COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _reprise
			[[ "${COMPREPLY[*]}" != */* || -n $names ]] || echo "names of files are not quoted"
			printf '%s\n' "${COMPREPLY[@]}"`
		return append([]string{"-c", drive, file}, strings.Split(line, " ")...)
	})
}

func TestZshCompletion(t *testing.T) {
	shellTest(t, "zsh", func(file, line string) []string {
		// zsh completes in its line editor only: what it would be offered is printed.
		const drive = `compdef() { }
			compadd() { print -rl -- ${(P)2} }
			_files() { print -rl -- $words[CURRENT]*(N) }
			source "$0"
			words=("$@") CURRENT=$#; _reprise`
		return append([]string{"-f", "-c", drive, file}, strings.Split(line, " ")...)
	})
}

func TestFishCompletion(t *testing.T) {
	shellTest(t, "fish", func(file, line string) []string {
		return []string{"--no-config", "-c", "source $argv[1]; complete -C $argv[2]", "--", file, line}
	})
}
