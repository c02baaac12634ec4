package otel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	"go.opentelemetry.io/contrib/bridges/otelslog"
	"go.opentelemetry.io/contrib/instrumentation/runtime"
	"go.opentelemetry.io/contrib/propagators/autoprop"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	promexporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/exporters/stdout/stdoutlog"
	"go.opentelemetry.io/otel/exporters/stdout/stdoutmetric"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"golang.org/x/time/rate"
)

const (
	// shutdownMost bounds Shutdown, a collector that does not answer included.
	shutdownMost = 5 * time.Second
	// complainEvery bounds the log lines about exports that fail.
	complainEvery = 10 * time.Second
)

// Config is what the variables do not say.
type Config struct {
	// ServiceVersion is the program's version; "" leaves it out.
	ServiceVersion string
	// InstanceID names this process among others; "" leaves it out.
	InstanceID string
	// Logger is told when exporting fails; nil discards.
	Logger *slog.Logger
	// Recent is how many spans are remembered for [Telemetry.Trace]; 0 is none.
	// Where no variable asks for traces, 50 events a second are traced for it.
	Recent int
}

// Telemetry is the process's OpenTelemetry. Safe for concurrent use.
type Telemetry struct {
	tracing    trace.TracerProvider
	sampling   *sampling
	recent     *recent // nil where no spans are remembered
	metering   *sdkmetric.MeterProvider
	logging    *sdklog.LoggerProvider // nil where logs are not exported
	propagator propagation.TextMapPropagator
	registry   *prometheus.Registry
	stop       []func(context.Context) error
	patience   time.Duration // how long Shutdown waits at most
}

// New reads the OTEL_* variables and sets OpenTelemetry up. It dials nothing
// itself; exporters connect when they have something to send.
func New(ctx context.Context, cfg Config) (*Telemetry, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	on, err := readVariables()
	res, rerr := newResource(ctx, cfg)
	if err := errors.Join(err, rerr); err != nil {
		return nil, err
	}
	if value := getenv("OTEL_SDK_DISABLED"); value != "" && !strings.EqualFold(value, "true") && !strings.EqualFold(value, "false") {
		cfg.Logger.Warn("OTEL_SDK_DISABLED is neither true nor false: telemetry stays on", "value", value)
	}
	otel.SetErrorHandler(complain(cfg.Logger))
	t := &Telemetry{tracing: noop.NewTracerProvider(), sampling: &sampling{}, propagator: autoprop.NewTextMapPropagator(), registry: prometheus.NewRegistry(), patience: shutdownMost}
	if err := t.startMetrics(ctx, on.metrics, res); err != nil {
		return nil, errors.Join(err, t.Shutdown(ctx))
	}
	if err := t.startTraces(ctx, on.traces, cfg.Recent, res); err != nil {
		return nil, errors.Join(err, t.Shutdown(ctx))
	}
	if err := t.startLogs(ctx, on.logs, res); err != nil {
		return nil, errors.Join(err, t.Shutdown(ctx))
	}
	return t, nil
}

// signals are the exporters of each signal.
type signals struct{ traces, metrics, logs []string }

// readVariables says what the OTEL_* variables ask for, and all that is wrong
// with them.
func readVariables() (on signals, err error) {
	var terr, merr, lerr error
	on.traces, terr = exporters("TRACES", "otlp", "console")
	on.metrics, merr = exporters("METRICS", "otlp", "console", "prometheus")
	on.logs, lerr = exporters("LOGS", "otlp", "console")
	if getenv("OTEL_LOGS_EXPORTER") == "" && getenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT") == "" {
		on.logs = nil // an endpoint for everything asks for no second copy of the log
	}
	if strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") {
		on = signals{}
	}
	return on, errors.Join(terr, merr, lerr, checkPropagators(), checkVariables(on))
}

// Check says all that is wrong with the OTEL_* variables, as New would, and
// starts nothing.
func Check() error {
	_, err := readVariables()
	_, rerr := newResource(context.Background(), Config{})
	return errors.Join(err, rerr)
}

