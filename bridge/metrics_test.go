package bridge

import (
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"reprise/bridge/pubnubtest"
)

// TestMetrics reads every instrument after one message of each fate.
func TestMetrics(t *testing.T) {
	t.Parallel()
	reader := metric.NewManualReader()
	r := newRig(t, 1, pubnubtest.Config{})
	r.cfg.Meter = metric.NewMeterProvider(metric.WithReader(reader)).Meter("bridge")
	r.follow()
	stop := r.start()
	held := r.pubnub.Inject(pubnubtest.Fault{Kind: pubnubtest.Hold, Endpoint: pubnubtest.Poll, Times: 1})
	r.pubnub.Inject(pubnubtest.Fault{Kind: pubnubtest.Replay, Times: 1})
	r.pubnub.Publish("user."+testUser+".notifications", []byte(`{}`))
	if err := held.WaitHits(testContext(t), 1); err != nil {
		t.Fatal(err)
	}
	for i := range 119 {
		r.pubnub.Publish("user."+userN(i)+".notifications", []byte(`{}`))
	}
	r.pubnub.Publish("user."+testUser+".sync", []byte(`{}`))
	r.pubnub.Publish("user."+testUser+".sync", []byte(`7`))
	r.pubnub.Publish("user."+testUser+".devices", []byte(`{"type":"device_heartbeat","device_id":"d"}`))
	r.pubnub.Publish("global.announcements", []byte(`{}`))
	held.Clear()
	r.events(120)
	r.noMore(testUser)
	live := collect(t, reader)
	if live["reprise.bridge.active"] != 1 {
		t.Errorf("reprise.bridge.active = %v, want 1", live["reprise.bridge.active"])
	}
	if _, ok := live["reprise.bridge.poll.age"]; !ok {
		t.Error("reprise.bridge.poll.age is not there")
	}
	stop()
	got := collect(t, reader)
	for name, least := range map[string]float64{
		"reprise.bridge.messages{result=stored}": 121, "reprise.bridge.messages{result=dead}": 2, "reprise.bridge.messages{result=heartbeat}": 1,
		"reprise.bridge.messages{result=announcement}": 1, "reprise.bridge.messages{result=duplicate}": 1,
		"reprise.dead_letters{reason=missing_field}": 1, "reprise.dead_letters{reason=not_object}": 1,
		"reprise.bridge.polls{result=ok}": 1, "reprise.bridge.polls{result=stalled}": 1, "reprise.bridge.full_pages": 1, "reprise.bridge.batch.duration": 1,
	} {
		if got[name] < least {
			t.Errorf("%s = %v, want at least %v of %v", name, got[name], least, got)
		}
	}
	if got["reprise.bridge.messages{result=stored}"] != 121 || got["reprise.bridge.active"] != 0 {
		t.Errorf("stored %v, active %v, want 121 and 0", got["reprise.bridge.messages{result=stored}"], got["reprise.bridge.active"])
	}
}

// collect reads every instrument into one map: counts for histograms.
func collect(t *testing.T, reader metric.Reader) map[string]float64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	key := func(name string, set attribute.Set) string {
		if set.Len() == 0 {
			return name
		}
		return name + "{" + set.Encoded(attribute.DefaultEncoder()) + "}"
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					values[key(m.Name, p.Attributes)] = float64(p.Value)
				}
			case metricdata.Gauge[int64]:
				for _, p := range data.DataPoints {
					values[key(m.Name, p.Attributes)] = float64(p.Value)
				}
			case metricdata.Gauge[float64]:
				for _, p := range data.DataPoints {
					values[key(m.Name, p.Attributes)] = p.Value
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					values[key(m.Name, p.Attributes)] = float64(p.Count)
				}
			}
		}
	}
	return values
}
