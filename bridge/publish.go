package bridge

import "context"

// maxGroupAdd is how many channels PubNub adds to a group in one request.
const maxGroupAdd = 200

// publish publishes body, which must be JSON, to channel and returns the
// message's timetoken. Subscribers and history get body as it is. meta is nil or
// a JSON object; its white space is lost, and <, >, &, U+2028 and U+2029 inside
// strings become \u escapes. meta is part of the URL, which has 32 KiB in all;
// body may have 32 KiB.
//
// Order is that of calls that wait for one another. After an error that is
// temporary the message may have been published all the same.
func (c *caller) publish(ctx context.Context, channel string, body, meta []byte) (timetoken string, err error) {
	reply, err := c.do(ctx, "publish", goodPublish, func(ctx context.Context, token string) error {
		return c.sdk.publish(ctx, token, channel, body, meta)
	})
	if err != nil {
		return "", err
	}
	return parsePublished(reply)
}

// parsePublished reads [1,"Sent","<timetoken>"].
func parsePublished(reply []byte) (timetoken string, err error) {
	at := skipSpace(reply, 0)
	if at == len(reply) || reply[at] != '[' {
		return "", badReply("publish", reply, "not an array")
	}
	var parts [3][]byte
	n := 0
	e := newElements(reply, at)
	for value, ok := e.next(); ok; value, ok = e.next() {
		if n < len(parts) {
			parts[n] = value
		}
		n++
	}
	switch {
	case e.err != nil || skipSpace(reply, e.at) != len(reply):
		return "", badReply("publish", reply, "not JSON")
	case n < len(parts):
		return "", badReply("publish", reply, "too short")
	case string(parts[0]) == "0":
		return "", &callError{call: "publish", result: callRefused, class: "not sent, says PubNub"}
	}
	t := storedTimetoken(parts[2])
	if string(parts[0]) != "1" || t == nil {
		return "", badReply("publish", reply, "no timetoken")
	}
	return string(t), nil
}

// addToGroup adds channels to a channel group, which it makes if need be. What
// is in the group already stays. It makes as many requests as it takes and fails
// with the first that fails; to repeat all of it does no harm.
func (c *caller) addToGroup(ctx context.Context, group string, channels []string) error {
	for part := range batches(channels, maxGroupAdd) {
		body, err := c.do(ctx, "group", goodObject, func(ctx context.Context, token string) error {
			return c.sdk.addToGroup(ctx, token, group, part)
		})
		if err != nil {
			return err
		}
		a, err := parseAnswer(body)
		if err != nil {
			return badReply("group", body, err.Error())
		}
		if a.failed {
			return badReply("group", body, "an error with status 200")
		}
	}
	return nil
}
