package otel

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Each of these used to start, and to sample, send or trust something else
// than what was asked for.
func TestMistypedVariablesEndTheStart(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT"
	for _, tt := range []struct {
		name string
		vars []string
		want string // in the error, once
	}{
		{"sampler", []string{"OTEL_TRACES_SAMPLER", "sometimes"}, "OTEL_TRACES_SAMPLER: "},
		{"ratio in percent", []string{"OTEL_TRACES_SAMPLER", "traceidratio", "OTEL_TRACES_SAMPLER_ARG", "1%"}, "OTEL_TRACES_SAMPLER_ARG"},
		{"ratio above 1", []string{"OTEL_TRACES_SAMPLER", "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG", "5"}, "OTEL_TRACES_SAMPLER_ARG"},
		{"ratio below 0", []string{"OTEL_TRACES_SAMPLER", "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG", "-0.1"}, "OTEL_TRACES_SAMPLER_ARG"},
		{"ratio NaN", []string{"OTEL_TRACES_SAMPLER", "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG", "NaN"}, "OTEL_TRACES_SAMPLER_ARG"},
		{"endpoint without a scheme", []string{endpoint, "collector:4318"}, endpoint},
		{"address as endpoint", []string{endpoint, "127.0.0.1:4318"}, endpoint},
		{"address as gRPC endpoint", []string{endpoint, "127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"}, endpoint},
		{"endpoint of another scheme", []string{endpoint, "tcp://collector:4318"}, endpoint},
		{"a signal's own endpoint", []string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://[::bad"}, "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"},
		{"timeout with a unit", []string{"OTEL_EXPORTER_OTLP_TIMEOUT", "10s"}, "OTEL_EXPORTER_OTLP_TIMEOUT"},
		{"batch delay with a unit", []string{"OTEL_BSP_SCHEDULE_DELAY", "5s"}, "OTEL_BSP_SCHEDULE_DELAY"},
		{"interval with a unit", []string{"OTEL_METRIC_EXPORT_INTERVAL", "10s"}, "OTEL_METRIC_EXPORT_INTERVAL"},
		{"compression", []string{"OTEL_EXPORTER_OTLP_COMPRESSION", "zip"}, "OTEL_EXPORTER_OTLP_COMPRESSION"},
		{"headers", []string{"OTEL_EXPORTER_OTLP_HEADERS", "a=b,s3cret"}, "OTEL_EXPORTER_OTLP_HEADERS"},
		{"no such certificate", []string{"OTEL_EXPORTER_OTLP_CERTIFICATE", empty + "-not"}, "OTEL_EXPORTER_OTLP_CERTIFICATE"},
		{"no certificate in the file", []string{"OTEL_EXPORTER_OTLP_CERTIFICATE", empty}, "OTEL_EXPORTER_OTLP_CERTIFICATE"},
		{"client certificate without a key", []string{"OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", empty}, "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY"},
		{"client certificate that is none", []string{"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", empty, "OTEL_EXPORTER_OTLP_CLIENT_KEY", empty}, "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clean(t, append([]string{endpoint, "http://127.0.0.1:1"}, tt.vars...)...)
			_, err := New(t.Context(), Config{})
			if err == nil || strings.Count(err.Error(), tt.want) != 1 {
				t.Fatalf("New() with %q = %v, want an error that names %s once", tt.vars, err, tt.want)
			}
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("New() = %v, which shows a header's value", err)
			}
		})
	}
}

func TestAllMistakesAtOnce(t *testing.T) {
	clean(t, "OTEL_EXPORTER_OTLP_ENDPOINT", "collector", "OTEL_TRACES_SAMPLER", "sometimes", "OTEL_METRIC_EXPORT_TIMEOUT", "1m",
		"OTEL_PROPAGATORS", "smoke", "OTEL_RESOURCE_ATTRIBUTES", "novalue")
	_, err := New(t.Context(), Config{})
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_SAMPLER", "OTEL_METRIC_EXPORT_TIMEOUT", "OTEL_PROPAGATORS", "OTEL_RESOURCE_ATTRIBUTES"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("New() = %v, want %s in it", err, name)
		}
	}
}

