package bridge

import "math"

// outcome is what becomes of a body that keeps the rules.
type outcome uint8

const (
	isEvent        outcome = iota // frame goes to the user's log
	isAnnouncement                // frame goes to everyone
	isHeartbeat                   // presence of user's device, nothing to store
	isForgotten                   // of a user who was forgotten since: nothing
)

// result is a judged body.
type result struct {
	outcome outcome
	user    string // "" for an announcement; part of the channel's name
	device  string // the origin device, "" where it gave none
	expires int64  // Unix milliseconds, 0 never
	frame   []byte // fresh memory; the WebSocket frame
	stampAt int    // offset in frame of the 16 zeros that the log replaces by its stamp
}

const noStamp = "0000000000000000"

// Frames begin with a type and a stamp.
const (
	watchlistHead    = `{"type":"watchlist_update","hlc":"`
	progressHead     = `{"type":"progress_update","hlc":"`
	commandHead      = `{"type":"device_command","hlc":"`
	notificationHead = `{"type":"notification","hlc":"`
	announcementHead = `{"type":"announcement","data":`
)

// judge turns what was published to channel into the frame that devices get,
// encoded here once and never again, or says which rule it breaks. The checks
// come in this order: channel, size, JSON and depth, type, then the members in
// the order of the protocol's table, each first for being there.
func (r rules) judge(channel string, payload []byte) (result, *refusal) {
	user, carries := parseChannel(channel)
	if carries == noFeed {
		return result{}, refuse(BadChannel, "channel: neither a user's nor the announcements'")
	}
	if bad := checkPayload(payload); bad != nil {
		return result{}, bad
	}
	if carries == noticeFeed || carries == broadcastFeed {
		return wrap(user, carries, payload)
	}
	b, bad := parseBody(payload)
	if bad != nil {
		return result{}, bad
	}
	if b.kind == nil {
		return result{}, refuse(MissingField, "type")
	}
	name, _ := parseText(b.kind)
	kind := parseType(name.val)
	switch {
	case kind == noType:
		return result{}, refuse(UnknownType, "type: none of ours")
	case kind.on() != carries:
		return result{}, refuse(WrongChannel, "type: not on a channel of this kind")
	}
	res := result{user: user}
	switch kind {
	case watchlistUpdate:
		bad = r.watchlist(&b, &res, len(payload))
	case progressUpdate:
		bad = r.progress(&b, &res, len(payload))
	case deviceHandoff:
		bad = r.handoff(&b, &res, len(payload))
	case deviceCommand:
		bad = r.order(&b, &res, len(payload))
	case deviceHeartbeat:
		var device text
		device, bad = b.device(true)
		res.outcome, res.device = isHeartbeat, string(device.val)
	}
	if bad != nil {
		return result{}, bad
	}
	return res, nil
}

// wrap puts a body whose members are the publisher's own affair into a frame.
func wrap(user string, carries feed, payload []byte) (result, *refusal) {
	end, err := skipValue(payload, 0, maxLevels)
	if bad := checkEnd(payload, end, err); bad != nil {
		return result{}, bad
	}
	res := result{outcome: isAnnouncement}
	if carries == noticeFeed {
		res.outcome, res.user = isEvent, user
		res.open(notificationHead, len(payload))
		res.frame = append(res.frame, `,"data":`...)
	} else {
		res.frame = make([]byte, 0, len(announcementHead)+len(payload)+1)
		res.frame = append(res.frame, announcementHead...)
	}
	res.frame = append(appendCompact(res.frame, payload), '}')
	return res, nil
}

func (r rules) watchlist(b *body, res *result, size int) *refusal {
	if b.operation == nil {
		return refuse(MissingField, "operation")
	}
	action, _ := parseText(b.operation)
	if string(action.val) != "add" && string(action.val) != "remove" {
		return refuse(BadValue, "operation: neither add nor remove")
	}
	content, bad := r.id("content_id", b.contentID)
	if bad != nil {
		return bad
	}
	tag, bad := short("unique_tag", b.uniqueTag, 128, BadValue)
	if bad != nil {
		return bad
	}
	stamp, device, bad := b.origin(true)
	if bad != nil {
		return bad
	}
	res.open(watchlistHead, size)
	res.string("content_id", content)
	res.string("action", action)
	res.string("unique_tag", tag)
	res.close(device, stamp)
	return nil
}

