package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// completions are the shells that completion is made for.
var completions = map[string]func([]*command) string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}

func checkShell(_ *config, operands []string) []string {
	if completions[operands[0]] == nil {
		return []string{fmt.Sprintf("SHELL: %q is none of bash, zsh and fish", operands[0])}
	}
	return nil
}

// runCompletion prints a script for a shell.
func runCompletion(_ context.Context, c *call) error {
	c.printf("%s", completions[c.args[0]](allCommands()))
	return nil
}

// firstWords are what commands begin with, each once.
func firstWords(commands []*command) (words []string) {
	for _, cmd := range commands {
		first, _, _ := strings.Cut(cmd.name, " ")
		words = append(words, first)
	}
	return slices.Compact(words)
}

// completedFlags are the flags of a command.
func completedFlags(cmd *command) (flags []string) {
	for _, name := range append(slices.Sorted(maps.Keys(flagsOf(cmd.name))), "help") {
		flags = append(flags, "--"+name)
	}
	return flags
}

// operandsOf are the words that a command may be given, where they are known.
func operandsOf(cmd *command, commands []*command) []string {
	switch cmd.name {
	case "help":
		return firstWords(commands)
	case "completion":
		return []string{"bash", "zsh", "fish"}
	}
	return nil
}

// completionWords are what a shell's script is filled with: the first words of groups,
// cases of the flag before the word, and cases of the command. A case's words are quoted
// for bash and zsh.
func completionWords(commands []*command, offer func(what, words string) string) (groups, flags, words string) {
	var switches, firsts []string
	var before, at strings.Builder
	for i := range table {
		switch s := &table[i]; {
		case s.isSwitch():
			switches = append(switches, "--"+s.name)
		case strings.Contains(s.value, "|"):
			fmt.Fprintf(&before, "\t--%s) %s ;;\n", s.name, offer("value", strings.ReplaceAll(s.value, "|", " ")))
		}
	}
	fmt.Fprintf(&before, "\t%s|--help) ;;\n", strings.Join(switches, "|"))
	fmt.Fprintf(&at, "\t\"\") %s ;;\n", offer("words", strings.Join(firstWords(commands), " ")))
	for _, cmd := range commands {
		first, _, group := strings.Cut(cmd.name, " ")
		if group && !slices.Contains(firsts, first) {
			firsts = append(firsts, first)
			fmt.Fprintf(&at, "\t%s) %s ;;\n", first, offer("words", strings.Join(secondWords(groupOf(commands, first)), " ")))
		}
		fmt.Fprintf(&at, "\t%q) %s ;;\n", cmd.name, offer("words", strings.Join(append(operandsOf(cmd, commands), completedFlags(cmd)...), " ")))
	}
	return strings.Join(firsts, " "), before.String(), at.String()
}

// bashScript completes the words of a command line. A word after a flag is one of the
// flag's values, or a file: only then are spaces quoted and directories gone into.
const bashScript = `# source <(reprise completion bash)
_reprise() {
	local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]} words= value= file
	if [ "$COMP_CWORD" -eq 1 ]; then
		command=
	elif [[ " %s " == *" $command "* && "$COMP_CWORD" -gt 2 ]]; then
		command="$command ${COMP_WORDS[2]}"
	fi
	case "$previous" in
%s	--*) value=file ;;
	esac
	case "$command" in
%s	esac
	COMPREPLY=()
	if [[ $value == file && $current != --* ]]; then
		compopt -o filenames 2>/dev/null
		while IFS= read -r file; do COMPREPLY+=("$file"); done < <(compgen -f -- "$current")
	elif [[ -n $value && $current != --* ]]; then
		COMPREPLY=($(compgen -W "$value" -- "$current"))
	else
		COMPREPLY=($(compgen -W "$words" -- "$current"))
	fi
}
complete -F _reprise reprise
`

// bashCompletion completes commands, flags, and values where they are known; others may
// be files.
func bashCompletion(commands []*command) string {
	groups, flags, words := completionWords(commands, func(what, words string) string { return fmt.Sprintf("%s=%q", what, words) })
	return fmt.Sprintf(bashScript, groups, flags, words)
}

// zshScript is the same for zsh, which looks after file names by itself.
const zshScript = `#compdef reprise
# source <(reprise completion zsh)
_reprise() {
	local current=$words[CURRENT] previous=$words[CURRENT-1] command=$words[2] file=
	local -a value offered
	if (( CURRENT == 2 )); then
		command=
	elif [[ " %s " == *" $command "* ]] && (( CURRENT > 3 )); then
		command="$command $words[3]"
	fi
	case "$previous" in
%s	--*) file=1 ;;
	esac
	case "$command" in
%s	esac
	if [[ -n $file && $current != --* ]]; then
		_files
	elif (( $#value )) && [[ $current != --* ]]; then
		compadd -a value
	else
		compadd -a offered
	fi
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _reprise reprise
`

// zshCompletion completes what bash's does.
func zshCompletion(commands []*command) string {
	groups, flags, words := completionWords(commands, func(what, words string) string {
		if what == "words" {
			what = "offered" // words is zsh's own
		}
		return fmt.Sprintf("%s=(%s)", what, words)
	})
	return fmt.Sprintf(zshScript, groups, flags, words)
}

// fishCompletion completes commands and flags, and says what they are for.
func fishCompletion(commands []*command) string {
	quoted := func(s string) string { return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'" }
	var b strings.Builder
	b.WriteString("# reprise completion fish | source\ncomplete -c reprise -f\ncomplete -c reprise -l help -d 'what it does, and its flags'\n")
	add := func(when, rest string) { fmt.Fprintf(&b, "complete -c reprise -n %s %s\n", quoted(when), rest) }
	for _, cmd := range commands {
		first, second, group := strings.Cut(cmd.name, " ")
		in := "__fish_seen_subcommand_from " + first
		if group {
			add("__fish_use_subcommand", "-a "+first)
			add(in+"; and not __fish_seen_subcommand_from "+strings.Join(secondWords(groupOf(commands, first)), " "), "-a "+second+" -d "+quoted(cmd.summary))
			in += "; and __fish_seen_subcommand_from " + second
		} else {
			add("__fish_use_subcommand", "-a "+first+" -d "+quoted(cmd.summary))
		}
		if words := operandsOf(cmd, commands); len(words) > 0 {
			add(in, "-a "+quoted(strings.Join(words, " ")))
		}
		flags := flagsOf(cmd.name)
		for _, name := range slices.Sorted(maps.Keys(flags)) {
			kind, about := "-rF", "a file of settings"
			if s := flags[name]; s != nil {
				about = s.about(cmd.name)
				if s.isSwitch() {
					kind = ""
				} else if strings.Contains(s.value, "|") {
					kind = "-x -a " + quoted(strings.ReplaceAll(s.value, "|", " "))
				}
			} else if secret, ok := strings.CutSuffix(name, "-file"); ok {
				about = "a file with it: " + lookup(secret).help
			}
			add(in, strings.Join(strings.Fields("-l "+name+" "+kind), " ")+" -d "+quoted(about))
		}
	}
	return b.String()
}
