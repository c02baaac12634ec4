package stream

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// present waits until user has n devices, and returns their names.
func present(t *testing.T, l *Log, user string, n int) (names []string) {
	t.Helper()
	for tries := 0; ; tries++ {
		list, err := l.Present(t.Context(), user)
		if err != nil {
			t.Fatalf("Present(%s) = %v", user, err)
		}
		if len(list) == n {
			for _, p := range list {
				if age := time.Since(time.UnixMilli(p.Seen)); age < -time.Second || age > time.Minute {
					t.Errorf("Present(%s) has %s seen %v ago", user, p.Device, age)
				}
				names = append(names, p.Device)
			}
			return names
		}
		if tries > 30 || !retry(t.Context(), tries) {
			t.Fatalf("Present(%s) = %v, want %d devices", user, list, n)
		}
	}
}

func TestPresence(t *testing.T) {
	t.Parallel()
	l := openLog(t, nil)
	if got := present(t, l, alice, 0); got != nil {
		t.Errorf("Present of nobody = %v", got)
	}
	devices := []string{"Küche.>*", "TV", phone, strings.Repeat("é", 128)}
	for range 3 {
		for _, d := range devices {
			l.Seen(alice, d)
		}
	}
	l.Seen(bob, "TV")
	l.Seen("no.user", "TV")
	l.Seen(alice, "")
	l.Seen(alice, strings.Repeat("x", nameMost+1))
	slices.Sort(devices)
	if got := present(t, l, alice, len(devices)); !slices.Equal(got, devices) {
		t.Errorf("Present(alice) = %q, want %q", got, devices)
	}
	present(t, l, bob, 1)
	state, err := l.state(t.Context(), kvStream(presenceBucket))
	if err != nil {
		t.Fatal(err)
	}
	if want := uint64(len(devices) + 1); state.Last != want {
		t.Errorf("%d writes, want %d: repeated calls cost nothing", state.Last, want)
	}
	if _, err := l.Present(t.Context(), "no.user"); err == nil {
		t.Error("Present of no user = nil")
	}
}

func TestPresenceIsDroppedWhereTooMuchWaits(t *testing.T) {
	t.Parallel()
	reader := metric.NewManualReader()
	l := openLog(t, func(c *Config) { c.Meter = metric.NewMeterProvider(metric.WithReader(reader)).Meter("test") })
	if err := l.Close(); err != nil { // nobody writes any more
		t.Fatal(err)
	}
	for n := range presenceWaiting + 7 {
		l.Seen(alice, fmt.Sprint(n))
	}
	var m metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &m); err != nil {
		t.Fatal(err)
	}
	for _, in := range m.ScopeMetrics[0].Metrics {
		if in.Name == "reprise.presence.dropped" {
			if got := in.Data.(metricdata.Sum[int64]).DataPoints[0].Value; got != 7 {
				t.Errorf("reprise.presence.dropped = %d, want 7", got)
			}
			return
		}
	}
	t.Error("no reprise.presence.dropped")
}

func TestRecent(t *testing.T) {
	t.Parallel()
	r := newRecent[string](15*time.Second, 3)
	begin := time.Now()
	for _, c := range []struct {
		at   int // seconds
		do   string
		key  string
		want bool
	}{
		{0, "claim", "a", true},
		{0, "claim", "a", false},
		{14, "has", "a", true},
		{14, "claim", "b", true},
		{15, "claim", "a", true}, // its life was over
		{16, "claim", "c", true},
		{16, "has", "b", true},
		{17, "claim", "d", true}, // the oldest, b, makes room
		{17, "has", "b", false},
		{17, "has", "a", true},
		{18, "forget", "d", true},
		{18, "claim", "d", true},
		{31, "claim", "c", true},
		{32, "has", "d", true}, // the second time counts
		{33, "has", "d", false},
		{99, "has", "c", false},
	} {
		now := begin.Add(time.Duration(c.at) * time.Second)
		got := true
		switch c.do {
		case "claim":
			got = r.claim(c.key, now)
		case "has":
			got = r.has(c.key, now)
		default:
			r.forget(c.key)
		}
		if got != c.want {
			t.Errorf("%s(%s) at %ds = %v, want %v", c.do, c.key, c.at, got, c.want)
		}
	}
	if len(r.since) != 0 || len(r.order) != 0 {
		t.Errorf("after all lives are over %d, %d are kept", len(r.since), len(r.order))
	}
}
