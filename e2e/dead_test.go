package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// command runs a command that asks the relay's admin listener, and returns what
// it prints and its exit code.
func (r *relay) command(args ...string) (printed string, code int) {
	r.t.Helper()
	p := launch(r.t, append(args, "--admin-url", "http://"+r.admin)...)
	code = p.exit(r.t)
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.stdout, "\n"), code
}

// TestDeadLettersFromTheCommandLine buries messages with ids that are no UUIDs,
// has the rule changed by a restart, and judges them anew: the one that keeps
// the rules by now comes last in its user's log, with a new stamp and the old
// timestamp, once; the other stays where it is.
func TestDeadLettersFromTheCommandLine(t *testing.T) {
	t.Parallel()
	pubnub := emulator(t)
	relay := serve(t, pubnub.Addr())
	run := newRun(t, relay)
	user := userNo(1)
	good := run.publisher(pubnub.Addr())
	late := progress(user, deviceNo(9), 17)
	late.payload = strings.Replace(late.payload, content, "movie-17", 1)
	late.frame = strings.Replace(late.frame, content, "movie-17", 1)
	good.publish(notice(user, "before"))
	run.publisher(pubnub.Addr()).publish(late)
	good.refused("user."+user+".sync", `{"type":"poison","device_id":"d"}`, "poison")
	good.publish(notice(user, "behind"))
	run.awaitLog(user, 2)

	numbers := make(map[string]string) // by reason: of one page any may be the first
	relay.await("two dead letters", func() bool {
		clear(numbers)
		list, code := relay.command("dead", "list", "--json")
		for line := range strings.Lines(list) {
			var d struct {
				Seq             int
				Reason, Channel string
			}
			if err := json.Unmarshal([]byte(line), &d); err != nil || d.Channel != "user."+user+".sync" {
				t.Fatalf("reprise dead list prints %q (%v), want a dead letter of the user", line, err)
			}
			numbers[d.Reason] = fmt.Sprint(d.Seq)
		}
		return code == 0 && len(numbers) == 2
	})
	badID, unknown := numbers["bad_id"], numbers["unknown_type"]
	if shown, code := relay.command("dead", "show", badID); code != 0 || !strings.Contains(shown, late.payload) {
		t.Errorf("reprise dead show exits with %d and prints %q, want 0 and %s", code, shown, late.payload)
	}
	retry := func(n, want string, wantCode int) {
		t.Helper()
		if printed, code := relay.command("dead", "retry", n); code != wantCode || !strings.HasPrefix(printed, n+"  "+want) {
			t.Errorf("reprise dead retry %s exits with %d and prints %q, want %d and %s", n, code, printed, wantCode, want)
		}
	}
	retry(badID, "refused: bad_id", 1)

	relay.args = append(relay.args, "--id-format", "opaque")
	relay.restart()
	c := run.device(user, deviceNo(1)).connect("earliest")
	good.publish(notice(user, "behind the restart"))
	c.await("what came before", notice(user, "behind the restart").arrived())
	retry(badID, "stored", 0)
	c.await("the event that was a dead letter", late.arrived())
	log := relay.log(user)
	if got := log[len(log)-1].Frame; len(log) != 4 || Blank(got) != late.frame {
		t.Errorf("the last of %d events is %s, want the 4th to be %s", len(log), got, late.frame)
	}
	retry(badID, "gone", 0)
	retry(unknown, "refused: unknown_type", 1)
	run.judge(pubnub.Addr())
}
