package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// metaShards is the stream metadata key that keeps the number of shards,
	// on every shard's stream.
	metaShards = "reprise-shards"
	// maxConsumers replaces the server's default of 1,000 for a stream.
	maxConsumers = 10_000
	// announcementsAge is how long announcements are kept, and their ids known.
	announcementsAge = time.Hour
	// outboxBytes and outboxPerUser bound the outbox and one user's part of it.
	// When either is reached, Submit returns ErrOutboxFull: what was accepted is
	// never pushed out.
	outboxBytes   = 256 << 20
	outboxPerUser = 1000
)

// loose are the settings that an earlier build made otherwise. They are changed
// in place, as age, bytes and replicas are everywhere.
var loose = map[string][]string{
	announcementsStream: {"duplicate_window"},
	outboxStream:        {"discard", "discard_new_per_subject", "max_msgs_per_subject"},
}

// define creates what is missing, changes age, bytes and replicas in place,
// and refuses anything else that differs.
func (l *Log) define(ctx context.Context) error {
	clustered := l.nc.ConnectedClusterName() != ""
	replicas := l.cfg.Replicas
	if replicas == 0 {
		replicas = 1
		if clustered {
			replicas = 3
		}
	}
	n, err := l.countShards(ctx, clustered)
	if err != nil {
		return err
	}
	duplicates := min(cmp.Or(l.cfg.Duplicates, defaultDuplicates), l.cfg.MaxAge)
	wanted := []jetstream.StreamConfig{{
		Name: announcementsStream, Subjects: []string{announcementsSubject},
		MaxAge: announcementsAge, Duplicates: announcementsAge, AllowDirect: true,
	}, {
		Name: deadStream, Subjects: []string{deadSubject + "*"},
		MaxAge: 14 * 24 * time.Hour, MaxBytes: 128 << 20, Duplicates: defaultDuplicates, AllowDirect: true,
	}, {
		Name: outboxStream, Subjects: []string{outboxSubjects}, Retention: jetstream.WorkQueuePolicy,
		Discard: jetstream.DiscardNew, DiscardNewPerSubject: true, MaxBytes: outboxBytes, MaxMsgsPerSubject: outboxPerUser,
		Duplicates: defaultDuplicates, AllowDirect: true,
	}}
	for i := range n {
		wanted = append(wanted, jetstream.StreamConfig{
			Name: eventsStream(i), Subjects: []string{eventsPrefix(i) + "*"},
			MaxAge: l.cfg.MaxAge, MaxBytes: l.cfg.MaxBytes, Duplicates: duplicates,
			AllowDirect: true, AllowAtomicPublish: true,
			Metadata: map[string]string{metaShards: strconv.Itoa(n)},
		})
	}
	var errs []error
	for _, want := range wanted {
		want.Storage, want.Replicas, want.MaxConsumers = jetstream.FileStorage, replicas, maxConsumers
		want.MaxBytes, want.MaxMsgsPerSubject = cmp.Or(want.MaxBytes, -1), cmp.Or(want.MaxMsgsPerSubject, -1)
		errs = append(errs, l.ensure(ctx, want))
	}
	for _, b := range []jetstream.KeyValueConfig{
		{Bucket: checkpointsBucket},
		{Bucket: cursorsBucket},
		{Bucket: stateBucket},
		{Bucket: presenceBucket, TTL: time.Minute},
		{Bucket: leasesBucket},
	} {
		b.Storage, b.Replicas = jetstream.FileStorage, replicas
		errs = append(errs, wrap("bucket "+b.Bucket, l.ensureBucket(ctx, b)))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for i := range n {
		l.shards = append(l.shards, newShard(l, i))
	}
	return nil
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("stream: %s: %w", what, err)
}

// countShards reads the number of shards from the log, or decides it for a
// new one.
func (l *Log) countShards(ctx context.Context, clustered bool) (int, error) {
	n, err := shardsThere(ctx, l.js)
	if err != nil {
		return 0, err
	}
	if n == 0 {
		switch {
		case l.cfg.Shards != 0:
			return l.cfg.Shards, nil
		case clustered:
			return 8, nil
		}
		return 1, nil
	}
	if l.cfg.Shards != 0 && l.cfg.Shards != n {
		return 0, fmt.Errorf("stream: %d shards asked for, the log was made with %d and keeps them", l.cfg.Shards, n)
	}
	return n, nil
}

// shardsThere is how many shards the log says that it has, 0 where there is no log.
func shardsThere(ctx context.Context, js jetstream.JetStream) (int, error) {
	first, err := js.Stream(ctx, eventsStream(0))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, wrap(eventsStream(0), err)
	}
	n, err := strconv.Atoi(first.CachedInfo().Config.Metadata[metaShards])
	if err != nil || n < 1 {
		return 0, fmt.Errorf("stream: %s does not say how many shards the log has (metadata %s)", eventsStream(0), metaShards)
	}
	return n, nil
}

