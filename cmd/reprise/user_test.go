package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"reprise/bridge/pubnubtest"
	"reprise/edge/client"
)

const otherUser = "22222222-2222-4222-8222-222222222222"

// TestUser is a bridge and two edges, with a device of a user at each edge and
// one of another user.
func TestUser(t *testing.T) {
	t.Parallel()
	pubnub, err := pubnubtest.Start(pubnubtest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pubnub.Close)
	url := "nats://" + startNATS(t)
	bridge := start(t, "bridge", "--admin-listen", "127.0.0.1:0", "--nats-url", url, "--node", "bridge",
		"--pubnub-subscribe-key", "demo", "--pubnub-publish-key", "demo", "--pubnub-origin", pubnub.Addr(), "--pubnub-tls=false", "--pubnub-reconcile", "1s")
	var edges []*running
	for n := range 2 {
		edges = append(edges, start(t, append([]string{"edge", "--nats-url", url, "--node", fmt.Sprint("edge-", n), "--drain", "0s",
			"--auth-hmac-secret", hush, "--pubnub-publish-key", "demo"}, freePorts...)...))
	}
	operator := func(want int, args ...string) string {
		t.Helper()
		code, out, complaint := reprise(t.Context(), nil, append(args, "--admin-url", "http://"+bridge.addrs["admin"])...)
		if code != want {
			t.Fatalf("run(%v) = %d, %s%s, want %d", args, code, out, complaint, want)
		}
		return out
	}
	token := func(user string) string {
		t.Helper()
		code, out, complaint := reprise(t.Context(), nil, "token", "--user", user, "--auth-hmac-secret", hush)
		if code != 0 {
			t.Fatalf("run(token) = %d, %s", code, complaint)
		}
		return strings.TrimSpace(out)
	}
	show := func() (v userView) {
		t.Helper()
		if err := json.Unmarshal([]byte(operator(0, "user", "show", exampleUser, "--json")), &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	closings := make(chan error, 100)
	connect := func(n int, user, device, jwt, since string) <-chan client.Frame {
		t.Helper()
		frames := make(chan client.Frame, 1000)
		c := client.Config{URL: "ws://" + edges[n].addrs["devices"] + "/ws", Device: device, Since: since, Token: fixed(jwt),
			OnFrame: func(f client.Frame) { frames <- f },
			OnDisconnect: func(err error, _ time.Duration) {
				if refused := (*client.RefusedError)(nil); errors.As(err, &refused) {
					closings <- err // another token may do better: it asks again, much later
				}
			}}
		deviceUntil(t, c, func(err error) {
			if err != nil {
				closings <- err
			}
		})
		return frames
	}
	old := token(exampleUser)
	tv := connect(0, exampleUser, exampleTV, old, "latest")
	phone := connect(1, exampleUser, examplePhone, old, "latest")
	other := connect(1, otherUser, exampleTV, token(otherUser), "latest")
	for _, frames := range []<-chan client.Frame{tv, phone, other} {
		await(t, frames, "caught_up", "")
	}
	const secretText = "what is to be forgotten"
	for n := range 3 {
		pubnub.Publish("user."+exampleUser+".notifications", fmt.Appendf(nil, `{"text":"%s","n":%d}`, secretText, n))
		pubnub.Publish("user."+otherUser+".notifications", fmt.Appendf(nil, `{"n":%d}`, n))
	}
	pubnub.Publish("user."+exampleUser+".sync", []byte(`{"bad":true}`)) // a dead letter
	cursor := await(t, tv, "notification", `"n":2`).Hlc.String()
	await(t, phone, "notification", `"n":2`)
	await(t, other, "notification", `"n":2`)
	eventually(t, "everything to be there", func() bool {
		v := show()
		return len(v.Connections) == 2 && len(v.Devices) >= 2 && v.Events == 3 && v.DeadLetters == 1 && v.Registered && len(v.Silent) == 0
	})
	if out := operator(0, "user", "show", exampleUser); !strings.Contains(out, "3, from 01") || !strings.Contains(out, "at edge-0") || !strings.Contains(out, "at edge-1") {
		t.Errorf("run(user show) wrote %s, want 3 events and both edges", out)
	}

	// Disconnected, the devices come back by themselves.
	began := time.Now()
	if out := operator(0, "user", "disconnect", exampleUser); !strings.Contains(out, "2 connections ended") {
		t.Errorf("run(user disconnect) wrote %s, want 2 ended", out)
	}
	if took := time.Since(began); took > goneWithin {
		t.Errorf("disconnecting took %v, want %v at most", took, goneWithin)
	}
	await(t, tv, "caught_up", "")
	await(t, phone, "caught_up", "")

	// Revoked, they need another token. The seconds of the old one must be over.
	eventually(t, "the token to be from another second", func() bool { return time.Now().Unix() > issuedAt(t, old) })
	if out := operator(0, "user", "disconnect", "--revoke", exampleUser); !strings.Contains(out, "2 connections ended") || !strings.Contains(out, "refused for 30 days") {
		t.Errorf("run(user disconnect --revoke) wrote %s, want 2 ended and the tokens refused", out)
	}
	for range 2 {
		if err := <-closings; !strings.Contains(err.Error(), "401") {
			t.Errorf("a device with a revoked token is told %v, want 401", err)
		}
	}
	fresh := token(exampleUser) // at once: tokens tell whole seconds
	tv = connect(0, exampleUser, exampleTV, fresh, cursor)
	await(t, tv, "caught_up", "")

	// Forgotten, there is nothing left, and nothing comes back from history.
	eventually(t, "the token to be from another second", func() bool { return time.Now().Unix() > issuedAt(t, fresh) })
	out := operator(0, "user", "forget", exampleUser)
	if !strings.Contains(out, "1 connections ended") || !strings.Contains(out, "3 events erased") {
		t.Errorf("run(user forget) wrote %s, want a connection and 3 events", out)
	}
	<-closings // its token is worth nothing either
	if v := show(); len(v.Connections)+len(v.Devices)+len(v.Cursors) != 0 || v.Events+v.Outbox+v.DeadLetters != 0 || v.Registered || v.ForgottenBefore == 0 {
		t.Errorf("run(user show) after forget = %+v, want nothing", v)
	}
	if dead := operator(0, "dead", "list"); strings.Contains(dead, exampleUser) {
		t.Errorf("run(dead list) wrote %s, want nothing of the user", dead)
	}
	eventually(t, "a token from after that", func() bool { return time.Now().Unix() > show().ForgottenBefore/1000 })
	tv = connect(0, exampleUser, exampleTV, token(exampleUser), cursor)
	if w := await(t, tv, "welcome", ""); !strings.Contains(string(w.Raw), `"complete":false,"reason":"trimmed"`) {
		t.Errorf("welcome of an old cursor of one who was forgotten = %s, want it trimmed", w.Raw)
	}
	await(t, tv, "caught_up", `"replayed":0`)
	// The user is registered again by now, so that history is compared; what is
	// published now comes, and nothing before it.
	pubnub.Publish("user."+exampleUser+".notifications", []byte(`{"n":"new"}`))
	if f := <-tv; f.Type != "notification" || !strings.Contains(string(f.Raw), `"new"`) {
		t.Errorf("the next frame is %s, want the new event", f.Raw)
	}
	polled := len(pubnub.Journal())
	eventually(t, "some comparisons of history", func() bool { return len(pubnub.Journal()) > polled+5 })
	if v := show(); v.Events != 1 {
		t.Errorf("after history was compared the user has %d events, want the new one", v.Events)
	}
	// The other user noticed nothing.
	pubnub.Publish("user."+otherUser+".notifications", []byte(`{"n":3}`))
	await(t, other, "notification", `"n":3`)
	again := connect(0, otherUser, examplePhone, token(otherUser), cursor)
	if w := await(t, again, "welcome", ""); !strings.Contains(string(w.Raw), `"complete":true`) {
		t.Errorf("welcome of the other user = %s, want it complete", w.Raw)
	}
	if code, _, complaint := reprise(t.Context(), nil, "user", "forget", "Bob"); code != 2 || !strings.Contains(complaint, "Bob") {
		t.Errorf("run(user forget Bob) = %d, %s, want 2", code, complaint)
	}
	for _, n := range append(edges, bridge) {
		n.end(0)
	}
}

// await reads frames up to one of that kind.
func await(t *testing.T, frames <-chan client.Frame, kind, data string) client.Frame {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case f := <-frames:
			if f.Type == kind && strings.Contains(string(f.Raw), data) {
				return f
			}
		case <-deadline:
			t.Fatalf("no %s with %s came", kind, data)
		}
	}
}

// eventually asks until the answer is yes.
func eventually(t *testing.T, what string, yes func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); !yes(); <-tick.C {
		if time.Since(began) > 20*time.Second {
			t.Fatalf("waited for %s", what)
		}
	}
}

// issuedAt is a token's iat.
func issuedAt(t *testing.T, token string) int64 {
	t.Helper()
	var c claims
	if _, _, err := jwt.NewParser().ParseUnverified(token, &c); err != nil {
		t.Fatal(err)
	}
	return c.IssuedAt.Unix()
}
