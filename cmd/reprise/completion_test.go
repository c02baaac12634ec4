package main

import (
	"slices"
	"strings"
	"testing"
)

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
