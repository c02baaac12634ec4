package main

import (
	"cmp"
	"context"
	"runtime"
	"runtime/debug"
)

// version is set by the linker for a release; "" takes what the build recorded.
var version string

// build is what the binary knows of itself.
type build struct{ version, commit, goVersion string }

func readBuild() build {
	b := build{version: version, commit: "unknown", goVersion: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		b.version = cmp.Or(b.version, "unknown")
		return b
	}
	b.version = cmp.Or(b.version, info.Main.Version, "(devel)")
	modified := false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.commit = s.Value
		case "vcs.modified":
			modified = s.Value == "true"
		}
	}
	if modified {
		b.commit += " with changes"
	}
	return b
}

func runVersion(_ context.Context, c *call) error {
	b := readBuild()
	c.printf("reprise %s\ncommit %s\n%s %s/%s\n", b.version, b.commit, b.goVersion, runtime.GOOS, runtime.GOARCH)
	return nil
}
