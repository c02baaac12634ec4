package main

import (
	"slices"
	"strings"
)

// arguments splits a command line into the flags of the command and the rest.
// A flag is --name value or --name=value, with one hyphen or two, anywhere; a
// switch may stand alone. What follows -- is not read as flags.
func (l *loader) arguments(args []string) (flags level, rest []string) {
	flags = level{}
	names := flagsOf(l.command.name)
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			return flags, append(rest, args...)
		}
		name, isFlag := strings.CutPrefix(arg, "-")
		name = strings.TrimPrefix(name, "-")
		if !isFlag || name == "" || strings.ContainsAny(name[:1], "0123456789") {
			rest = append(rest, arg)
			continue
		}
		name, text, hasText := strings.Cut(name, "=")
		s, known := names[name]
		if !known {
			l.unknownFlag(name, names)
			// Its value, if it has one, is not an argument of the command.
			if !hasText && len(args) > 0 && !strings.HasPrefix(args[0], "-") && len(rest) >= l.command.operands {
				args = args[1:]
			}
			continue
		}
		switch {
		case hasText:
		case s != nil && s.isSwitch():
			text = "true"
		case len(args) == 0 || strings.HasPrefix(args[0], "--"):
			l.problem("%s: no value (--%s)", name, name)
			continue
		default:
			text, args = args[0], args[1:]
		}
		if _, twice := flags[name]; twice {
			l.problem("%s: given twice (--%s)", name, name)
			continue
		}
		flags[name] = given{text, source("--" + name)}
	}
	return flags, rest
}

// flagsOf returns the names that a command takes as flags. Those that are not
// settings (config, and the files of secrets) have a nil setting.
func flagsOf(command string) map[string]*setting {
	names := map[string]*setting{}
	for _, s := range usedBy(command) {
		names["config"] = nil
		names[s.name] = s
		if s.hidden {
			names[s.name+"-file"] = nil
		}
	}
	return names
}

// unknownFlag complains about a flag that the command does not take.
func (l *loader) unknownFlag(name string, names map[string]*setting) {
	if slices.Contains(keys(), name) {
		l.problem("%s: %s does not use this setting (--%s)", name, l.command.name, name)
		return
	}
	var words []string
	for word := range names {
		words = append(words, word)
	}
	slices.Sort(words)
	l.problem("%s: no such setting (--%s)%s", name, name, hint(name, "--", words))
}
