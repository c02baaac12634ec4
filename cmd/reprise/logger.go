package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"

	"go.opentelemetry.io/otel/trace"
)

// newLogger makes the logger that the settings ask for, and its level, which may
// change. Commands without these settings log warnings and errors.
func newLogger(cfg *config, w io.Writer) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	level.Set(slog.LevelWarn)
	if cfg.logLevel != "" {
		// The setting takes only words that slog knows.
		_ = level.UnmarshalText([]byte(cfg.logLevel))
	}
	options := &slog.HandlerOptions{Level: level}
	if cfg.logFormat == "text" || cfg.logFormat == "" && isTerminal(w) {
		return slog.New(traced{slog.NewTextHandler(w, options)}), level
	}
	return slog.New(traced{slog.NewJSONHandler(w, options)}), level
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

// traced adds the ids of the context's trace, if there is one.
type traced struct{ slog.Handler }

func (h traced) Handle(ctx context.Context, r slog.Record) error {
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h traced) WithAttrs(attrs []slog.Attr) slog.Handler { return traced{h.Handler.WithAttrs(attrs)} }
func (h traced) WithGroup(name string) slog.Handler       { return traced{h.Handler.WithGroup(name)} }

// leveled lets through what is at or above a level that may change.
type leveled struct {
	slog.Handler
	level *slog.LevelVar
}

func (h leveled) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= h.level.Level() && h.Handler.Enabled(ctx, l)
}

func (h leveled) WithAttrs(attrs []slog.Attr) slog.Handler {
	return leveled{h.Handler.WithAttrs(attrs), h.level}
}

func (h leveled) WithGroup(name string) slog.Handler {
	return leveled{h.Handler.WithGroup(name), h.level}
}

// also has log's lines go to more as well, at the same level; nil is nowhere.
func also(log *slog.Logger, level *slog.LevelVar, more slog.Handler) *slog.Logger {
	if more == nil {
		return log
	}
	return slog.New(slog.NewMultiHandler(log.Handler(), leveled{more, level}))
}

// levelRoutes is GET and PUT of the log's level, a word in the body.
func levelRoutes(log *slog.Logger, level *slog.LevelVar) http.Handler {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter) {
		writeJSON(w, http.StatusOK, struct {
			Level string `json:"level"`
		}{strings.ToLower(level.Level().String())})
	}
	mux.HandleFunc("GET /v1/log-level", func(w http.ResponseWriter, _ *http.Request) { answer(w) })
	mux.HandleFunc("PUT /v1/log-level", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64))
		word := strings.Trim(strings.TrimSpace(string(body)), `"`)
		var to string
		if err != nil || oneOf(&to, logLevels...)(word) != nil {
			refuse(w, http.StatusBadRequest, "level", "level: the body is one of "+strings.Join(logLevels, ", "))
			return
		}
		from := level.Level()
		_ = level.UnmarshalText([]byte(to)) // a word that slog knows
		log.Warn("log level changed", "from", strings.ToLower(from.String()), "to", to)
		answer(w)
	})
	return mux
}
