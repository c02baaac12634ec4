package collector

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for what must come.
const patience = 60 * time.Second

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
			TraceID string `json:"traceId"`
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

func (a attributes) get(key string) string {
	for _, one := range a {
		if one.Key == key {
			return one.Value.String
		}
	}
	return ""
}

// sink is where the collector sends what it got.
type sink struct {
	*httptest.Server

	mu      sync.Mutex
	spans   []*span       // guarded by mu
	metrics []*metric     // guarded by mu; the newest last
	logs    []*record     // guarded by mu
	raw     []string      // guarded by mu; everything as it came
	news    chan struct{} // guarded by mu; closed and replaced when something comes
}

func newSink(t *testing.T) *sink {
	t.Helper()
	s := &sink{news: make(chan struct{})}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var b batch
		if err != nil || json.Unmarshal(body, &b) != nil {
			http.Error(w, "no OTLP", http.StatusBadRequest)
			t.Errorf("the collector sent %s, want OTLP as JSON", body)
			return
		}
		s.take(&b, string(body))
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, "{}")
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *sink) take(b *batch, raw string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.raw = append(s.raw, raw)
	node := func(r resource) string {
		return r.Attributes.get("service.name") + "/" + r.Attributes.get("service.instance.id")
	}
	for _, r := range b.ResourceSpans {
		for _, scope := range r.ScopeSpans {
			for _, sp := range scope.Spans {
				sp.node = node(r.Resource)
				s.spans = append(s.spans, sp)
			}
		}
	}
	for _, r := range b.ResourceMetrics {
		for _, scope := range r.ScopeMetrics {
			for _, m := range scope.Metrics {
				m.node = node(r.Resource)
				s.metrics = append(s.metrics, m)
			}
		}
	}
	for _, r := range b.ResourceLogs {
		for _, scope := range r.ScopeLogs {
			for _, l := range scope.LogRecords {
				l.node = node(r.Resource)
				s.logs = append(s.logs, l)
			}
		}
	}
	close(s.news)
	s.news = make(chan struct{})
}

// await waits until seen, which is called with the lock held, says yes.
func (s *sink) await(t *testing.T, what string, seen func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		s.mu.Lock()
		done, news := seen(), s.news
		s.mu.Unlock()
		if done {
			return
		}
		select {
		case <-news:
		case <-deadline:
			s.mu.Lock()
			defer s.mu.Unlock()
			var names []string
			for _, sp := range s.spans {
				names = append(names, sp.node+": "+sp.Name)
			}
			t.Fatalf("waited %v for %s; %d spans (%s), %d metrics, %d logs came", patience, what, len(s.spans), strings.Join(names, ", "), len(s.metrics), len(s.logs))
		}
	}
}

// span waits for the span of that name in a trace; trace "" is any.
func (s *sink) span(t *testing.T, name, trace string) *span {
	t.Helper()
	var found *span
	s.await(t, name+" of trace "+trace, func() bool {
		for _, sp := range s.spans {
			if sp.Name == name && (trace == "" || sp.TraceID == trace) {
				found = sp
			}
		}
		return found != nil
	})
	return found
}

// metric waits for a metric of a node that pleases.
func (s *sink) metric(t *testing.T, node, name string, pleases func(*metric) bool) *metric {
	t.Helper()
	var found *metric
	s.await(t, name, func() bool {
		for _, m := range s.metrics {
			if m.Name == name && m.node == node && pleases(m) {
				found = m
			}
		}
		return found != nil
	})
	return found
}
