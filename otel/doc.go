// Package otel configures OpenTelemetry for the process.
//
// The rest of Reprise uses the OpenTelemetry API; this package, called from
// cmd alone, puts the SDK behind it as the standard OTEL_* variables say. The
// providers are handed over, not made global: a test or a second node in one
// process has its own.
//
// # What is on
//
// With no variable set nothing is exported and nothing is dialled: spans cost
// a nil check, and metrics wait to be scraped from [Telemetry.MetricsHandler],
// which always works. Beyond that:
//
//   - OTEL_TRACES_EXPORTER and OTEL_METRICS_EXPORTER: a comma-separated list of
//     otlp, console and none, and for metrics prometheus, which is always on.
//     Left out: otlp if OTEL_EXPORTER_OTLP_ENDPOINT or the signal's own endpoint
//     is set, else none.
//   - OTEL_LOGS_EXPORTER: otlp, console or none. Left out: otlp if
//     OTEL_EXPORTER_OTLP_LOGS_ENDPOINT is set, else none; an endpoint for all
//     signals does not ask for it, because logs go to standard error as well.
//   - OTEL_EXPORTER_OTLP_PROTOCOL (or the signal's own): http/protobuf, the
//     default, or grpc. Endpoints, headers, certificates, timeouts, batching and
//     limits are the exporters' and the SDK's own variables.
//   - OTEL_TRACES_SAMPLER: as in the specification; left out it is
//     parentbased_traceidratio with 0.01, not with 1. It decides where a trace
//     comes into the relay, see [Telemetry.Sample], and by chance, not by the
//     trace id, which its publisher may have chosen. Elsewhere only always_off
//     means something: no spans of this process.
//   - OTEL_PROPAGATORS, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES,
//     OTEL_SDK_DISABLED.
//
// # Failure modes
//
//   - A bad value ends the start, naming the variable; all of them at once. So
//     does a sampler, an endpoint, a number or a certificate that the SDK would
//     replace by its default. What no exporter reads is not judged.
//   - A collector that is down costs a log line every ten seconds at most and
//     bounded memory; Shutdown waits five seconds for it at most.
//   - HAZARD: the SDK reports its own errors to one global handler. The last
//     [New] of a process gets them.
package otel