// exporters is the list that OTEL_<signal>_EXPORTER gives, without none.
func exporters(signal string, known ...string) ([]string, error) {
	name := "OTEL_" + signal + "_EXPORTER"
	value := os.Getenv(name)
	if value == "" {
		if os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") != "" {
			return []string{"otlp"}, nil
		}
		return nil, nil
	}
	var list []string
	for _, one := range strings.Split(value, ",") {
		switch one = strings.TrimSpace(one); {
		case one == "none" || one == "" || slices.Contains(list, one):
		case slices.Contains(known, one):
			list = append(list, one)
		default:
			return nil, fmt.Errorf("otel: %s: no exporter %q, want %s or none", name, one, strings.Join(known, ", "))
		}
	}
	return list, nil
}

// protocol says how OTLP travels for a signal.
func protocol(signal string) (string, error) {
	name := "OTEL_EXPORTER_OTLP_" + signal + "_PROTOCOL"
	value := os.Getenv(name)
	if value == "" {
		name = "OTEL_EXPORTER_OTLP_PROTOCOL"
		value = cmp.Or(os.Getenv(name), "http/protobuf")
	}
	if value != "grpc" && value != "http/protobuf" {
		return "", fmt.Errorf("otel: %s: no protocol %q, want http/protobuf or grpc", name, value)
	}
	return value, nil
}

// checkPropagators asks autoprop, which only reports to the error handler.
func checkPropagators() error {
	value := os.Getenv("OTEL_PROPAGATORS")
	if value == "" {
		return nil
	}
	if _, err := autoprop.TextMapPropagator(strings.Split(value, ",")...); err != nil {
		return fmt.Errorf("otel: OTEL_PROPAGATORS: %w", err)
	}
	return nil
}

func newResource(ctx context.Context, cfg Config) (*resource.Resource, error) {
	attributes := []resource.Option{
		resource.WithTelemetrySDK(),
		resource.WithAttributes(semconv.ServiceName("reprise")),
	}
	if cfg.ServiceVersion != "" {
		attributes = append(attributes, resource.WithAttributes(semconv.ServiceVersion(cfg.ServiceVersion)))
	}
	if cfg.InstanceID != "" {
		attributes = append(attributes, resource.WithAttributes(semconv.ServiceInstanceID(cfg.InstanceID)))
	}
	res, err := resource.New(ctx, append(attributes, resource.WithFromEnv())...) // the environment wins
	if err != nil {
		return nil, fmt.Errorf("otel: OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	return res, nil
}

func (t *Telemetry) startMetrics(ctx context.Context, list []string, res *resource.Resource) error {
	t.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	scrape, err := promexporter.New(promexporter.WithRegisterer(t.registry), promexporter.WithoutScopeInfo(),
		promexporter.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithSuffixes))
	if err != nil {
		return fmt.Errorf("otel: prometheus: %w", err)
	}
	options := []sdkmetric.Option{sdkmetric.WithResource(res), sdkmetric.WithReader(scrape)}
	pushed := false
	for _, one := range list {
		var exporter sdkmetric.Exporter
		switch one {
		case "prometheus":
			continue // always on
		case "console":
			exporter, err = stdoutmetric.New()
		case "otlp":
			var how string
			if how, err = protocol("METRICS"); err != nil {
				return err
			}
			if how == "grpc" {
				exporter, err = otlpmetricgrpc.New(ctx)
			} else {
				exporter, err = otlpmetrichttp.New(ctx)
			}
		}
		if err != nil {
			return fmt.Errorf("otel: metrics exporter %s: %w", one, err)
		}
		options = append(options, sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter)))
		pushed = true
	}
	t.metering = sdkmetric.NewMeterProvider(options...)
	t.stop = append(t.stop, t.metering.Shutdown)
	if pushed { // a scrape has the Go collector's own
		if err := runtime.Start(runtime.WithMeterProvider(t.metering)); err != nil {
			return fmt.Errorf("otel: runtime metrics: %w", err)
		}
	}
	return nil
}

