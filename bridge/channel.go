package bridge

import "strings"

// feed is what a PubNub channel carries.
type feed uint8

const (
	noFeed        feed = iota
	syncFeed           // user.{uuid}.sync
	deviceFeed         // user.{uuid}.devices
	noticeFeed         // user.{uuid}.notifications
	broadcastFeed      // global.announcements
)

const broadcastChannel = "global.announcements"

// template names a feed's channels without the user, for spans.
func (f feed) template() string {
	switch f {
	case syncFeed:
		return "user.{user}.sync"
	case deviceFeed:
		return "user.{user}.devices"
	case noticeFeed:
		return "user.{user}.notifications"
	case broadcastFeed:
		return broadcastChannel
	}
	return ""
}

// parseChannel tells whose channel it is and what it carries: noFeed for any
// channel but the four of the protocol. user is part of channel, "" for
// announcements.
func parseChannel(channel string) (user string, carries feed) {
	if channel == broadcastChannel {
		return "", broadcastFeed
	}
	rest, ok := strings.CutPrefix(channel, "user.")
	if !ok || len(rest) < uuidLen || !isUUID(rest[:uuidLen]) {
		return "", noFeed
	}
	user, rest = rest[:uuidLen], rest[uuidLen:]
	switch rest {
	case ".sync":
		return user, syncFeed
	case ".devices":
		return user, deviceFeed
	case ".notifications":
		return user, noticeFeed
	}
	return "", noFeed
}

const uuidLen = 36

// isUUID reports whether s is 8-4-4-4-12 lower-case hex digits.
func isUUID[T string | []byte](s T) bool {
	if len(s) != uuidLen {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if !isDigit(c) && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}