func TestSoundVariablesStart(t *testing.T) {
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT"
	for _, tt := range []struct {
		name string
		vars []string
	}{
		{"every sampler has its case folded", []string{"OTEL_TRACES_SAMPLER", "Parentbased_TraceIDRatio", "OTEL_TRACES_SAMPLER_ARG", " 0.5 "}},
		{"a sampler that takes no argument ignores it", []string{"OTEL_TRACES_SAMPLER", "always_off", "OTEL_TRACES_SAMPLER_ARG", "jaeger"}},
		{"gRPC takes host:port", []string{endpoint, "collector:4317", "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"}},
		{"no limit", []string{"OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "-1"}},
		{"headers with spaces", []string{"OTEL_EXPORTER_OTLP_HEADERS", "api-key=abc, x-tenant=1"}},
		{"what is not read is not judged", []string{"OTEL_TRACES_EXPORTER", "none", "OTEL_METRICS_EXPORTER", "prometheus", endpoint, "collector", "OTEL_TRACES_SAMPLER", "sometimes"}},
		{"nor is it when disabled", []string{"OTEL_SDK_DISABLED", "true", endpoint, "collector"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clean(t, append([]string{endpoint, "http://127.0.0.1:1"}, tt.vars...)...)
			tel, err := New(t.Context(), Config{})
			if err != nil {
				t.Fatalf("New() with %q = %v", tt.vars, err)
			}
			tel.patience = time.Millisecond // nobody listens there
			_ = tel.Shutdown(t.Context())
		})
	}
}

// A sampler of spaces is unset to the SDK, whose own default keeps every trace.
func TestBlankSamplerIsUnset(t *testing.T) {
	url, _ := collector(t)
	clean(t, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", url+"/v1/traces", "OTEL_TRACES_SAMPLER", " ")
	tel := start(t)
	kept := 0
	for range 1_000 {
		if tel.Sample() {
			kept++
		}
	}
	if kept > 100 {
		t.Errorf("kept %d of 1000 traces, want about one in a hundred", kept)
	}
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown() = %v", err)
	}
}

// The specification has every other value than true mean false, and a warning.
func TestDisabledIsTrueOrFalse(t *testing.T) {
	for value, warns := range map[string]bool{"": false, "true": false, "TRUE": false, "false": false, "1": true, "yes": true} {
		clean(t, "OTEL_SDK_DISABLED", value)
		var text bytes.Buffer
		tel, err := New(t.Context(), Config{Logger: slog.New(slog.NewTextHandler(&text, nil))})
		if err != nil {
			t.Fatalf("New() with OTEL_SDK_DISABLED=%s = %v", value, err)
		}
		if got := strings.Contains(text.String(), "OTEL_SDK_DISABLED"); got != warns {
			t.Errorf("OTEL_SDK_DISABLED=%s logs %q, want a warning: %v", value, text.String(), warns)
		}
		if err := tel.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown() = %v", err)
		}
	}
}

// Without a bound of the caller's own, Shutdown has one.
func TestShutdownBoundsItself(t *testing.T) {
	address := silent(t)
	clean(t, "OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+address, "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "OTEL_TRACES_SAMPLER", "always_on")
	tel := start(t)
	if tel.patience != 5*time.Second {
		t.Errorf("Shutdown waits %v, want 5s", tel.patience)
	}
	tel.patience = 50 * time.Millisecond
	_, span := tel.TracerProvider().Tracer("test").Start(t.Context(), "x")
	span.End()
	begun := time.Now()
	if err := tel.Shutdown(t.Context()); err == nil || time.Since(begun) > 4*time.Second {
		t.Errorf("Shutdown() = %v after %v, want an error soon after 50ms", err, time.Since(begun))
	}
}