func (t *Telemetry) startTraces(ctx context.Context, list []string, remember int, res *resource.Resource) error {
	switch {
	case len(list) > 0:
		t.sampling = readSampling()
	case remember > 0:
		t.sampling = &sampling{some: rate.NewLimiter(recentRate, recentBurst)}
	default:
		return nil
	}
	if t.sampling.off {
		return nil
	}
	options := []sdktrace.TracerProviderOption{sdktrace.WithResource(res), sdktrace.WithSampler(sdktrace.AlwaysSample())}
	if remember > 0 {
		t.recent = newRecent(remember)
		options = append(options, sdktrace.WithSpanProcessor(t.recent))
	}
	for _, one := range list {
		var exporter sdktrace.SpanExporter
		var err error
		switch one {
		case "console":
			exporter, err = stdouttrace.New()
		case "otlp":
			var how string
			if how, err = protocol("TRACES"); err != nil {
				return err
			}
			if how == "grpc" {
				exporter, err = otlptracegrpc.New(ctx)
			} else {
				exporter, err = otlptracehttp.New(ctx)
			}
		}
		if err != nil {
			return fmt.Errorf("otel: traces exporter %s: %w", one, err)
		}
		options = append(options, sdktrace.WithBatcher(exporter))
	}
	provider := sdktrace.NewTracerProvider(options...)
	t.tracing = provider
	t.stop = append(t.stop, provider.Shutdown)
	return nil
}

func (t *Telemetry) startLogs(ctx context.Context, list []string, res *resource.Resource) error {
	if len(list) == 0 {
		return nil
	}
	options := []sdklog.LoggerProviderOption{sdklog.WithResource(res)}
	for _, one := range list {
		var exporter sdklog.Exporter
		var err error
		switch one {
		case "console":
			exporter, err = stdoutlog.New()
		case "otlp":
			var how string
			if how, err = protocol("LOGS"); err != nil {
				return err
			}
			if how == "grpc" {
				exporter, err = otlploggrpc.New(ctx)
			} else {
				exporter, err = otlploghttp.New(ctx)
			}
		}
		if err != nil {
			return fmt.Errorf("otel: logs exporter %s: %w", one, err)
		}
		options = append(options, sdklog.WithProcessor(sdklog.NewBatchProcessor(exporter)))
	}
	t.logging = sdklog.NewLoggerProvider(options...)
	t.stop = append(t.stop, t.logging.Shutdown)
	return nil
}

// LogHandler exports log lines, with the trace of their context; nil where no
// variable asks for it. It takes every level.
func (t *Telemetry) LogHandler() slog.Handler {
	if t.logging == nil {
		return nil
	}
	return otelslog.NewHandler("reprise", otelslog.WithLoggerProvider(t.logging))
}

// TracerProvider makes tracers; they do nothing unless traces are exported.
func (t *Telemetry) TracerProvider() trace.TracerProvider { return t.tracing }

// Sample decides whether an event whose trace comes into the relay is traced, as
// OTEL_TRACES_SAMPLER says. What a span is started for is kept.
func (t *Telemetry) Sample() bool { return t.sampling.sample() }

// Trace returns the spans that are remembered of the trace in which an event with
// this hlc was sent, in the order in which they began; none where there is none.
func (t *Telemetry) Trace(hlc string) []Span {
	if t.recent == nil {
		return nil
	}
	return t.recent.trace(hlc)
}

// MeterProvider makes meters. Their instruments are always there to be scraped.
func (t *Telemetry) MeterProvider() metric.MeterProvider { return t.metering }

// Propagator carries trace context as OTEL_PROPAGATORS says.
func (t *Telemetry) Propagator() propagation.TextMapPropagator { return t.propagator }

// Tracing says whether spans go anywhere.
func (t *Telemetry) Tracing() bool { _, off := t.tracing.(noop.TracerProvider); return !off }

// MetricsHandler answers a Prometheus scrape.
func (t *Telemetry) MetricsHandler() http.Handler {
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{})
}

// Shutdown sends what is waiting and ends, within five seconds or when ctx
// ends, whether or not a collector answers.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, t.patience)
	defer cancel()
	done := make(chan error, len(t.stop))
	for _, stop := range t.stop {
		go func() { done <- stop(ctx) }()
	}
	var errs []error
	for range t.stop {
		select {
		case err := <-done:
			errs = append(errs, err)
		case <-ctx.Done():
			return fmt.Errorf("otel: shutdown: %w", ctx.Err())
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("otel: shutdown: %w", err)
	}
	return nil
}

// complain logs the SDK's errors, one every complainEvery at most.
func complain(log *slog.Logger) otel.ErrorHandlerFunc {
	var last atomic.Int64
	return func(err error) {
		now := time.Now().UnixNano()
		if then := last.Load(); (then == 0 || now-then >= int64(complainEvery)) && last.CompareAndSwap(then, now) {
			log.Warn("telemetry was not exported", "err", err)
		}
	}
}
