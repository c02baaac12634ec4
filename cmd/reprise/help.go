package main

import (
	"fmt"
	"io"
	"strings"
)

// help prints what `reprise help` and `reprise help COMMAND` print.
func (p program) help(commands []*command, args []string) int {
	if len(args) == 0 || wantsHelp(args) {
		writeHelp(p.out, commands)
		return exitOK
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
		fmt.Fprintf(w, "  %-22s %s\n", strings.TrimSpace(c.name+" "+c.args), c.summary)
	}
}

// writeGroupHelp prints the commands that share their first word.
func writeGroupHelp(w io.Writer, name string, group []*command) {
	fmt.Fprintf(w, "Usage: reprise %s COMMAND [--setting value …]\n\nCommands:\n", name)
	writeSummaries(w, group)
	fmt.Fprintf(w, "\nMore on one of them:\n  reprise help %s %s\n", name, strings.Join(secondWords(group), "|"))
}

// writeCommandHelp prints one command with its settings.
func writeCommandHelp(w io.Writer, cmd *command) {
	fmt.Fprintf(w, "reprise %s: %s\n", cmd.name, cmd.summary)
	settings := usedBy(cmd.name)
	line := strings.TrimSpace(cmd.name + " " + cmd.args)
	if len(settings) > 0 {
		line += " [--setting value …]"
	}
	fmt.Fprintf(w, "\nUsage: reprise %s\n", line)
	if cmd.about != "" {
		fmt.Fprintf(w, "\n%s\n", strings.TrimSpace(cmd.about))
	}
	if len(cmd.examples) > 0 {
		fmt.Fprint(w, "\nExamples:\n")
		for _, example := range cmd.examples {
			fmt.Fprintf(w, "  %s\n", example)
		}
	}
	if len(settings) == 0 {
		return
	}
	fmt.Fprint(w, "\nSettings:\n")
	for _, s := range settings {
		writeSetting(w, cmd, s)
	}
	fmt.Fprint(w, `  --config FILE
      YAML file of settings, spelled as the flags without hyphens in front
      REPRISE_CONFIG · default none

Flags beat the environment, the environment beats the file, the file beats the
defaults. Every SECRET can also come from a file: --…-file, REPRISE_…_FILE.
`)
}

func writeSetting(w io.Writer, cmd *command, s *setting) {
	fmt.Fprintf(w, "  --%s\n      %s\n      %s", strings.TrimSpace(s.name+" "+s.value), s.help, s.variable())
	if s.also != "" {
		fmt.Fprintf(w, " or %s", s.also)
	}
	fmt.Fprintf(w, " · default %s\n", s.shownDefault(cmd.defaults))
}
