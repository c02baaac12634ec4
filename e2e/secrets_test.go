package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"reprise/bridge/pubnubtest"
)

// What is planted, and what all of it has in it.
const (
	planted             = "hunter2"
	plantedSubscribeKey = "sub-c-hunter2-key"
	plantedPublishKey   = "pub-c-hunter2-key"
	plantedToken        = "p0F2AkF0Gl_hunter2_token"
	plantedText         = "a hunter2 text"
)

// TestOutputHoldsNothingSecret has PubNub fail in each of its calls in the ways
// whose errors hold the URL or a piece of the reply, and looks for the keys, the
// token and any payload in what the program writes at its finest level: about
// polls, history, channel groups, publishes, devices and dead letters.
func TestOutputHoldsNothingSecret(t *testing.T) {
	t.Parallel()
	for name, more := range map[string][]string{"wildcard": nil, "lanes": {"--pubnub-lanes"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const missed = 300 // more than PubNub's queue has room for
			pubnub := emulatorWith(t, pubnubtest.Config{SubscribeKey: plantedSubscribeKey, PublishKey: plantedPublishKey, RequirePAM: true})
			const all = pubnubtest.Read | pubnubtest.Write | pubnubtest.Manage
			pubnub.SetToken(plantedToken, pubnubtest.Token{ChannelPatterns: map[string]int{".*": all}, GroupPatterns: map[string]int{".*": all}})
			relay := serveBare(t, pubnub.Addr(), append([]string{"--auth", "none", "--log-level", "debug", "--pubnub-token", plantedToken,
				"--pubnub-subscribe-key", plantedSubscribeKey, "--pubnub-publish-key", plantedPublishKey}, more...)...)
			run := newRun(t, relay)
			user := userNo(1)
			publish := func(n int) {
				for i := range n {
					pubnub.Publish("user."+user+".notifications", fmt.Appendf(nil, `{"text":"%s","n":%d}`, plantedText, i),
						pubnubtest.Meta([]byte(`{"text":"`+plantedText+`"}`)))
				}
			}

			endpoints := []pubnubtest.Endpoint{pubnubtest.Poll, pubnubtest.Publish}
			if name == "lanes" {
				endpoints = append(endpoints, pubnubtest.Groups)
			}
			hit := plantFaults(pubnub, endpoints...)
			c := run.device(user, deviceNo(1)).connect("latest")
			c.caughtUp()
			for i := range 10 {
				c.send(fmt.Sprintf(`{"type":"device_command","id":"%s","target_device_id":"%s","command_type":"show","payload":{"text":"%s"}}`,
					updateNo(i), deviceNo(2), plantedText))
				c.accepted(i)
			}
			c.send(`{"type":"` + plantedText + `","id":"` + updateNo(99) + `"}`)
			c.answered(99)
			publish(20)
			pubnub.Publish("user."+user+".sync", []byte(`{"type":"`+plantedText+`","device_id":"`+plantedText+`"}`))
			pubnub.Publish("user."+user+".notifications", []byte(`"`+plantedText+`"`))
			relay.await("dead letters", func() bool { return relay.metric("reprise_dead_letters_total") >= 3 })
			run.awaitLog(user, 20+9) // one update is what PubNub has refused
			publish(1)               // a poll brings it, whatever brought the others
			run.awaitLog(user, 20+9+1)
			for _, fault := range hit {
				fault(t)
			}
			// Detail and all are an operator's to see, the payload is not among them.
			if list, code := relay.command("dead", "list", "--json"); code != 0 || strings.Contains(list, planted) {
				t.Errorf("reprise dead list exits with %d and prints %s, want 0 and no payload", code, list)
			}

			first := relay.proc
			relay.proc.kill()
			publish(missed)
			hit = plantFaults(pubnub, pubnubtest.MessageCounts, pubnubtest.History)
			relay.start()
			run.awaitLog(user, 20+9+1+missed)
			for _, fault := range hit {
				fault(t)
			}
			relay.proc.signal(syscall.SIGTERM)
			if code := relay.proc.exit(t); code != 0 {
				t.Errorf("exit code after SIGTERM = %d, want 0", code)
			}
			said := ""
			for _, p := range []*process{first, relay.proc} {
				said += p.said() + "\n" + strings.Join(p.stdout, "\n")
			}
			for _, level := range []string{"DEBUG", "WARN"} {
				if !strings.Contains(said, `"level":"`+level+`"`) {
					t.Errorf("the program has logged nothing at level %s", level)
				}
			}
			for line := range strings.Lines(said) {
				if strings.Contains(line, planted) {
					t.Errorf("the program says %s", line)
				}
			}
		})
	}
}

// plantFaults has the next requests at each of some endpoints fail, one after
// the other, and returns functions that wait for that.
func plantFaults(pubnub *pubnubtest.Server, endpoints ...pubnubtest.Endpoint) (hit []func(testing.TB)) {
	for _, endpoint := range endpoints {
		faults := []pubnubtest.Fault{
			{Kind: pubnubtest.Garbage},
			{Kind: pubnubtest.Status, Status: http.StatusInternalServerError, Body: plantedText},
			{Kind: pubnubtest.Status, Status: http.StatusOK, Body: `{"error":true,"message":"` + plantedText + `"}`},
			{Kind: pubnubtest.Status, Status: http.StatusTooManyRequests, Body: `{"message":"` + plantedText + `"}`},
		}
		if endpoint == pubnubtest.Publish {
			faults = append(faults, pubnubtest.Fault{Kind: pubnubtest.Status, Status: http.StatusBadRequest, Body: `[0,"` + plantedText + `","1"]`})
		}
		for _, f := range faults {
			f.Endpoint, f.Times = endpoint, 1
			injection := pubnub.Inject(f)
			hit = append(hit, func(t testing.TB) {
				t.Helper()
				if err := injection.WaitHits(within(t), 1); err != nil {
					t.Fatalf("fault %s (%d) of %s: %v", f.Kind, f.Status, f.Endpoint, err)
				}
			})
		}
	}
	return hit
}
