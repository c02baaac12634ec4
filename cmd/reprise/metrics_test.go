package main

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"reprise/edge/client"
)

// scrape is the reprise metrics in a Prometheus answer: name to label names.
func scrape(text string) map[string][]string {
	found := map[string][]string{}
	line := regexp.MustCompile(`^(reprise_[a-z_]+)(?:\{(.*)\})? `)
	label := regexp.MustCompile(`([a-z_]+)="`)
	for l := range strings.Lines(text) {
		m := line.FindStringSubmatch(l)
		if m == nil {
			continue
		}
		name := m[1]
		for _, end := range []string{"_bucket", "_sum", "_count"} {
			name = strings.TrimSuffix(name, end)
		}
		labels := found[name]
		for _, lm := range label.FindAllStringSubmatch(m[2], -1) {
			if lm[1] != "le" && !slices.Contains(labels, lm[1]) {
				labels = append(labels, lm[1])
			}
		}
		slices.Sort(labels)
		found[name] = labels
	}
	return found
}

// documented is the metrics of the README's table.
func documented(t *testing.T) map[string][]string {
	t.Helper()
	raw, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(raw), "\n## Metrics\n")
	if !ok {
		t.Fatal("README.md has no section Metrics")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	found := map[string][]string{}
	for _, m := range regexp.MustCompile("`(reprise_[a-z_]+)(?:\\{([a-z_,]+)\\})?`").FindAllStringSubmatch(section, -1) {
		var labels []string
		if m[2] != "" {
			labels = strings.Split(m[2], ",")
			slices.Sort(labels)
		}
		found[m[1]] = labels
	}
	return found
}

// scraped runs a node through a little of everything and returns its metrics.
func scraped(t *testing.T) map[string][]string {
	t.Helper()
	n := start(t, append([]string{"dev", "--emulator-listen", "127.0.0.1:0", "--data-dir", t.TempDir(), "--drain", "0s"}, freePorts...)...)
	_, frames := n.device(client.Config{User: exampleUser, Since: "latest"})
	expect(t, frames, "welcome", "")
	expect(t, frames, "caught_up", "")
	n.publish(n.addrs["emulator"], exampleUser, 1, 1)
	expect(t, frames, "notification", "")
	// The count of a batch comes when its checkpoint is saved, after the event.
	var found map[string][]string
	eventually(t, "the metrics of an event", func() bool {
		_, text := n.get("/metrics")
		found = scrape(text)
		_, batch := found["reprise_bridge_batch_duration_seconds"]
		_, append := found["reprise_append_latency_seconds"]
		_, live := found["reprise_broadcast_latency_seconds"]
		return batch && append && live
	})
	n.end(0)
	return found
}

// TestMetricsAreDocumented holds the README's table and the scrape to each other,
// names and labels, and that nothing names a user.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	want, got := documented(t), scraped(t)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		labels, there := got[name]
		if !there {
			t.Errorf("the README has %s, which is not exported", name)
		} else if !slices.Equal(labels, want[name]) {
			t.Errorf("%s is exported with the labels %q, the README says %q", name, labels, want[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, there := want[name]; !there {
			t.Errorf("%s is exported, and not in the README", name)
		}
		for _, label := range got[name] {
			if !slices.Contains([]string{"call", "code", "completeness", "reason", "result", "source", "why"}, label) {
				t.Errorf("%s has the label %s, which is none of the closed lists", name, label)
			}
		}
	}
}
