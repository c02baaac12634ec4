package edge

import (
	"context"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"reprise/stream"
)

// present is what /devices says.
func (r *relay) present(user string) []stream.Presence {
	r.t.Helper()
	var got []stream.Presence
	r.get("/v1/users/"+user+"/devices", &got)
	return got
}

// put asks for a PUT and returns its status and body.
func (r *relay) put(path string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodPut, r.url+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// A device that is connected is present, and so is one that is heard of over PubNub.
func TestDevices(t *testing.T) {
	t.Parallel()
	r := newRelay(t, Config{})
	begin := time.Now().UnixMilli()
	var text string
	if r.get("/v1/users/"+uuidA+"/devices", &text); text != `[]` {
		t.Errorf("/devices of nobody = %s, want []", text)
	}
	phone, tv := uuidOf('a', 2), uuidOf('a', 1)
	r.joined(uuidA, phone, "")
	r.joined(uuidA, tv, "").send(`{"type":"device_heartbeat"}`)
	r.joined(uuidB, phone, "")
	r.log.Seen(uuidA, "a radio")
	r.await("three devices", func() bool { return len(r.present(uuidA)) == 3 })
	for n, p := range r.present(uuidA) {
		if want := []string{"a radio", tv, phone}[n]; p.Device != want || p.Seen < begin || p.Seen > time.Now().UnixMilli() {
			t.Errorf("/devices, no. %d = %+v, want %s since %d", n, p, want, begin)
		}
	}
	if resp := r.get("/v1/users/me/devices", &text); resp.StatusCode != 400 {
		t.Errorf("/devices of me = %d %s, want 400", resp.StatusCode, text)
	}
}

// known reports whether the log knows the user.
func (r *relay) known(user string) bool {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	users, err := r.log.Users(ctx, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	return slices.Contains(users, user)
}

func TestRegistration(t *testing.T) {
	t.Parallel()
	r := newRelay(t, Config{})
	if r.known(uuidA) || r.known(uuidB) {
		t.Error("users of an empty log, want none")
	}
	r.joined(uuidA, uuidOf('a', 1), "")
	r.joined(uuidA, uuidOf('a', 2), "")
	r.await("the registration", func() bool { return r.known(uuidA) })
	for range 2 {
		if status, body := r.put("/v1/users/" + uuidB); status != 204 || body != "" || !r.known(uuidB) {
			t.Errorf("PUT = %d %q, want 204 and the user registered", status, body)
		}
	}
	if status, body := r.put("/v1/users/me"); status != 400 || r.known("me") {
		t.Errorf("PUT of me = %d %s, want 400", status, body)
	}
}

// While the log is out of reach the routes that need it answer 503; who connects
// meanwhile is registered afterwards.
func TestRegistrationWhileTheLogIsOutOfReach(t *testing.T) {
	t.Parallel()
	r, way := apart(t, Config{})
	way.set(true)
	r.connect(uuidA, uuidOf('a', 1), "&since=earliest")
	got := make(chan int, 2)
	go func() { got <- r.get("/v1/users/"+uuidA+"/devices", new(string)).StatusCode }()
	go func() { status, _ := r.put("/v1/users/" + uuidB); got <- status }()
	for range 2 {
		if status := <-got; status != 503 {
			t.Errorf("status while the log is out of reach = %d, want 503", status)
		}
	}
	way.set(false)
	r.await("the log", func() bool { return r.log.Unreachable() == 0 })
	r.await("the registration", func() bool { return r.known(uuidA) })
}

// The line of those who wait for being registered is bounded, and what does not
// fit is counted.
func TestRegistrationsAreBounded(t *testing.T) {
	t.Parallel()
	reader := metric.NewManualReader()
	m, err := newMetrics(metric.NewMeterProvider(metric.WithReader(reader)).Meter("edge"))
	if err != nil {
		t.Fatal(err)
	}
	rs := &registrations{dropped: m.dropped, more: make(chan struct{}, 1)}
	const over = 7
	for range registrationsKept + over {
		rs.add(uuidA)
	}
	var got metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &got); err != nil {
		t.Fatal(err)
	}
	dropped := int64(-1)
	for _, m := range got.ScopeMetrics[0].Metrics {
		if m.Name == "reprise.registrations.dropped" {
			dropped = m.Data.(metricdata.Sum[int64]).DataPoints[0].Value
		}
	}
	if dropped != over {
		t.Errorf("reprise.registrations.dropped = %d, want %d", dropped, over)
	}
	n := 0
	for _, ok := rs.next(); ok; _, ok = rs.next() {
		n++
	}
	if n != registrationsKept || rs.waiting != nil {
		t.Errorf("next() = %d users and then %v, want %d and nothing kept", n, rs.waiting, registrationsKept)
	}
}
