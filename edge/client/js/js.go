// Package js is the client for browsers and Node: the npm package reprise-client,
// whose sources a page that this program serves can use as they are.
package js

import (
	"embed"
	"io/fs"
)

//go:embed src/*.js
var files embed.FS

// Source returns the client's ES modules; index.js is the one to import.
func Source() fs.FS {
	source, err := fs.Sub(files, "src")
	if err != nil {
		panic(err) // cannot be: it is embedded
	}
	return source
}
