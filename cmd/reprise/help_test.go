package main

import (
	"slices"
	"strings"
	"testing"
)

// TestHelpIsWhole walks all commands: each says what it is for, shows examples, and
// tells of its exit codes and of every flag that it takes.
func TestHelpIsWhole(t *testing.T) {
	t.Parallel()
	for _, cmd := range allCommands() {
		words := strings.Fields(cmd.name)
		code, text, complaint := reprise(t.Context(), nil, append([]string{"help"}, words...)...)
		if code != exitOK || complaint != "" {
			t.Errorf("help %s = %d, and complains %q", cmd.name, code, complaint)
		}
		if _, same, _ := reprise(t.Context(), nil, append(words, "--help")...); same != text {
			t.Errorf("%s --help =\n%s\nwant what help %s says:\n%s", cmd.name, same, cmd.name, text)
		}
		parts := strings.Split(text, "\n\n") // title, usage, about …, examples, exit codes, flags …
		examples := slices.IndexFunc(parts, func(s string) bool { return strings.HasPrefix(s, "Examples:\n") })
		if !strings.HasPrefix(parts[0], "reprise "+cmd.name+": ") || !strings.HasPrefix(parts[1], "Usage: reprise "+cmd.name) || examples < 3 || len(parts[2]) < 40 {
			t.Errorf("help %s does not say what it is for:\n%s", cmd.name, text)
			continue
		}
		for _, line := range strings.Split(parts[examples], "\n")[1:] {
			if !strings.Contains(line, "reprise "+cmd.name) {
				t.Errorf("help %s: %q is no example of it", cmd.name, line)
			}
		}
		if len(parts) < examples+3 || !strings.HasPrefix(parts[examples+1], "Exit codes:\n  0  ") || !strings.Contains(parts[examples+1], "\n  2  ") {
			t.Errorf("help %s does not tell its exit codes:\n%s", cmd.name, text)
			continue
		}
		flags := strings.Join(parts[examples+2:], "\n\n")
		for _, flag := range completedFlags(cmd) {
			if !strings.Contains(flags, flag+" ") && !strings.Contains(flags, flag+"\n") && !strings.Contains(flags, flag+",") {
				t.Errorf("help %s does not have %s", cmd.name, flag)
			}
		}
		for line := range strings.Lines(text) {
			if len([]rune(line)) > 90 && !strings.Contains(line, "reprise "+cmd.name) && !strings.HasPrefix(line, "      ") {
				t.Errorf("help %s has a line of %d characters: %s", cmd.name, len([]rune(line)), line)
			}
		}
	}
}

// TestExamplesParse holds that what the help texts show is what the program takes.
func TestExamplesParse(t *testing.T) {
	t.Parallel()
	for _, cmd := range allCommands() {
		for _, example := range cmd.examples {
			_, line, _ := strings.Cut(example, "reprise ")
			args := strings.Fields(strings.NewReplacer(")", "", "'", "").Replace(line))
			found, args := pick(allCommands(), args)
			if found == nil || found.name != cmd.name {
				t.Errorf("the example %q of %s begins with no command", example, cmd.name)
				continue
			}
			known := flagsOf(cmd.name)
			for _, arg := range args {
				if name, isFlag := strings.CutPrefix(arg, "--"); isFlag {
					if _, ok := known[name]; !ok {
						t.Errorf("the example %q has --%s, which %s does not take", example, name, cmd.name)
					}
				}
			}
		}
	}
}
