package pubnubtest

import (
	"net/http"
	"net/url"
	"strings"
)

// An Endpoint is a kind of request.
type Endpoint string

// The endpoints. Subscribe stands for Handshake and Poll together where
// requests are selected; a request is one of the two.
const (
	Any           Endpoint = ""
	Subscribe     Endpoint = "subscribe"
	Handshake     Endpoint = "handshake" // a subscribe without cursor
	Poll          Endpoint = "poll"      // a subscribe with one
	Publish       Endpoint = "publish"
	Fire          Endpoint = "fire" // a publish that is neither stored nor delivered
	Signal        Endpoint = "signal"
	File          Endpoint = "file" // the message that announces a file
	History       Endpoint = "history"
	MessageCounts Endpoint = "message-counts"
	Groups        Endpoint = "groups"
	Heartbeat     Endpoint = "heartbeat"
	Leave         Endpoint = "leave"
	HereNow       Endpoint = "here-now"
	WhereNow      Endpoint = "where-now"
	Time          Endpoint = "time"
	Grant         Endpoint = "grant"
	Revoke        Endpoint = "revoke"
	Unknown       Endpoint = "unknown" // anything else: 404
)

// selects reports whether a request at other is meant by e.
func (e Endpoint) selects(other Endpoint) bool {
	return e == Any || e == other || e == Subscribe && (other == Handshake || other == Poll)
}

// A shape is what the path of an endpoint looks like: * is one segment, ** the
// rest, at least one.
type shape struct {
	endpoint Endpoint
	path     string
}

var shapes = []shape{
	{Subscribe, "v2/subscribe/*/*/*"},
	{Publish, "publish/*/*/*/*/*/**"},
	{Publish, "publish/*/*/*/*/*"},
	{Signal, "signal/*/*/*/*/*/**"},
	{Signal, "signal/*/*/*/*/*"},
	{File, "v1/files/publish-file/*/*/*/*/*/**"},
	{File, "v1/files/publish-file/*/*/*/*/*"},
	{Time, "time/*"},
	{History, "v3/history/sub-key/*/channel/*"},
	{History, "v3/history-with-actions/sub-key/*/channel/*"},
	{MessageCounts, "v3/history/sub-key/*/message-counts/*"},
	{Groups, "v1/channel-registration/sub-key/*/channel-group"},
	{Groups, "v1/channel-registration/sub-key/*/channel-group/*"},
	{Groups, "v1/channel-registration/sub-key/*/channel-group/*/remove"},
	{Heartbeat, "v2/presence/sub-key/*/channel/*/heartbeat"},
	{Leave, "v2/presence/sub-key/*/channel/*/leave"},
	{WhereNow, "v2/presence/sub-key/*/uuid/*"},
	{HereNow, "v2/presence/sub_key/*/channel/*"},
	{HereNow, "v2/presence/sub_key/*"},
	{HereNow, "v2/presence/sub-key/*/channel/*"},
	{HereNow, "v2/presence/sub-key/*"},
	{Grant, "v3/pam/*/grant"},
	{Revoke, "v3/pam/*/grant/*"},
}

// shapeParts holds the segments of shapes, by index.
var shapeParts = func() [][]string {
	var all [][]string
	for _, s := range shapes {
		all = append(all, strings.Split(s.path, "/"))
	}
	return all
}()

// route returns the endpoint that a path belongs to and its segments. The path
// is taken as it was sent: nothing is cleaned, no double slash removed.
func route(method, path string, query url.Values) (Endpoint, []string) {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i, s := range shapes {
		if !fits(shapeParts[i], parts) {
			continue
		}
		switch {
		case s.endpoint == Subscribe && isHandshake(query):
			return Handshake, parts
		case s.endpoint == Subscribe:
			return Poll, parts
		case s.endpoint == Publish && query.Get("store") == "0" && query.Get("norep") == "true":
			return Fire, parts
		case s.endpoint == History && method == http.MethodDelete:
			return Unknown, parts
		case s.endpoint == Revoke && method != http.MethodDelete:
			return Unknown, parts
		}
		return s.endpoint, parts
	}
	return Unknown, parts
}

func fits(shape, parts []string) bool {
	for i, want := range shape {
		switch {
		case i >= len(parts):
			return false
		case want == "**":
			return true
		case want != "*" && want != parts[i]:
			return false
		}
	}
	return len(shape) == len(parts)
}

// names returns the unescaped members of a comma list in the path. Each is
// unescaped by itself, so that a name may contain an escaped comma.
func names(segment string) []string {
	var all []string
	for name := range strings.SplitSeq(segment, ",") {
		if name = unescape(name); name != "" {
			all = append(all, name)
		}
	}
	return all
}

// unescape returns a path segment unescaped, or as it is if it cannot be.
func unescape(segment string) string {
	s, err := url.PathUnescape(segment)
	if err != nil {
		return segment
	}
	return s
}

// list returns the members of a comma list in the query.
func list(value string) []string {
	if value == "" {
		return nil
	}
	return strings.Split(value, ",")
}
