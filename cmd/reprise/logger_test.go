package main

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"
)

func TestLogHasTraceIDs(t *testing.T) {
	t.Parallel()
	var out, more bytes.Buffer
	log, level := newLogger(&config{logLevel: "info", logFormat: "json"}, &out)
	log = also(log, level, slog.NewTextHandler(&more, &slog.HandlerOptions{Level: slog.LevelDebug}))
	sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
	ctx := trace.ContextWithSpanContext(context.Background(), sc)
	log.With("a", 1).InfoContext(ctx, "one")
	log.InfoContext(context.Background(), "two")
	log.DebugContext(ctx, "three")
	level.Set(slog.LevelDebug)
	log.DebugContext(ctx, "four")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 {
		t.Fatalf("lines = %q, want one, two and four", lines)
	}
	for i, want := range []bool{true, false, true} {
		if got := strings.Contains(lines[i], `"trace_id":"01000000000000000000000000000000","span_id":"0200000000000000"`); got != want {
			t.Errorf("line %s has the trace: %v, want %v", lines[i], got, want)
		}
	}
	if n := strings.Count(more.String(), "msg="); n != 3 {
		t.Errorf("the second handler has %d lines, want 3, at the same level:\n%s", n, more.String())
	}
}

func TestLogLevelChanges(t *testing.T) {
	t.Parallel()
	var out buffer
	log, level := newLogger(&config{logLevel: "info", logFormat: "json"}, &out)
	routes := levelRoutes(log, level)
	for _, tt := range []struct {
		method, body string
		status       int
		level        string
	}{
		{"GET", "", 200, "info"},
		{"PUT", "debug", 200, "debug"},
		{"PUT", " \"error\"\n", 200, "error"},
		{"PUT", "loud", 400, "error"},
		{"PUT", "", 400, "error"},
		{"PUT", strings.Repeat("x", 100), 400, "error"},
		{"POST", "info", 405, "error"},
		{"PUT", "info", 200, "info"},
	} {
		w := httptest.NewRecorder()
		routes.ServeHTTP(w, httptest.NewRequest(tt.method, "/v1/log-level", strings.NewReader(tt.body)))
		if got := strings.ToLower(level.Level().String()); w.Code != tt.status || got != tt.level {
			t.Errorf("%s %q = %d, level %s, want %d, %s", tt.method, tt.body, w.Code, got, tt.status, tt.level)
		}
		if w.Code == http.StatusOK && !strings.Contains(w.Body.String(), `{"level":"`+tt.level+`"}`) {
			t.Errorf("%s %q answered %s, want the level %s", tt.method, tt.body, w.Body, tt.level)
		}
	}
	if !strings.Contains(out.String(), `"from":"info","to":"debug"`) {
		t.Errorf("the log says %s, want the change", out.String())
	}
}
