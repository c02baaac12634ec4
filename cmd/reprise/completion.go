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

// bashScript completes the words of a command line; %s is how a shell fills an array.
const bashScript = `_reprise() {
	local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]} words= value=
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
	if [[ $value == file && $current != --* ]]; then
		COMPREPLY=($(compgen -f -- "$current"))
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
	var groups []string
	var values, words strings.Builder
	var switches []string
	for i := range table {
		switch s := &table[i]; {
		case s.isSwitch():
			switches = append(switches, "--"+s.name)
		case strings.Contains(s.value, "|"):
			fmt.Fprintf(&values, "\t--%s) value=%q ;;\n", s.name, strings.ReplaceAll(s.value, "|", " "))
		}
	}
	fmt.Fprintf(&values, "\t%s|--help) ;;\n", strings.Join(switches, "|"))
	fmt.Fprintf(&words, "\t\"\") words=%q ;;\n", strings.Join(firstWords(commands), " "))
	for _, cmd := range commands {
		first, _, group := strings.Cut(cmd.name, " ")
		if group && !slices.Contains(groups, first) {
			groups = append(groups, first)
			fmt.Fprintf(&words, "\t%s) words=%q ;;\n", first, strings.Join(secondWords(groupOf(commands, first)), " "))
		}
		fmt.Fprintf(&words, "\t%q) words=%q ;;\n", cmd.name, strings.Join(append(operandsOf(cmd, commands), completedFlags(cmd)...), " "))
	}
	return "# source <(reprise completion bash)\n" + fmt.Sprintf(bashScript, strings.Join(groups, " "), values.String(), words.String())
}

// zshCompletion is bash's, by way of what zsh has for that.
func zshCompletion(commands []*command) string {
	_, script, _ := strings.Cut(bashCompletion(commands), "\n")
	return "# source <(reprise completion zsh)\nautoload -Uz compinit bashcompinit && compinit && bashcompinit\n" + script
}

// fishCompletion completes commands and flags, and says what they are for.
func fishCompletion(commands []*command) string {
	quoted := func(s string) string { return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'" }
	var b strings.Builder
	b.WriteString("# reprise completion fish | source\ncomplete -c reprise -f\n")
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
		for _, s := range usedBy(cmd.name) {
			switch {
			case s.isSwitch():
				add(in, "-l "+s.name+" -d "+quoted(s.help))
			case strings.Contains(s.value, "|"):
				add(in, "-l "+s.name+" -x -a "+quoted(strings.ReplaceAll(s.value, "|", " "))+" -d "+quoted(s.help))
			default:
				add(in, "-l "+s.name+" -rF -d "+quoted(s.help))
			}
		}
	}
	return b.String()
}
