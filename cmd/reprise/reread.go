package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
)

// reread is what files say, read again when they change: a certificate, a
// token. It is safe for concurrent use.
//
// Files are looked at when their content is asked for, once a second at most,
// so that there is nothing to start or to stop. They are watched through what
// [os.Stat] tells, which follows links: Kubernetes replaces a secret by turning
// a link to another directory.
type reread[T any] struct {
	// static after construction
	what  string
	paths []string
	parse func() (T, error)
	log   *slog.Logger
	now   func() time.Time

	mu     sync.Mutex
	value  T           // guarded by mu
	seen   []fileState // guarded by mu: of the files when value was read
	failed []fileState // guarded by mu: of the files when they could not be, last
	looked time.Time   // guarded by mu
}

// lookEvery is how old what a file says may be.
const lookEvery = time.Second

// fileState tells one content of a file from another; zero is no file.
type fileState struct {
	changed time.Time
	size    int64
	file    os.FileInfo
}

// newReread reads the files for the first time, which has to succeed.
func newReread[T any](what string, log *slog.Logger, parse func() (T, error), paths ...string) (*reread[T], error) {
	r := &reread[T]{what: what, paths: paths, parse: parse, log: log, now: time.Now, looked: time.Now()}
	r.seen = states(paths) // before the reading: what is written meanwhile is read once more
	var err error
	if r.value, err = parse(); err != nil {
		return nil, err
	}
	return r, nil
}

// get returns what the files say. While they cannot be read, or say nonsense,
// it is what they said before, and a log line tells.
func (r *reread[T]) get() T {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if now.Sub(r.looked) < lookEvery {
		return r.value
	}
	r.looked = now
	seen := states(r.paths)
	if same(seen, r.seen) {
		return r.value
	}
	value, err := r.parse()
	if err != nil {
		// It is tried again, since it may be the right to read that is missing yet.
		if r.failed != nil && same(seen, r.failed) {
			return r.value
		}
		r.failed = seen
		r.log.Warn("a file has changed and cannot be used, what it said before goes on", "what", r.what, "err", err)
		return r.value
	}
	r.value, r.seen, r.failed = value, seen, nil
	r.log.Info("a file has changed and was read again", "what", r.what)
	return value
}

func states(paths []string) []fileState {
	list := make([]fileState, len(paths))
	for i, path := range paths {
		if info, err := os.Stat(path); err == nil {
			list[i] = fileState{info.ModTime(), info.Size(), info}
		}
	}
	return list
}

func same(a, b []fileState) bool {
	for i := range a {
		if !a[i].changed.Equal(b[i].changed) || a[i].size != b[i].size || (a[i].file == nil) != (b[i].file == nil) ||
			a[i].file != nil && !os.SameFile(a[i].file, b[i].file) {
			return false
		}
	}
	return true
}

// maxSecretFile bounds a file that holds a secret.
const maxSecretFile = 64 << 10

// checkSecretFile tells who may see a file that holds a secret. That others may
// read it is a doubt, since some systems hand secrets over like that; that they
// may write it is an error: it would be theirs, and not ours.
func checkSecretFile(path string) (doubt string, err error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return "", err
	case info.IsDir():
		return "", fmt.Errorf("%s is a directory", path)
	case !info.Mode().IsRegular():
		return "", nil // a pipe of the shell
	case info.Mode().Perm()&0o002 != 0:
		return "", fmt.Errorf("%s can be written by everybody; chmod 600 it", path)
	case info.Mode().Perm()&0o004 != 0:
		return fmt.Sprintf("%s can be read by everybody; chmod 600 it", path), nil
	}
	return "", nil
}

// readSecret reads the file that holds a secret. A line end at its end is not
// part of the secret.
func readSecret(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return "", err
	}
	text := strings.TrimRight(string(raw), "\r\n")
	switch {
	case len(raw) > maxSecretFile:
		return "", fmt.Errorf("%s is longer than %d bytes", path, maxSecretFile)
	case text == "":
		return "", fmt.Errorf("%s is empty", path)
	}
	return text, nil
}

// currentSecret returns a function that says what a secret is now: what its
// file says, or what it was from the start when there is none.
func currentSecret(cfg *config, setting string, s secret, log *slog.Logger) func() string {
	path, ok := cfg.secretFiles[setting]
	if !ok {
		return s.reveal
	}
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return s.reveal // a pipe can be read but once
	}
	file, err := newReread(setting, log, func() (secret, error) {
		text, err := readSecret(path)
		return newSecret(text), err
	}, path)
	if err != nil {
		return s.reveal
	}
	return func() string { return file.get().reveal() }
}
