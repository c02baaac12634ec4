package stream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// presenceEvery is how often, at most, a device's life is written.
	presenceEvery = 15 * time.Second
	// presenceKnown bounds the devices remembered as written (some 32 MiB); one
	// that is forgotten is written more often.
	presenceKnown = 1 << 17
	// presenceWaiting bounds what waits to be written; more is dropped and
	// counted, and made good by the device's next sign of life.
	presenceWaiting = 1 << 12
	// presentMost is how many subjects one Direct Get answers for: Present of a
	// user with more devices is an error.
	presentMost = 1024
)

// Presence is a device that was heard of within the last minute.
type Presence struct {
	Device string `json:"device_id"`
	// Seen is the Unix time in milliseconds at which it was heard of last, up to
	// some seconds early: see [Log.Seen].
	Seen int64 `json:"last_seen"`
}

// deviceOf is a device of a user.
type deviceOf struct{ user, device string }

// sighting is a sign of life of a device.
type sighting struct {
	deviceOf
	at time.Time
}

// sightings writes signs of life in the background.
type sightings struct {
	written *recent[deviceOf]
	waiting chan sighting // sent to by Seen, never closed
}

func newSightings() sightings {
	return sightings{
		written: newRecent[deviceOf](presenceEvery, presenceKnown),
		waiting: make(chan sighting, presenceWaiting),
	}
}

// Seen keeps that device of user was heard of now, for a minute. It returns at
// once; repeated calls within a quarter of a minute cost nothing. device is any
// 1 to 128 printable characters. What cannot be written is dropped: presence is
// a hint.
func (l *Log) Seen(user, device string) {
	s := sighting{deviceOf{user, device}, time.Now()}
	if validUser(user) != nil || device == "" || len(device) > nameMost || !l.sightings.written.claim(s.deviceOf, s.at) {
		return
	}
	select {
	case l.sightings.waiting <- s:
	default:
		l.unseen(s)
	}
}

// unseen drops s: the device's next sign of life is written.
func (l *Log) unseen(s sighting) {
	l.sightings.written.forget(s.deviceOf)
	l.inst.unseen.Add(context.Background(), 1)
}

// writeSightings writes what Seen was told until ctx ends. It does not wait for
// the server's acknowledgements.
func (l *Log) writeSightings(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-l.sightings.waiting:
			if l.disk.full() {
				l.unseen(s)
				continue
			}
			data, err := json.Marshal(Presence{Device: s.device, Seen: s.at.UnixMilli()})
			if err == nil {
				err = l.nc.Publish(kvSubject(presenceBucket, presenceKey(s.user, s.device)), data)
			}
			if err != nil {
				l.unseen(s)
			}
		}
	}
}

// Present lists the devices of user that were heard of within the last minute,
// by name. A replica that lags answers as things were some moments ago.
func (l *Log) Present(ctx context.Context, user string) ([]Presence, error) {
	if err := validUser(user); err != nil {
		return nil, err
	}
	found, err := l.newest(ctx, presenceBucket, user+".*")
	if err != nil {
		return nil, fmt.Errorf("stream: devices of user %s: %w", user, err)
	}
	list := []Presence{}
	for _, m := range found {
		var p Presence
		if json.Unmarshal(m.Data, &p) == nil && p.Device != "" {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b Presence) int { return cmp.Compare(a.Device, b.Device) })
	return list, nil
}

// newest is the newest record of each key of bucket that filter matches; more than
// presentMost are an error.
func (l *Log) newest(ctx context.Context, bucket, filter string) (found []*nats.Msg, err error) {
	req := msgGet{MultiLast: []string{kvSubject(bucket, filter)}}
	for n := 0; ; n++ {
		found = nil
		_, err := l.direct.get(ctx, kvStream(bucket), req, presentMost, func(m *nats.Msg) error {
			found = append(found, m)
			return nil
		})
		switch {
		case err == nil, errors.Is(err, errNoMessage):
			return found, nil
		case !errors.Is(err, errHole) || n == 3 || !retry(ctx, n):
			return nil, err
		}
	}
}
