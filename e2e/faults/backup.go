package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"reprise/e2e"
)

// A backup is a stream as JetStream's own backup has it (what `nats stream backup`
// writes to files).
type backup struct {
	Config json.RawMessage `json:"config"`
	State  json.RawMessage `json:"state"`
	chunks [][]byte
}

type apiAnswer struct {
	Error *struct {
		Description string `json:"description"`
	} `json:"error"`
}

func (c *Cluster) api(ctx context.Context, what string, question, answer any) error {
	data, err := json.Marshal(question)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	m, err := c.nc.RequestWithContext(ctx, "$JS.API."+what, data)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	var e apiAnswer
	if err := json.Unmarshal(m.Data, &e); err != nil {
		return fmt.Errorf("%s: %s: %w", what, m.Data, err)
	}
	if e.Error != nil {
		return fmt.Errorf("%s: %s", what, e.Error.Description)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(m.Data, answer)
}

// takeBackup reads a stream's backup, without its consumers.
func (c *Cluster) takeBackup(ctx context.Context, stream string) (backup, error) {
	inbox := nats.NewInbox()
	sub, err := c.nc.SubscribeSync(inbox)
	if err != nil {
		return backup{}, err
	}
	defer sub.Unsubscribe()
	var b backup
	if err := c.api(ctx, "STREAM.SNAPSHOT."+stream, map[string]any{"deliver_subject": inbox, "no_consumers": true}, &b); err != nil {
		return backup{}, err
	}
	for {
		m, err := sub.NextMsg(10 * time.Second)
		if err != nil {
			return backup{}, fmt.Errorf("backup of %s: %w", stream, err)
		}
		if len(m.Data) == 0 {
			return b, nil
		}
		b.chunks = append(b.chunks, m.Data)
		if m.Reply != "" {
			if err := m.Respond(nil); err != nil {
				return backup{}, err
			}
		}
	}
}

// putBack puts a backup in the place of its stream.
func (c *Cluster) putBack(ctx context.Context, stream string, b backup) error {
	if err := c.js.DeleteStream(ctx, stream); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("restore of %s: %w", stream, err)
	}
	var to struct {
		Subject string `json:"deliver_subject"`
	}
	if err := c.api(ctx, "STREAM.RESTORE."+stream, b, &to); err != nil {
		return err
	}
	for _, data := range append(b.chunks, nil) {
		m, err := c.nc.Request(to.Subject, data, 10*time.Second)
		if err != nil {
			return fmt.Errorf("restore of %s: %w", stream, err)
		}
		var e apiAnswer
		if len(m.Data) > 0 && (json.Unmarshal(m.Data, &e) != nil || e.Error != nil) {
			return fmt.Errorf("restore of %s: %s", stream, m.Data)
		}
	}
	return nil
}

// restore puts the backup of a shard in its place, while nobody can write and nothing
// else is wrong, and returns when every edge must know of it.
func (r *Run) restore(ctx context.Context, shard int) error {
	if err := r.replace(ctx, shard); err != nil {
		return err
	}
	sleep(ctx, unaware)
	return nil
}

// leads returns nil when who answers for a shard's stream hears from a follower: one that
// was paused answers from its past until it hears of its successor.
func (c *Cluster) leads(ctx context.Context, shard int) error {
	s, err := c.js.Stream(ctx, eventsStream(shard))
	if err != nil {
		return err
	}
	for _, p := range s.CachedInfo().Cluster.Replicas {
		if !p.Offline && p.Active < 2*time.Second {
			return nil
		}
	}
	return fmt.Errorf("%s hears from no follower", s.CachedInfo().Cluster.Leader)
}

func (r *Run) replace(ctx context.Context, shard int) error {
	for _, b := range r.cluster.Bridges {
		b.busy.Lock()
		defer b.busy.Unlock()
		b.Signal(syscall.SIGSTOP)
		defer b.Signal(syscall.SIGCONT)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var records []e2e.Record
	err := r.insist(ctx, "reading before a restore", func(ctx context.Context) (err error) {
		for range 3 {
			sleep(ctx, 500*time.Millisecond) // for what was on its way, and for a leader of the past to hear so
			if err := r.cluster.leads(ctx, shard); err != nil {
				return err
			}
		}
		records, err = r.cluster.recordsOf(ctx, shard)
		return err
	})
	if err != nil {
		return err
	}
	began := time.Now().UnixNano()
	b, ok := r.backups[shard]
	if !ok || len(records) == 0 {
		return fmt.Errorf("no backup of shard %d, or no record in it", shard)
	}
	if err := r.insist(ctx, "restoring", func(ctx context.Context) error { return r.cluster.putBack(ctx, eventsStream(shard), b) }); err != nil {
		return err
	}
	r.cluster.read[shard].forget()
	old := era{shard: shard, logs: e2e.LogsOf(records), newest: records[len(records)-1].Hlc, stored: make(map[string]bool), from: began, until: time.Now().UnixNano()}
	if err := r.insist(ctx, "reading after a restore", func(ctx context.Context) error {
		records, err := r.cluster.recordsOf(ctx, shard)
		if err == nil && len(records) > 0 {
			old.last = records[len(records)-1].Hlc
		}
		return err
	}); err != nil {
		return err
	}
	old.gap = lastGap(records, shard)
	for _, rec := range records {
		if rec.Hlc > old.last && rec.User != "" {
			old.stored[rec.User+e2e.Blank(rec.Frame)] = true
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.eras = append(r.eras, old)
	r.note("shard %d ends at %s instead of %s: a backup was put in its place", shard, old.last, old.newest)
	return nil
}
