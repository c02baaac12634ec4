package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
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
