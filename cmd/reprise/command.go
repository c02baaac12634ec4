package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
)

// command is one of the program's commands.
type command struct {
	name     string
	args     string // operands, for the help text
	operands int    // how many there must be
	summary  string // one line
	about    string // some lines more
	examples []string
	defaults map[string]string // those that differ from the table
	run      func(ctx context.Context, call *call) error
}

// call is one run of a command.
type call struct {
	command *command
	cfg     *config
	args    []string
	self    string // how this program is run
	out     io.Writer
	err     io.Writer
	log     *slog.Logger
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
	name, args := p.args[0], p.args[1:]
	switch name {
	case "-h", "--help", "-help":
		name = "help"
	case "--version", "-version", "-v":
		name = "version"
	}
	cmd := find(commands, name)
	if cmd == nil {
		var names []string
		for _, c := range commands {
			names = append(names, c.name)
		}
		return p.fail("reprise", usage("no such command: %s%s", name, hint(name, "reprise ", names)))
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
	log := newLogger(cfg, p.err)
	for _, name := range strangers {
		log.Warn("unknown variable", "name", name)
	}
	err = cmd.run(ctx, &call{command: cmd, cfg: cfg, args: rest, self: cmp.Or(p.self, "reprise"), out: p.out, err: p.err, log: log, abort: p.abort})
	return p.fail("reprise "+cmd.name, err)
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
