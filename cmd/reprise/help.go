package main

import (
	"fmt"
	"io"
	"strings"
)

// help prints what `reprise help` and `reprise help COMMAND` print.
func (p program) help(commands []*command, args []string) int {
	if len(args) == 0 {
		writeHelp(p.out, commands)
		return exitOK
	}
	if wantsHelp(args) {
		args = []string{"help"}
	}
	name := strings.Join(args, " ")
	if cmd := find(commands, name); cmd != nil {
		writeCommandHelp(p.out, cmd)
		return exitOK
	}
	if group := groupOf(commands, name); len(group) > 0 {
		writeGroupHelp(p.out, name, group)
		return exitOK
	}
	return p.fail("reprise", usage("no help on %s", name))
}

// writeHelp prints all commands.
func writeHelp(w io.Writer, commands []*command) {
	fmt.Fprint(w, `reprise relays PubNub events to a user's devices, and gives each device that
comes back exactly what it missed.

Usage: reprise COMMAND [--setting value …]

Commands:
`)
	writeSummaries(w, commands)
	fmt.Fprint(w, `
Start here:
  reprise dev
  reprise help COMMAND
`)
}

func writeSummaries(w io.Writer, commands []*command) {
	for _, c := range commands {
		fmt.Fprintf(w, "  %-24s %s\n", strings.TrimSpace(c.name+" "+c.args), c.summary)
	}
}

// writeGroupHelp prints the commands that share their first word.
func writeGroupHelp(w io.Writer, name string, group []*command) {
	fmt.Fprintf(w, "Usage: reprise %s COMMAND [--setting value …]\n\nCommands:\n", name)
	writeSummaries(w, group)
	fmt.Fprintf(w, "\nMore on one of them:\n  reprise help %s %s\n", name, strings.Join(secondWords(group), "|"))
}

// writeCommandHelp prints one command: what it is for, examples, what its exit codes
// mean, and its settings.
func writeCommandHelp(w io.Writer, cmd *command) {
	settings := usedBy(cmd.name)
	line, title := strings.TrimSpace(cmd.name+" "+cmd.args), "Flags"
	if len(settings) > 0 {
		line, title = line+" [--setting value …]", "Settings"
	}
	fmt.Fprintf(w, "reprise %s: %s\n\nUsage: reprise %s\n\n%s\n\nExamples:\n", cmd.name, cmd.summary, line, strings.TrimSpace(cmd.about))
	for _, example := range cmd.examples {
		fmt.Fprintf(w, "  %s\n", example)
	}
	fmt.Fprint(w, "\nExit codes:\n")
	for code, meaning := range cmd.exits {
		if meaning != "" {
			fmt.Fprintf(w, "  %d  %s\n", code, meaning)
		}
	}
	fmt.Fprintf(w, "\n%s:\n", title)
	for _, s := range settings {
		writeSetting(w, cmd, s)
	}
	if len(settings) > 0 {
		fmt.Fprint(w, `  --config FILE
      YAML file of settings, spelled as the flags without hyphens in front
      REPRISE_CONFIG · default none
`)
	}
	fmt.Fprint(w, `  --help
      this text
`)
	if len(settings) > 0 {
		fmt.Fprint(w, `
Flags beat the environment, the environment beats the file, the file beats the
defaults.
`)
	}
}

func writeSetting(w io.Writer, cmd *command, s *setting) {
	fmt.Fprintf(w, "  --%s\n      %s\n      %s", strings.TrimSpace(s.name+" "+s.value), s.about(cmd.name), s.variable())
	if s.also != "" {
		fmt.Fprintf(w, " or %s", s.also)
	}
	if s.hidden {
		fmt.Fprintf(w, ", or a file: --%s-file, %s", s.name, variableOf(s.name+"-file"))
	}
	fmt.Fprintf(w, " · default %s\n", s.shownDefault(cmd.defaults))
}
