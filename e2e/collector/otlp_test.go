package collector

import (
	"encoding/json"
	"strconv"
)

// The parts of OTLP's JSON that are judged.
type (
	value struct {
		String string          `json:"stringValue"`
		Int    json.Number     `json:"intValue"`
		Bool   bool            `json:"boolValue"`
		Array  json.RawMessage `json:"arrayValue"`
	}
	attributes []struct {
		Key   string
		Value value
	}
	resource struct{ Attributes attributes }
	span     struct {
		TraceID      string `json:"traceId"`
		SpanID       string `json:"spanId"`
		ParentSpanID string `json:"parentSpanId"`
		Name         string
		Kind         int
		Attributes   attributes
		Links        []struct {
			TraceID    string `json:"traceId"`
			SpanID     string `json:"spanId"`
			Attributes attributes
		}
		node string
	}
	point struct {
		AsInt          json.Number
		Count          json.Number
		ExplicitBounds []float64
		Attributes     attributes
	}
	points struct{ DataPoints []point }
	metric struct {
		Name                  string
		Unit                  string
		Sum, Gauge, Histogram *points
		node                  string
	}
	record struct {
		Body       value
		TraceID    string `json:"traceId"`
		Attributes attributes
		node       string
	}
	batch struct {
		ResourceSpans []struct {
			Resource   resource
			ScopeSpans []struct{ Spans []*span }
		}
		ResourceMetrics []struct {
			Resource     resource
			ScopeMetrics []struct{ Metrics []*metric }
		}
		ResourceLogs []struct {
			Resource  resource
			ScopeLogs []struct{ LogRecords []*record }
		}
	}
)

// get is the text or the number under a key, "" where there is none.
func (a attributes) get(key string) string {
	for _, one := range a {
		if one.Key == key {
			return one.Value.String + string(one.Value.Int)
		}
	}
	return ""
}

// atLeast pleases where the points of a metric add up to n.
func atLeast(n int) func(*metric) bool {
	return func(m *metric) bool {
		sum := 0
		for _, all := range []*points{m.Sum, m.Gauge, m.Histogram} {
			if all == nil {
				continue
			}
			for _, p := range all.DataPoints {
				one, _ := strconv.Atoi(string(p.AsInt) + string(p.Count))
				sum += one
			}
		}
		return sum >= n
	}
}
