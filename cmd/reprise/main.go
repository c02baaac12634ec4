// Command reprise relays PubNub events to a user's devices, and gives each
// device that comes back exactly what it missed.
//
// It is one binary with many roles: a whole relay on a developer's machine
// (reprise dev), a production node (serve) or one half of it (bridge, edge),
// and the tools to try and to look at them. `reprise help` lists them, and
// `reprise help COMMAND` a command's settings.
//
// A setting has one name in three spellings: a flag, a REPRISE_ variable and a
// key in a YAML file. They live in one table, in settings.go. Nothing outside
// this package knows of flags or variables, except OpenTelemetry's OTEL_*.
//
// # Failure modes
//
//   - HAZARD: a mistake in the configuration. All of them are reported at once,
//     each with its setting and where that came from, before anything starts.
//   - HAZARD: the first SIGINT or SIGTERM lets connections go and stores what
//     has been received, which takes about as long as the setting drain says. A
//     second one ends the process at once; what was not stored then comes again
//     from PubNub.
//
// # Concurrency
//
// A node is a stack of parts (see stack.go), each with a goroutine and a
// context of its own. They end in the opposite order of their start.
package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
)

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2) // sent to by the runtime, never closed
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	abort := new(atomic.Pointer[func()])
	var second atomic.Bool // a second signal came: whoever ends the process, it failed
	go func() {
		<-signals
		cancel()
		<-signals
		second.Store(true)
		if last := abort.Load(); last != nil {
			(*last)()
		}
		os.Exit(exitFailed)
	}()
	p := program{self: selfName(os.Args[0]), args: os.Args[1:], env: newEnvironment(os.Environ()), out: os.Stdout, err: os.Stderr, abort: abort}
	code := p.run(ctx)
	if second.Load() {
		code = exitFailed
	}
	os.Exit(code)
}

// selfName is what a person has to type to run this program again, given the
// name that it was run by.
func selfName(name string) string {
	if strings.Contains(filepath.ToSlash(name), "/go-build") {
		return "go run ./cmd/reprise" // which puts binaries into its cache
	}
	return shellWord(name)
}
