package stream

import "context"

// Presence is a device that was heard of within the last minute.
type Presence struct {
	Device string `json:"device_id"`
	// Seen is the Unix time in milliseconds at which it was heard of last, up to
	// some seconds early: see [Log.Seen].
	Seen int64 `json:"last_seen"`
}

// Seen keeps that device of user was heard of now, for a minute. It returns at
// once; repeated calls within a quarter of a minute cost nothing. device is any
// 1 to 128 printable characters.
func (l *Log) Seen(user, device string) { panic("not yet") }

// Present lists the devices of user that were heard of within the last minute,
// by name.
func (l *Log) Present(ctx context.Context, user string) ([]Presence, error) { panic("not yet") }
