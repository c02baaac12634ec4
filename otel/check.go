package otel

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
)

// The SDK and its exporters meet a variable that they cannot read with a line
// on standard error and a default: a mistyped sampler keeps every trace, a
// mistyped endpoint exports to nobody, a missing certificate means the system's.
// So the variables that are about to be read are looked at first.

// numbers are the variables that hold an integer: milliseconds, counts, limits.
var (
	traceNumbers = []string{
		"OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_EXPORT_TIMEOUT", "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
		"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_SPAN_EVENT_COUNT_LIMIT", "OTEL_SPAN_LINK_COUNT_LIMIT",
		"OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
		"OTEL_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
	}
	logNumbers = []string{
		"OTEL_BLRP_SCHEDULE_DELAY", "OTEL_BLRP_EXPORT_TIMEOUT", "OTEL_BLRP_MAX_QUEUE_SIZE", "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE",
		"OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT",
	}
	metricNumbers = []string{"OTEL_METRIC_EXPORT_INTERVAL", "OTEL_METRIC_EXPORT_TIMEOUT"}
)

// mistakes collects what is wrong, each variable once.
type mistakes struct {
	seen map[string]bool
	errs []error
}

// check runs f on a variable that is set and has not been looked at, without
// the spaces around it.
func (m *mistakes) check(name string, f func(value string) error) {
	value := getenv(name)
	if value == "" || m.seen[name] {
		return
	}
	m.seen[name] = true
	if err := f(value); err != nil {
		m.errs = append(m.errs, fmt.Errorf("otel: %s: %w", name, err))
	}
}

// getenv reads a variable as the SDK does.
func getenv(name string) string { return strings.TrimSpace(os.Getenv(name)) }

// checkVariables says everything that is wrong with the variables that these
// exporters and the SDK under them are about to read.
func checkVariables(on signals) error {
	traces, metrics := on.traces, on.metrics
	m := mistakes{seen: map[string]bool{}}
	if len(traces) > 0 {
		m.check("OTEL_TRACES_SAMPLER", checkSampler)
		for _, name := range traceNumbers {
			m.check(name, checkNumber)
		}
	}
	if slices.ContainsFunc(metrics, func(one string) bool { return one != "prometheus" }) {
		for _, name := range metricNumbers {
			m.check(name, checkNumber)
		}
	}
	if slices.Contains(traces, "otlp") {
		m.checkOTLP("TRACES")
	}
	if slices.Contains(metrics, "otlp") {
		m.checkOTLP("METRICS")
	}
	if len(on.logs) > 0 {
		for _, name := range logNumbers {
			m.check(name, checkNumber)
		}
	}
	if slices.Contains(on.logs, "otlp") {
		m.checkOTLP("LOGS")
	}
	return errors.Join(m.errs...)
}

// checkOTLP looks at what a signal's OTLP exporter reads: its own variable or
// the one for all signals.
func (m *mistakes) checkOTLP(signal string) {
	how, err := protocol(signal)
	if err != nil {
		m.errs = append(m.errs, err)
		return
	}
	for _, prefix := range []string{"OTEL_EXPORTER_OTLP_", "OTEL_EXPORTER_OTLP_" + signal + "_"} {
		m.check(prefix+"ENDPOINT", func(value string) error { return checkEndpoint(value, how) })
		m.check(prefix+"TIMEOUT", checkNumber)
		m.check(prefix+"COMPRESSION", checkCompression)
		m.check(prefix+"HEADERS", checkHeaders)
		m.check(prefix+"CERTIFICATE", checkCertificates)
		m.check(prefix+"CLIENT_CERTIFICATE", func(value string) error { return checkPair(value, prefix+"CLIENT_KEY") })
	}
}

// checkSampler knows the samplers of the specification that the SDK has, and
// reads the argument of those that take one.
func checkSampler(value string) error {
	switch value = strings.ToLower(value); value {
	case "always_on", "always_off", "parentbased_always_on", "parentbased_always_off":
		return nil
	case "traceidratio", "parentbased_traceidratio":
		arg := getenv("OTEL_TRACES_SAMPLER_ARG")
		if arg == "" {
			return nil
		}
		// Written so that NaN, which is a float to strconv, is refused as well.
		if ratio, err := strconv.ParseFloat(arg, 64); err != nil || !(ratio >= 0 && ratio <= 1) {
			return fmt.Errorf("OTEL_TRACES_SAMPLER_ARG: %q is no ratio, want 0 to 1", arg)
		}
		return nil
	}
	return fmt.Errorf("no sampler %q, want always_on, always_off or traceidratio, or one of them after parentbased_", value)
}

func checkNumber(value string) error {
	if _, err := strconv.Atoi(value); err != nil {
		return fmt.Errorf("%q is no integer; times are in milliseconds, without a unit", value)
	}
	return nil
}

// checkEndpoint does not repeat the value, which may hold a password.
func checkEndpoint(value, how string) error {
	u, err := url.Parse(value)
	switch {
	case how == "grpc" && err == nil: // host:port and the resolvers of gRPC are endpoints, too
		return nil
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return errors.New("no URL, want one such as http://collector:4318")
	}
	return nil
}

func checkCompression(value string) error {
	if value != "gzip" && value != "none" {
		return fmt.Errorf("no compression %q, want gzip or none", value)
	}
	return nil
}

// checkHeaders does not repeat the value, which is often a key.
func checkHeaders(value string) error {
	for i, pair := range strings.Split(value, ",") {
		if name, _, found := strings.Cut(pair, "="); !found || strings.TrimSpace(name) == "" {
			return fmt.Errorf("no name=value at place %d of the list", i+1)
		}
	}
	return nil
}

func checkCertificates(file string) error {
	pem, err := os.ReadFile(file)
	if err == nil && !x509.NewCertPool().AppendCertsFromPEM(pem) {
		err = fmt.Errorf("no certificate in %s", file)
	}
	return err
}

func checkPair(file, keyName string) error {
	key := getenv(keyName)
	if key == "" {
		return fmt.Errorf("needs %s beside it", keyName)
	}
	_, err := tls.LoadX509KeyPair(file, key)
	return err
}
