package stream

import (
	"context"
	"errors"

	"reprise/hlc"
)

func cursorKey(user, device string) string { return user + "." + device }

// Cursor is what device last acknowledged. ok is false when nothing is kept.
func (l *Log) Cursor(ctx context.Context, user, device string) (at hlc.Timestamp, ok bool, err error) {
	m, err := l.leaderGet(ctx, kvStream(cursorsBucket), msgGet{LastFor: kvSubject(cursorsBucket, cursorKey(user, device))})
	if errors.Is(err, errNoMessage) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	at, err = hlc.ParseBytes(m.Data)
	return at, err == nil, wrap("cursor "+cursorKey(user, device), err)
}

// SaveCursor keeps what device acknowledged; the newest call wins. User and
// device are UUIDs.
func (l *Log) SaveCursor(ctx context.Context, user, device string, at hlc.Timestamp) error {
	if l.disk.full() {
		return wrap("cursor "+cursorKey(user, device), errFull) // it waits where it comes from
	}
	_, err := l.js.Publish(ctx, kvSubject(cursorsBucket, cursorKey(user, device)), []byte(at.String()))
	return wrap("cursor "+cursorKey(user, device), err)
}
