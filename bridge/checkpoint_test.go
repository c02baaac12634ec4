package bridge

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"reprise/bridge/pubnubtest"
)

// TestCheckpointBeforeFirstPoll looks at the buckets when the first poll with a
// cursor comes in: the log's origin is that cursor, so that a shard without a
// checkpoint is followed from there, whoever takes it when.
func TestCheckpointBeforeFirstPoll(t *testing.T) {
	t.Parallel()
	r := newRig(t, 8, pubnubtest.Config{})
	held := r.pubnub.Inject(pubnubtest.Fault{Kind: pubnubtest.Hold, Endpoint: pubnubtest.Poll, Times: 1})
	r.start()
	if err := held.WaitHits(testContext(t), 1); err != nil {
		t.Fatal(err)
	}
	var tt string
	for _, q := range r.pubnub.Journal() {
		if q.Endpoint == pubnubtest.Poll && tt == "" {
			_, tt, _ = strings.Cut(q.URI, "tt=")
			tt, _, _ = strings.Cut(tt, "&")
		}
	}
	if origin, _, err := r.log.Origin(testContext(t)); err != nil || origin != tt {
		t.Errorf("Origin() = %q, %v, want %q", origin, err, tt)
	}
	held.Clear()
}

// checkpoints reads every shard's checkpoint as it is stored, by key.
func (r *rig) checkpoints() (jetstream.KeyValue, map[string]string) {
	r.t.Helper()
	kv, err := r.jetStream().KeyValue(testContext(r.t), "REPRISE_CHECKPOINTS")
	if err != nil {
		r.t.Fatal(err)
	}
	keys, err := kv.Keys(testContext(r.t))
	if err != nil {
		r.t.Fatal(err)
	}
	all := make(map[string]string)
	for _, key := range keys {
		if !strings.HasPrefix(key, "shard.") {
			continue
		}
		e, err := kv.Get(testContext(r.t), key)
		if err != nil {
			r.t.Fatal(err)
		}
		all[key] = string(e.Value())
	}
	return kv, all
}

// timetokenOf is the timetoken in a stored checkpoint.
func timetokenOf(checkpoint string) string {
	_, rest, _ := strings.Cut(checkpoint, `"timetoken":"`)
	timetoken, _, _ := strings.Cut(rest, `"`)
	return timetoken
}

// TestOldestCheckpoint gives one shard an older checkpoint than the others, as
// a crash between two saves leaves it: polling goes on from there, and what
// the other shards have is not stored twice.
func TestOldestCheckpoint(t *testing.T) {
	t.Parallel()
	r := newRig(t, 4, pubnubtest.Config{PageSize: 10})
	r.follow()
	stop := r.start()
	oldest, _, err := r.log.Origin(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	r.publishNumbered(0, 60, 6)
	all := r.events(60)
	stop()
	kv, after := r.checkpoints()
	if len(after) != 4 {
		t.Fatalf("checkpoints = %v, want 4", after)
	}
	for key, saved := range after {
		if _, err := kv.Put(testContext(t), key, []byte(strings.Replace(saved, timetokenOf(saved), oldest, 1))); err != nil {
			t.Fatal(err)
		}
		break
	}
	journal := r.pubnub.Journal()
	r.start()
	// A shard whose lease comes late joins when the others are polling already.
	back := func(q pubnubtest.Request) bool { return r.polls(q) && strings.Contains(q.URI, "tt="+oldest) }
	if _, err := r.pubnub.WaitRequest(testContext(t), journal[len(journal)-1].N, back); err != nil {
		t.Fatalf("no poll from timetoken %s: %v", oldest, err)
	}
	r.publishNumbered(60, 30, 6)
	checkNumbered(t, append(all, r.events(30)...), 90)
	r.noMore(userN(0))
}

// TestDeadLetterBeforeCheckpoint takes the dead letters' stream away: the
// checkpoint stays, a stop still ends in time, and when the stream is there
// again, so is the dead letter.
func TestDeadLetterBeforeCheckpoint(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, pubnubtest.Config{})
	r.cfg.StopTimeout = 200 * time.Millisecond
	js := r.jetStream()
	dead, err := js.Stream(testContext(t), "REPRISE_DEAD")
	if err != nil {
		t.Fatal(err)
	}
	config := dead.CachedInfo().Config
	if err := js.DeleteStream(testContext(t), "REPRISE_DEAD"); err != nil {
		t.Fatal(err)
	}
	r.follow()
	stop := r.start()
	_, before := r.checkpoints()
	r.pubnub.Publish("user."+testUser+".sync", []byte(`"bad"`))
	r.pubnub.Publish("user."+testUser+".notifications", []byte(`{"n":0}`))
	if err := r.logged.wait(testContext(t), "not stored yet", 1); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	stop()
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("Run() returned after %s, want about StopTimeout", d)
	}
	if _, after := r.checkpoints(); timetokenOf(after["0"])+timetokenOf(after["1"]) != timetokenOf(before["0"])+timetokenOf(before["1"]) {
		t.Errorf("checkpoints = %v before the dead letter is stored, want %v", after, before)
	}
	if _, err := js.CreateStream(testContext(t), config); err != nil {
		t.Fatal(err)
	}
	r.start()
	if m := r.dead(1)[0]; string(m.Data()) != `"bad"` {
		t.Errorf("dead letter = %s, want the payload", m.Data())
	}
	checkNumbered(t, r.events(1), 1)
	r.noMore(testUser)
}

// TestRunTwice refuses a second Run at a time.
func TestRunTwice(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, pubnubtest.Config{})
	r.start()
	if err := r.b.Run(context.Background()); err == nil {
		t.Error("second Run() = nil, want an error")
	}
}
