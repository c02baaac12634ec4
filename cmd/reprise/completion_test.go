package main

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
func shellTest(t *testing.T, shell string, script func([]*command) string, args func(file, line string) []string) {
	t.Parallel()
	if _, err := exec.LookPath(shell); err != nil {
		t.Skipf("%s is not installed here", shell)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "completion")
	for _, err := range []error{
		os.WriteFile(file, []byte(script(allCommands())), 0o600),
		os.WriteFile(filepath.Join(dir, "a key's.pem"), nil, 0o600),
		os.Mkdir(filepath.Join(dir, "keys here"), 0o700),
	} {
		if err != nil {
			t.Fatal(err)
		}
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
	shellTest(t, "bash", bashCompletion, func(file, line string) []string {
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
	shellTest(t, "zsh", zshCompletion, func(file, line string) []string {
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
	shellTest(t, "fish", fishCompletion, func(file, line string) []string {
		return []string{"--no-config", "-c", "source $argv[1]; complete -C $argv[2]", "--", file, line}
	})
}

// TestCompletionKnowsEverything holds that no command and no flag is missing.
func TestCompletionKnowsEverything(t *testing.T) {
	t.Parallel()
	takers := map[string]int{"help": 1} // commands that take a flag; help is said once for all
	for _, cmd := range allCommands() {
		for name := range flagsOf(cmd.name) {
			takers[name]++
		}
	}
	fish := fishCompletion(allCommands())
	for name, n := range takers {
		if got := strings.Count(fish, " -l "+name+" "); got != n {
			t.Errorf("fish: --%s is completed for %d commands, want %d", name, got, n)
		}
	}
	for shell, script := range completions {
		words := strings.FieldsFunc(script(allCommands()), func(r rune) bool { return strings.ContainsRune(" \t\n\"'()", r) })
		for _, cmd := range allCommands() {
			for _, word := range strings.Fields(cmd.name) {
				if !slices.Contains(words, word) && !slices.Contains(words, "words="+word) {
					t.Errorf("%s: no command %s", shell, word)
				}
			}
			for name := range flagsOf(cmd.name) {
				if shell != "fish" && !slices.Contains(words, "--"+name) {
					t.Errorf("%s: no flag --%s", shell, name)
				}
			}
		}
	}
}
