// Package collector tests the relay's telemetry with a real OpenTelemetry
// Collector, built from its modules (otelcol): what bridge and edge export by
// OTLP over gRPC and HTTP goes through it, and is judged as it comes out. It is
// a module of its own because of all that the collector depends on.
package collector
