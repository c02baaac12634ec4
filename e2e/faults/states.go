package faults

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"reprise/e2e"
	"reprise/edge/client"
)

// position is what was said last of a content.
type position struct {
	Content   string `json:"content_id"`
	Position  int    `json:"position"`
	Device    string `json:"device_id"`
	Timestamp string `json:"timestamp"`
}

// positions are those of a user, by content: the newest by its origin's timestamp, of
// equal ones that of the greater device.
type positions map[string]position

func (all positions) take(p position) {
	have, known := all[p.Content]
	then, _ := strconv.Atoi(have.Timestamp) // devices write nothing else
	now, _ := strconv.Atoi(p.Timestamp)
	if !known || cmp.Or(cmp.Compare(now, then), cmp.Compare(p.Device, have.Device)) > 0 {
		all[p.Content] = p
	}
}

// judgeStates has a new device of each user ask for the user's state, and holds what it
// gets against the log: the state, and what comes after it over the same connection.
func (r *Run) judgeStates(ctx context.Context, logs map[string][]e2e.Entry) {
	for u := range r.load.Users {
		user := userNo(u)
		want := make(positions)
		for _, e := range logs[user] {
			var p position
			if json.Unmarshal([]byte(e.Frame), &p) == nil && p.Content != "" {
				want.take(p)
			}
		}
		limit, cancel := context.WithTimeout(ctx, caughtUpWithin)
		var got positions
		err := r.insist(limit, "the state of "+user, func(ctx context.Context) (err error) {
			got, err = r.stateOf(ctx, user, deviceNo(1_000_000+u), want)
			return err
		})
		cancel()
		if err != nil || !maps.Equal(got, want) {
			r.wrong("the state of user %s is %v, and of the log %v: %v; %s", user, got, want, err, r.replicas(ctx, "*."+user))
		}
	}
}

// replicas is what each server that comes to lead the bucket of states has under a key:
// where they differ NATS has lost something.
func (r *Run) replicas(ctx context.Context, key string) string {
	const bucket = "KV_REPRISE_STATE"
	var all []string
	for range 3 {
		var have struct {
			Message struct {
				Seq  uint64 `json:"seq"`
				Data []byte `json:"data"`
			} `json:"message"`
		}
		s, err := r.cluster.js.Stream(ctx, bucket)
		if err == nil {
			err = r.cluster.api(ctx, "STREAM.MSG.GET."+bucket, map[string]any{"last_by_subj": "$KV.REPRISE_STATE.fold." + key}, &have)
		}
		if err != nil {
			all = append(all, err.Error())
		} else {
			all = append(all, fmt.Sprintf("%s: revision %d of %d: %s", s.CachedInfo().Cluster.Leader, have.Message.Seq, s.CachedInfo().State.LastSeq, have.Message.Data))
		}
		if err := r.cluster.api(ctx, "STREAM.LEADER.STEPDOWN."+bucket, struct{}{}, nil); err != nil {
			all = append(all, err.Error())
		}
		sleep(ctx, 3*time.Second)
	}
	return strings.Join(all, "; ")
}

// stateOf is what a device of user has that asks for a snapshot, and applies what comes
// after it, until it has what is wanted or the context ends: an edge that was paused may
// be some seconds behind the log, and sends the rest when it has it.
func (r *Run) stateOf(ctx context.Context, user, id string, want positions) (positions, error) {
	got, snapshots := make(positions), 0
	ctx, done := context.WithCancel(ctx)
	defer done()
	resumed := false
	look := func() {
		if resumed && maps.Equal(got, want) {
			done()
		}
	}
	c, err := client.New(client.Config{
		URL: "ws://edge/ws", User: user, Device: id, Since: "earliest", Snapshot: true,
		MinBackoff: minBackoff, MaxBackoff: maxBackoff, DialTimeout: dialPatience,
		Dial: r.dialEdge(""),
		OnFrame: func(f client.Frame) {
			var p position
			switch f.Type {
			case "welcome": // anew, if it was cut
				clear(got)
				snapshots, resumed = 0, false
			case "snapshot":
				var s struct{ Progress []position }
				if json.Unmarshal(f.Raw, &s) == nil {
					snapshots++
					for _, p := range s.Progress {
						got.take(p)
					}
				}
			case "progress_update":
				if json.Unmarshal(f.Raw, &p) == nil {
					got.take(p)
					look()
				}
			}
		},
		OnResumed: func(client.Resumed) { resumed = true; look() },
	})
	if err != nil {
		return nil, err
	}
	if err := c.Run(ctx); err != nil {
		return nil, err
	}
	switch {
	case !resumed:
		return nil, fmt.Errorf("the device has not caught up: %w", ctx.Err())
	case snapshots != 1:
		return nil, errors.New("there is no snapshot")
	}
	return got, nil
}