func (r rules) progress(b *body, res *result, size int) *refusal {
	content, bad := r.id("content_id", b.contentID)
	if bad != nil {
		return bad
	}
	if bad := seconds("position_seconds", b.position, true); bad != nil {
		return bad
	}
	stamp, device, bad := b.origin(true)
	if bad != nil {
		return bad
	}
	if bad := seconds("duration_seconds", b.duration, false); bad != nil {
		return bad
	}
	res.open(progressHead, size)
	res.string("content_id", content)
	res.frame = append(append(res.frame, `,"position":`...), b.position...)
	if b.duration != nil {
		res.frame = append(append(res.frame, `,"duration":`...), b.duration...)
	}
	res.close(device, stamp)
	return nil
}

func (r rules) handoff(b *body, res *result, size int) *refusal {
	target, bad := r.id("target_device_id", b.target)
	if bad != nil {
		return bad
	}
	content, bad := short("content_id", b.contentID, 128, BadID)
	if bad != nil {
		return bad
	}
	stamp, device, bad := b.origin(false)
	if bad != nil {
		return bad
	}
	if bad := seconds("position_seconds", b.position, false); bad != nil {
		return bad
	}
	res.open(commandHead, size)
	res.frame = append(res.frame, `,"command":"handoff:`...)
	res.frame = append(content.append(res.frame), '"')
	res.string("target_device", target)
	if b.position != nil {
		res.frame = append(append(res.frame, `,"payload":{"position_seconds":`...), b.position...)
		res.frame = append(res.frame, '}')
	}
	res.close(device, stamp)
	return nil
}

// order is a device_command.
func (r rules) order(b *body, res *result, size int) *refusal {
	target, bad := r.id("target_device_id", b.target)
	if bad != nil {
		return bad
	}
	if b.command == nil {
		return refuse(MissingField, "command")
	}
	if b.command[0] != '{' {
		return refuse(BadValue, "command: not an object")
	}
	var kind []byte
	m := newMembers(b.command, 0, maxLevels)
	for name, value, ok := m.next(); ok; name, value, ok = m.next() {
		if string(name) == "command_type" {
			kind = value
		}
	}
	command, bad := short("command_type", kind, 64, BadValue)
	if bad != nil {
		return bad
	}
	stamp, device, bad := b.origin(false)
	if bad != nil {
		return bad
	}
	if b.expires != nil {
		expires, bad := number("expires_at", b.expires, math.MaxInt64)
		if bad != nil {
			return bad
		}
		res.expires = int64(expires)
	}
	res.open(commandHead, size)
	res.string("command", command)
	res.string("target_device", target)
	res.payload(b.command)
	if res.expires != 0 {
		res.frame = append(append(res.frame, `,"expires_at":`...), b.expires...)
	}
	res.close(device, stamp)
	return nil
}

// payload appends the members of a valid command but for its command_type, in
// the order and with the numbers as written.
func (res *result) payload(command []byte) {
	res.frame = append(res.frame, `,"payload":{`...)
	first := true
	m := newMembers(command, 0, maxLevels)
	for from := m.at; ; {
		name, _, ok := m.next()
		if !ok {
			break
		}
		member := command[from:m.at]
		from = m.at
		if string(name) == "command_type" {
			continue
		}
		// What lies before the name is white space and, from the second on, a comma.
		for member[0] != '"' {
			member = member[1:]
		}
		if !first {
			res.frame = append(res.frame, ',')
		}
		first = false
		res.frame = appendCompact(res.frame, member)
	}
	res.frame = append(res.frame, '}')
}

// origin reads the members that say when and where an event began.
func (b *body) origin(deviceRequired bool) (stamp []byte, device text, bad *refusal) {
	if stamp, bad = b.stamp(); bad != nil {
		return nil, text{}, bad
	}
	device, bad = b.device(deviceRequired)
	return stamp, device, bad
}

// open begins a frame with room for all of a body of size bytes: a frame's own
// names and head take less than 160 bytes.
func (res *result) open(head string, size int) {
	res.frame = make([]byte, 0, size+160)
	res.frame = append(res.frame, head...)
	res.stampAt = len(head)
	res.frame = append(res.frame, noStamp+`"`...)
}

func (res *result) string(name string, value text) {
	res.frame = append(append(append(res.frame, `,"`...), name...), `":"`...)
	res.frame = append(value.append(res.frame), '"')
}

// close ends a frame with what the origin said of itself.
func (res *result) close(device text, stamp []byte) {
	if device.val != nil {
		res.device = string(device.val)
		res.string("device_id", device)
	}
	res.frame = append(append(append(res.frame, `,"timestamp":"`...), stamp...), `"}`...)
}
