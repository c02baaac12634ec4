package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
)

// command is one of the program's commands.
type command struct {
	name     string // a word, or two: commands with the same first word are a group
	args     string // operands, for the help text
	operands int    // how many there must be; -1 is any number
	summary  string // one line
	about    string // some lines more
	examples []string
	exits    exits
	defaults map[string]string // those that differ from the table

	// check says what is wrong with the operands; nil is nothing.
	check func(cfg *config, operands []string) (problems []string)
	run   func(ctx context.Context, call *call) error
}

// exits says what the exit codes 0, 1 and 2 of a command mean; "" does not happen.
type exits [3]string

// What the exit codes of most commands mean.
var (
	nodeExits = exits{"a clean stop", "something failed, or a second signal came", misuse}
	toolExits = exits{"done", "it failed, or was refused", misuse}
	textExits = exits{exitOK: "done", exitUsage: misuse}
)

const misuse = "a mistake in the command line or the configuration"

// call is one run of a command.
type call struct {
	command *command
	cfg     *config
	args    []string
	self    string // how this program is run
	out     io.Writer
	err     io.Writer
	log     *slog.Logger
	level   *slog.LevelVar          // of log
	abort   *atomic.Pointer[func()] // see program; nil in tests
}

// printf writes to standard output.
func (c *call) printf(format string, args ...any) {
	fmt.Fprintf(c.out, format, args...) // a closed standard output is nobody's failure
}

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// program is the world around a run of the program.
type program struct {
	self string // how this program is run; "" is reprise
	args []string
	env  environment
	out  io.Writer
	err  io.Writer

	// abort is what is left to do when a second signal ends the process.
	abort *atomic.Pointer[func()]
}

// run runs one command until it ends, or ctx does, and returns the exit code.
func (p program) run(ctx context.Context) int {
	commands := allCommands()
	if len(p.args) == 0 {
		writeHelp(p.err, commands)
		return exitUsage
	}
	cmd, args := pick(commands, p.args)
	if cmd == nil {
		return p.noCommand(commands)
	}
	if cmd.name == "help" {
		return p.help(commands, args)
	}
	if wantsHelp(args) {
		writeCommandHelp(p.out, cmd)
		return exitOK
	}
	cfg, rest, strangers, err := load(cmd, args, p.env)
	if err != nil {
		return p.fail("reprise "+cmd.name, err)
	}
	log, level := newLogger(cfg, p.err)
	for _, name := range strangers {
		log.Warn("unknown variable", "name", name)
	}
	for _, doubt := range cfg.doubts {
		log.Warn("configuration", "doubt", doubt)
	}
	err = cmd.run(ctx, &call{command: cmd, cfg: cfg, args: rest, self: cmp.Or(p.self, "reprise"), out: p.out, err: p.err, log: log, level: level, abort: p.abort})
	return p.fail("reprise "+cmd.name, err)
}

// pick returns the command that args begin with, nil if there is none such, and
// what follows it.
func pick(commands []*command, args []string) (*command, []string) {
	name := args[0]
	switch name {
	case "-h", "--help", "-help":
		name = "help"
	case "--version", "-version", "-v":
		name = "version"
	}
	if len(args) > 1 {
		if cmd := find(commands, name+" "+args[1]); cmd != nil {
			return cmd, args[2:]
		}
	}
	return find(commands, name), args[1:]
}

// noCommand answers arguments that begin with no command: the first word of a
// group, or a mistake.
func (p program) noCommand(commands []*command) int {
	name, args := p.args[0], p.args[1:]
	group := groupOf(commands, name)
	switch {
	case len(group) > 0 && wantsHelp(args):
		writeGroupHelp(p.out, name, group)
		return exitOK
	case len(group) > 0 && (len(args) == 0 || strings.HasPrefix(args[0], "-")):
		return p.fail("reprise "+name, usage("takes one of %s", strings.Join(secondWords(group), ", ")))
	case len(group) > 0:
		name += " " + args[0]
	}
	var names []string
	for _, c := range commands {
		names = append(names, c.name)
	}
	return p.fail("reprise", usage("no such command: %s%s", name, hint(name, "reprise ", names)))
}

// fail reports err and returns its exit code; nil is exit code 0.
func (p program) fail(who string, err error) int {
	var misuse *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &misuse):
		for _, problem := range misuse.problems {
			fmt.Fprintf(p.err, "%s: %s\n", who, problem)
		}
		fmt.Fprintf(p.err, "%s: see reprise help%s\n", who, who[len("reprise"):])
		return exitUsage
	default:
		fmt.Fprintf(p.err, "%s: %v\n", who, err)
		return exitFailed
	}
}

// find returns the command of that name, or nil.
func find(commands []*command, name string) *command {
	for _, c := range commands {
		if c.name == name {
			return c
		}
	}
	return nil
}

// groupOf returns the commands of two words that begin with name.
func groupOf(commands []*command, name string) []*command {
	var group []*command
	for _, c := range commands {
		if strings.HasPrefix(c.name, name+" ") {
			group = append(group, c)
		}
	}
	return group
}

// secondWords are what the commands of a group are told apart by.
func secondWords(group []*command) []string {
	var words []string
	for _, c := range group {
		_, word, _ := strings.Cut(c.name, " ")
		words = append(words, word)
	}
	return words
}

// wantsHelp tells whether args ask for help instead.
func wantsHelp(args []string) bool {
	for _, arg := range args {
		switch arg {
		case "--":
			return false
		case "-h", "--help", "-help":
			return true
		}
	}
	return false
}
