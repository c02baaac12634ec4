package e2e

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"reprise/bridge/pubnubtest"
)

// TestHundredsOfKills kills the program together with its embedded log 200
// times, while it starts and after its first poll, and publishes all the while:
// the log has every message once, in each publisher's order. A kill counts if
// SIGKILL ended the process and nothing did before.
func TestHundredsOfKills(t *testing.T) {
	t.Parallel()
	const kills, users, perSecond = 200, 20, 200
	const most = 250 * time.Millisecond // that it lives behind its first poll
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	upTo := func(d time.Duration) time.Duration { return time.Duration(chance.Int64N(int64(d))) }
	pubnub := emulatorWith(t, pubnubtest.Config{QueueSize: 100_000})
	relay := serve(t, pubnub.Addr())
	run := newRun(t, relay)
	stop := run.keepPublishing(pubnub.Addr(), users, perSecond)
	defer stop()

	began := time.Now()
	relay.proc.runs(upTo(most))
	relay.proc.kill()
	early, starts := 0, []time.Duration{} // kills before the first poll; from the start to it
	for killed := 1; killed < kills; killed++ {
		launched := time.Now()
		requests := pubnub.Journal()
		relay.proc = launch(t, slices.Concat(relay.args, []string{"--log-level", "warn"})...)
		if len(starts) > 0 && chance.IntN(3) == 0 {
			early++
			relay.proc.runs(upTo(starts[chance.IntN(len(starts))]))
		} else {
			awaitPollOf(t, pubnub, relay.proc, requests[len(requests)-1].N)
			starts = append(starts, time.Since(launched))
			relay.proc.runs(upTo(most))
		}
		relay.proc.kill()
		if !relay.proc.killed() {
			t.Fatalf("after %d kills the program ended by itself: %v\n%s", killed, relay.proc.cmd.ProcessState, relay.proc.said())
		}
	}
	slices.Sort(starts)
	t.Logf("%d kills in %v, %d of them before the first poll, which took %v as median",
		kills, time.Since(began).Round(time.Second), early, starts[len(starts)/2].Round(time.Millisecond))
	stop()
	relay.start()
	for i := range users {
		run.device(userNo(i), deviceNo(i)).connect("earliest")
	}
	run.judge(pubnub.Addr())
	if early < kills/6 {
		t.Errorf("%d of %d kills came before the first poll, want more", early, kills)
	}
}

// awaitPollOf returns when a process that was started after a request has
// polled.
func awaitPollOf(t testing.TB, pubnub *pubnubtest.Server, p *process, after int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() {
		select {
		case <-p.exited:
			cancel()
		case <-ctx.Done():
		}
	}()
	_, err := pubnub.WaitRequest(ctx, after, func(r pubnubtest.Request) bool { return r.Endpoint == pubnubtest.Poll })
	if err != nil {
		t.Fatalf("the program has not polled: %v\n%s", err, p.said())
	}
}
