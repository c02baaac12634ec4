package main

import (
	"io"
	"log/slog"
	"os"
)

// newLogger makes the logger that the settings ask for. Commands without these
// settings log warnings and errors.
func newLogger(cfg *config, w io.Writer) *slog.Logger {
	level := slog.LevelWarn
	if cfg.logLevel != "" {
		// The setting takes only words that slog knows.
		_ = level.UnmarshalText([]byte(cfg.logLevel))
	}
	options := &slog.HandlerOptions{Level: level}
	if cfg.logFormat == "text" || cfg.logFormat == "" && isTerminal(w) {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// isTerminal tells whether w is a terminal, or any other character device.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
