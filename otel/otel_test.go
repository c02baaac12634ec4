package otel

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.uber.org/goleak"
)

// clean removes every OTEL_ variable for the test and sets vars.
func clean(t *testing.T, vars ...string) {
	t.Helper()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "OTEL_") {
			t.Setenv(name, "")
		}
	}
	for i := 0; i < len(vars); i += 2 {
		t.Setenv(vars[i], vars[i+1])
	}
}

func start(t *testing.T) *Telemetry {
	t.Helper()
	tel, err := New(t.Context(), Config{ServiceVersion: "v1", InstanceID: "node-1"})
	if err != nil {
		t.Fatalf("New() = %v", err)
	}
	return tel
}

func scrape(t *testing.T, tel *Telemetry) string {
	t.Helper()
	rec := httptest.NewRecorder()
	tel.MetricsHandler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return rec.Body.String()
}

func TestQuietByDefault(t *testing.T) {
	clean(t)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	tel := start(t)
	if tel.Tracing() {
		t.Error("Tracing() without any variable = true")
	}
	_, span := tel.TracerProvider().Tracer("test").Start(t.Context(), "x")
	if span.IsRecording() {
		t.Error("a span records without any variable")
	}
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown() = %v", err)
	}
}

func TestScrapeNamesAndBuckets(t *testing.T) {
	clean(t)
	tel := start(t)
	defer tel.Shutdown(context.Background())
	m := tel.MeterProvider().Meter("test")
	relayed, _ := m.Int64Counter("reprise.messages.relayed")
	active, _ := m.Int64UpDownCounter("reprise.active.connections")
	latency, _ := m.Float64Histogram("reprise.broadcast.latency", metric.WithUnit("s"), metric.WithExplicitBucketBoundaries(.001, .01))
	relayed.Add(t.Context(), 3)
	active.Add(t.Context(), 2)
	latency.Record(t.Context(), .005)
	body := scrape(t, tel)
	for _, want := range []string{
		"reprise_messages_relayed_total 3", "reprise_active_connections 2",
		`reprise_broadcast_latency_seconds_bucket{le="0.01"} 1`, `reprise_broadcast_latency_seconds_bucket{le="0.001"} 0`,
		`service_version="v1"`, "go_goroutines", "process_open_fds",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("scrape lacks %q:\n%s", want, body)
		}
	}
	if strings.Contains(body, "otel_scope") {
		t.Error("scrape has scope labels on every series")
	}
}

// collector counts what is posted to it over OTLP/HTTP.
func collector(t *testing.T) (url string, posts chan string) {
	t.Helper()
	posts = make(chan string, 100)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		posts <- r.URL.Path
	}))
	t.Cleanup(s.Close)
	return s.URL, posts
}

func TestEndpointTurnsExportOn(t *testing.T) {
	url, posts := collector(t)
	clean(t, "OTEL_EXPORTER_OTLP_ENDPOINT", url, "OTEL_TRACES_SAMPLER", "always_on")
	tel := start(t)
	_, span := tel.TracerProvider().Tracer("test").Start(t.Context(), "x")
	span.End()
	n, _ := tel.MeterProvider().Meter("test").Int64Counter("n")
	n.Add(t.Context(), 1)
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Fatalf("Shutdown() = %v", err)
	}
	got := map[string]bool{}
	for len(posts) > 0 {
		got[<-posts] = true
	}
	if !got["/v1/traces"] || !got["/v1/metrics"] {
		t.Errorf("exported to %v, want traces and metrics", got)
	}
}

func TestListsAndDisabled(t *testing.T) {
	url, posts := collector(t)
	clean(t, "OTEL_METRICS_EXPORTER", "otlp,prometheus", "OTEL_TRACES_EXPORTER", "none", "OTEL_EXPORTER_OTLP_ENDPOINT", url)
	tel := start(t)
	n, _ := tel.MeterProvider().Meter("test").Int64Counter("both")
	n.Add(t.Context(), 1)
	if !strings.Contains(scrape(t, tel), "both_total 1") {
		t.Error("scrape lacks what is pushed as well")
	}
	if tel.Tracing() {
		t.Error("Tracing() with OTEL_TRACES_EXPORTER=none = true")
	}
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Fatalf("Shutdown() = %v", err)
	}
	if path := <-posts; path != "/v1/metrics" {
		t.Errorf("exported to %s, want metrics", path)
	}
	t.Setenv("OTEL_SDK_DISABLED", "true")
	tel = start(t)
	if err := tel.Shutdown(t.Context()); err != nil || len(posts) != 0 {
		t.Errorf("disabled: Shutdown() = %v, %d posts", err, len(posts))
	}
}

func TestSamplesOneInAHundredByDefault(t *testing.T) {
	url, _ := collector(t)
	clean(t, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", url+"/v1/traces")
	tel := start(t)
	defer tel.Shutdown(context.Background())
	const of = 20_000
	kept := 0
	for range of {
		if tel.Sample() {
			kept++
		}
	}
	if kept < of/200 || kept > of/50 {
		t.Errorf("kept %d of %d traces, want about one in a hundred", kept, of)
	}
}

func TestBadVariablesAreNamed(t *testing.T) {
	for name, value := range map[string]string{
		"OTEL_TRACES_EXPORTER":  "zipkin",
		"OTEL_METRICS_EXPORTER": "otlp,statsd",
		"OTEL_PROPAGATORS":      "smoke",
	} {
		t.Run(name, func(t *testing.T) {
			clean(t, name, value)
			if _, err := New(t.Context(), Config{}); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("New() with %s=%s = %v, want it to name the variable", name, value, err)
			}
		})
	}
	clean(t, "OTEL_TRACES_EXPORTER", "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL", "pigeon")
	if _, err := New(t.Context(), Config{}); err == nil || !strings.Contains(err.Error(), "OTEL_EXPORTER_OTLP_PROTOCOL") {
		t.Errorf("New() with a bad protocol = %v", err)
	}
}

// silent is the address of a collector that accepts, and never answers.
func silent(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().String()
}

func TestShutdownIsBounded(t *testing.T) {
	clean(t, "OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+silent(t), "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "OTEL_TRACES_SAMPLER", "always_on")
	tel := start(t)
	_, span := tel.TracerProvider().Tracer("test").Start(t.Context(), "x")
	span.End()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := tel.Shutdown(ctx); err == nil {
		t.Error("Shutdown() with a dead collector = nil, want an error")
	}
}

func TestComplaintsAreRare(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	handle := complain(slog.New(slog.NewTextHandler(&text, nil)))
	for range 100 {
		handle(context.DeadlineExceeded)
	}
	if n := strings.Count(text.String(), "telemetry was not exported"); n != 1 {
		t.Errorf("100 errors made %d lines, want 1", n)
	}
}
