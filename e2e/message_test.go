package e2e

import (
	"fmt"
	"strings"
)

// A message is what is published, and the frame that the protocol makes of it,
// with 16 zeros in the place of the stamp.
type message struct {
	channel, user, payload, frame string
}

const content = "cccccccc-cccc-4ccc-8ccc-cccccccccccc"

// userNo and deviceNo are the n-th user and the n-th device.
func userNo(n int) string   { return fmt.Sprintf("aaaaaaaa-aaaa-4aaa-8aaa-%012x", n) }
func deviceNo(n int) string { return fmt.Sprintf("dddddddd-dddd-4ddd-8ddd-%012x", n) }

// progress is the n-th position of user, as device saw it.
func progress(user, device string, n int) message {
	return message{
		channel: "user." + user + ".sync", user: user,
		payload: fmt.Sprintf(`{"type":"progress_update","content_id":"%s","position_seconds":%d,"duration_seconds":7200,"device_id":"%s","timestamp":%d}`,
			content, n, device, 1_795_437_339_530+n),
		frame: fmt.Sprintf(`{"type":"progress_update","hlc":"%s","content_id":"%s","position":%d,"duration":7200,"device_id":"%s","timestamp":"%d"}`,
			noStamp, content, n, device, 1_795_437_339_530+n),
	}
}

// notice is a notification of user that says text.
func notice(user, text string) message {
	return message{
		channel: "user." + user + ".notifications", user: user,
		payload: `{"text":"` + text + `"}`,
		frame:   `{"type":"notification","hlc":"` + noStamp + `","data":{"text":"` + text + `"}}`,
	}
}

// announcement says text to everyone.
func announcement(text string) message {
	return message{
		channel: "global.announcements",
		payload: `{"text":"` + text + `"}`,
		frame:   `{"type":"announcement","data":{"text":"` + text + `"}}`,
	}
}

// arrived returns a condition on the frames of one connection: that one of them is m.
func (m message) arrived() func([]Frame) bool {
	return count(1, func(f Frame) bool { return Blank(f.Text) == m.frame })
}

// ofType returns a condition on the frames of one connection: that there are n of
// type.
func ofType(kind string, n int) func([]Frame) bool {
	return count(n, func(f Frame) bool { return strings.HasPrefix(f.Text, `{"type":"`+kind+`"`) })
}

// eventsOfOthers returns a condition on the frames of one connection: that there are
// n events that device did not cause.
func eventsOfOthers(device string, n int) func([]Frame) bool {
	return count(n, func(f Frame) bool {
		x, err := parseFrame(f.Text)
		return err == nil && x.Type != "caught_up" && x.Hlc != "" && x.Device != device
	})
}

// count returns a condition on frames that only become more, and looks at each once:
// that there are n of a kind.
func count(n int, is func(Frame) bool) func([]Frame) bool {
	have, seen := 0, 0
	return func(frames []Frame) bool {
		for _, f := range frames[seen:] {
			if is(f) {
				have++
			}
		}
		seen = len(frames)
		return have >= n
	}
}
