package stream

import (
	"cmp"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

func TestOpenRefusesWhatDiffers(t *testing.T) {
	t.Parallel()
	l := openLog(t, listening)
	other := func(change func(*Config)) error {
		cfg := Config{URL: l.ClientURL(), Node: "other"}
		change(&cfg)
		o, err := Open(t.Context(), cfg)
		if err == nil {
			o.Close()
		}
		return err
	}
	if err := other(func(c *Config) { c.Shards = 8 }); err == nil || !strings.Contains(err.Error(), "8 shards asked for, the log was made with 1") {
		t.Errorf("Open with 8 shards of a log of 1 = %v", err)
	}
	if err := other(func(c *Config) { c.MaxAge, c.MaxBytes = time.Hour, 1<<30 }); err != nil {
		t.Errorf("Open with another age and size = %v", err)
	}
	s, err := l.js.Stream(t.Context(), eventsStream(0))
	if err != nil {
		t.Fatal(err)
	}
	if c := s.CachedInfo().Config; c.MaxAge != time.Hour || c.MaxBytes != 1<<30 {
		t.Errorf("after Open the stream keeps %v, %d bytes", c.MaxAge, c.MaxBytes)
	}
	if err := other(func(c *Config) { c.MaxAge = time.Minute }); err != nil {
		t.Errorf("Open with an age below the deduplication window = %v", err)
	}
	c := s.CachedInfo().Config
	c.MaxAge, c.MaxBytes, c.Duplicates, c.MaxMsgsPerSubject = time.Minute, -1, time.Minute, 5
	if _, err := l.js.UpdateStream(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := other(func(c *Config) { c.MaxAge = time.Minute }); err == nil || !strings.Contains(err.Error(), "REPRISE_EVENTS_0 has max_msgs_per_subject 5, want -1") {
		t.Errorf("Open of a stream with a limit per subject = %v", err)
	}
}

func TestStreamsAreAsTheContractSays(t *testing.T) {
	t.Parallel()
	l := openLog(t, func(c *Config) { c.Shards = 8 })
	for name, want := range map[string]struct {
		subject string
		age     time.Duration
		policy  jetstream.RetentionPolicy
		atomic  bool

		duplicates time.Duration // 0 is 5 minutes
		perUser    int64         // 0 is no bound, and the oldest make room
	}{
		"REPRISE_EVENTS_0":      {"reprise.ev.0.*", 168 * time.Hour, jetstream.LimitsPolicy, true, 0, 0},
		"REPRISE_EVENTS_7":      {"reprise.ev.7.*", 168 * time.Hour, jetstream.LimitsPolicy, true, 0, 0},
		"REPRISE_ANNOUNCEMENTS": {"reprise.all", time.Hour, jetstream.LimitsPolicy, false, time.Hour, 0},
		"REPRISE_DEAD":          {"reprise.dead.*", 14 * 24 * time.Hour, jetstream.LimitsPolicy, false, 0, 0},
		"REPRISE_OUTBOX":        {"reprise.out.*.*", 0, jetstream.WorkQueuePolicy, false, 0, 1000},
	} {
		s, err := l.js.Stream(t.Context(), name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		c := s.CachedInfo().Config
		if c.MaxMsgsPerSubject != cmp.Or(want.perUser, -1) || c.DiscardNewPerSubject != (want.perUser > 0) || (c.Discard == jetstream.DiscardNew) != (want.perUser > 0) {
			t.Errorf("%s keeps %d of a subject, discards %v, want %d", name, c.MaxMsgsPerSubject, c.Discard, want.perUser)
		}
		if c.Duplicates != cmp.Or(want.duplicates, 5*time.Minute) {
			t.Errorf("%s knows ids for %v", name, c.Duplicates)
		}
		if len(c.Subjects) != 1 || c.Subjects[0] != want.subject || c.MaxAge != want.age || c.Retention != want.policy ||
			c.AllowAtomicPublish != want.atomic || !c.AllowDirect || c.Storage != jetstream.FileStorage || c.Replicas != 1 {
			t.Errorf("%s = %+v, want %+v", name, c, want)
		}
	}
	for _, bucket := range []string{"REPRISE_CHECKPOINTS", "REPRISE_CURSORS", "REPRISE_STATE", "REPRISE_PRESENCE", "REPRISE_LEASES"} {
		if _, err := l.js.KeyValue(t.Context(), bucket); err != nil {
			t.Errorf("%s: %v", bucket, err)
		}
	}
}

func TestOpenChangesWhatAnEarlierBuildMade(t *testing.T) {
	t.Parallel()
	l := openLog(t, listening)
	stream := func(name string) jetstream.StreamConfig {
		t.Helper()
		s, err := l.js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return s.CachedInfo().Config
	}
	wantOutbox, wantAnnouncements := stream(outboxStream), stream(announcementsStream)
	for _, name := range []string{outboxStream, announcementsStream} {
		if err := l.js.DeleteStream(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []jetstream.StreamConfig{
		{Name: outboxStream, Subjects: []string{outboxSubjects}, Retention: jetstream.WorkQueuePolicy, Duplicates: 5 * time.Minute, AllowDirect: true, MaxConsumers: maxConsumers},
		{Name: announcementsStream, Subjects: []string{announcementsSubject}, MaxAge: time.Hour, Duplicates: 5 * time.Minute, AllowDirect: true, MaxConsumers: maxConsumers},
	} {
		if _, err := l.js.CreateStream(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Submit(t.Context(), update(alice, 0)); err != nil {
		t.Fatal(err)
	}
	if err := remote(t, l.ClientURL(), "new", nil).Submit(t.Context(), update(alice, 0)); err != nil {
		t.Fatal(err)
	}
	wantDepth(t, l, 1) // and what was in there, and its id, are kept
	for want, got := range map[*jetstream.StreamConfig]jetstream.StreamConfig{
		&wantOutbox: stream(outboxStream), &wantAnnouncements: stream(announcementsStream),
	} {
		if !reflect.DeepEqual(got, *want) {
			t.Errorf("Open made of an earlier build's %s %+v, want %+v", want.Name, got, *want)
		}
	}
}

func TestOpenRefusesBadSettingsAllAtOnce(t *testing.T) {
	t.Parallel()
	_, err := Open(t.Context(), Config{DataDir: t.TempDir(), Shards: -1, Replicas: 3, MaxAge: time.Millisecond, MaxBytes: -5})
	if err == nil {
		t.Fatal("Open with bad settings = nil")
	}
	for _, want := range []string{"-1 shards", "3 replicas", "1ms", "-5 bytes"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Open = %v, want it to name %q", err, want)
		}
	}
}

func TestDataDirectoryIsLocked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := openLog(t, func(c *Config) { c.DataDir = dir })
	if _, err := Open(t.Context(), Config{DataDir: dir}); err == nil || !strings.Contains(err.Error(), dir+" is in use by another process") {
		t.Errorf("second Open of a directory = %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := openLog(t, func(c *Config) { c.DataDir = dir }).Close(); err != nil {
		t.Errorf("Open after Close = %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{DataDir: filepath.Join(file, "below")}); err == nil {
		t.Error("Open below a file = nil")
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"edge-1": "edge-1", "host.example": "host-example", "": "node", "a b*>é": "a-b---", strings.Repeat("x", 99): strings.Repeat("x", 64),
	} {
		if got := SafeName(in); got != want {
			t.Errorf("SafeName(%q) = %q, want %q", in, got, want)
		}
	}
	// FNV-1a 32 of the 36 characters, pinned: S is fixed for a log's life.
	for user, want := range map[string]int{alice: shardOf(alice, 8), bob: shardOf(bob, 8)} {
		var h uint32 = 2166136261
		for i := range len(user) {
			h = (h ^ uint32(user[i])) * 16777619
		}
		if want != int(h%8) {
			t.Errorf("shardOf(%s, 8) = %d, want %d", user, want, h%8)
		}
	}
}