// ensure creates the stream want or checks the one that exists against it.
func (l *Log) ensure(ctx context.Context, want jetstream.StreamConfig) error {
	s, err := l.js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if _, err = l.js.CreateStream(ctx, want); !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return wrap(want.Name, err)
		}
		s, err = l.js.Stream(ctx, want.Name) // another process was quicker
	}
	if err != nil {
		return wrap(want.Name, err)
	}
	have := s.CachedInfo().Config
	if err := differences(have, want); err != nil {
		return err
	}
	next := have
	next.MaxAge, next.MaxBytes, next.Replicas, next.Duplicates = want.MaxAge, want.MaxBytes, want.Replicas, want.Duplicates
	next.Discard, next.DiscardNewPerSubject, next.MaxMsgsPerSubject = want.Discard, want.DiscardNewPerSubject, want.MaxMsgsPerSubject
	if reflect.DeepEqual(have, next) {
		return nil
	}
	_, err = l.js.UpdateStream(ctx, next)
	return wrap(want.Name, err)
}

// ensureBucket creates the bucket want or gives the one that exists as many
// replicas: without leases and checkpoints no shard can be written.
func (l *Log) ensureBucket(ctx context.Context, want jetstream.KeyValueConfig) error {
	s, err := l.js.Stream(ctx, kvStream(want.Bucket))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = l.js.CreateKeyValue(ctx, want)
		return err
	}
	if err != nil {
		return err
	}
	have := s.CachedInfo().Config
	if have.Replicas == want.Replicas {
		return nil
	}
	have.Replicas = want.Replicas
	_, err = l.js.UpdateStream(ctx, have)
	return err
}

// differences names everything in which have differs from want and that is
// not changed in place (see loose). The deduplication window follows the age.
func differences(have, want jetstream.StreamConfig) error {
	var errs []error
	for _, f := range []struct {
		what       string
		same       bool
		have, want any
	}{
		{"subjects", slices.Equal(have.Subjects, want.Subjects), have.Subjects, want.Subjects},
		{"retention", have.Retention == want.Retention, have.Retention, want.Retention},
		{"storage", have.Storage == want.Storage, have.Storage, want.Storage},
		{"discard", have.Discard == want.Discard, have.Discard, want.Discard},
		{"discard_new_per_subject", have.DiscardNewPerSubject == want.DiscardNewPerSubject, have.DiscardNewPerSubject, want.DiscardNewPerSubject},
		{"allow_direct", have.AllowDirect == want.AllowDirect, have.AllowDirect, want.AllowDirect},
		{"allow_atomic", have.AllowAtomicPublish == want.AllowAtomicPublish, have.AllowAtomicPublish, want.AllowAtomicPublish},
		{"duplicate_window", have.Duplicates == want.Duplicates || have.MaxAge != want.MaxAge, have.Duplicates, want.Duplicates},
		{"max_consumers", have.MaxConsumers == want.MaxConsumers, have.MaxConsumers, want.MaxConsumers},
		{"max_msgs", have.MaxMsgs <= 0, have.MaxMsgs, -1},
		{"max_msgs_per_subject", max(have.MaxMsgsPerSubject, 0) == max(want.MaxMsgsPerSubject, 0), have.MaxMsgsPerSubject, want.MaxMsgsPerSubject},
		{"max_msg_size", have.MaxMsgSize <= 0, have.MaxMsgSize, -1},
		{"no_ack", !have.NoAck, have.NoAck, false},
		{"sealed", !have.Sealed, have.Sealed, false},
		{"mirror", have.Mirror == nil, "one", "none"},
		{"sources", len(have.Sources) == 0, "some", "none"},
		{"metadata " + metaShards, have.Metadata[metaShards] == want.Metadata[metaShards], have.Metadata[metaShards], want.Metadata[metaShards]},
	} {
		if !f.same && !slices.Contains(loose[want.Name], f.what) {
			errs = append(errs, fmt.Errorf("stream: %s has %s %v, want %v", want.Name, f.what, f.have, f.want))
		}
	}
	return errors.Join(errs...)
}
