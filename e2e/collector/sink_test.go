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

// sink is where the collector sends what it got.
type sink struct {
	*httptest.Server

	mu      sync.Mutex
	spans   []*span       // guarded by mu
	metrics []*metric     // guarded by mu; the newest last
	logs    []*record     // guarded by mu
	raw     []export      // guarded by mu; everything as it came
	news    chan struct{} // guarded by mu; closed and replaced when something comes
}

// export is one batch as it came.
type export struct{ signal, body string }

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
	s.raw = append(s.raw, export{b.signal(), raw})
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

// signal is "traces", "metrics" or "logs", whichever a batch holds.
func (b *batch) signal() string {
	switch {
	case b.ResourceSpans != nil:
		return "traces"
	case b.ResourceMetrics != nil:
		return "metrics"
	}
	return "logs"
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

// record waits for a log line of a node.
func (s *sink) record(t *testing.T, node, body string) *record {
	t.Helper()
	var found *record
	s.await(t, "the log line "+body+" of "+node, func() bool {
		for _, l := range s.logs {
			if l.node == node && l.Body.String == body {
				found = l
			}
		}
		return found != nil
	})
	return found
}

// named are the spans of that name that have come.
func (s *sink) named(name string) []*span {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*span
	for _, sp := range s.spans {
		if sp.Name == name {
			list = append(list, sp)
		}
	}
	return list
}

// free fails the test where a secret came in one of the signals, and where
// nothing came in one of them that could have held it.
func (s *sink) free(t *testing.T, signals []string, secrets map[string]string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, signal := range signals {
		searched := 0
		for _, e := range s.raw {
			if e.signal != signal {
				continue
			}
			searched++
			for what, secret := range secrets {
				if at := strings.Index(e.body, secret); at >= 0 {
					t.Errorf("the %s hold the %s: …%s…, want none", signal, what, e.body[max(0, at-300):min(len(e.body), at+100)])
					delete(secrets, what) // once is enough
				}
			}
		}
		if searched == 0 {
			t.Errorf("no %s came, want some to search", signal)
		}
	}
}
