package pubnubtest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	pubnub "github.com/pubnub/go/v7"

	"reprise/bridge/pubnubtest"
)

// client makes the real SDK's client of s. It lives until the test ends.
func client(t testing.TB, s *pubnubtest.Server) *pubnub.PubNub {
	t.Helper()
	c := pubnub.NewConfigWithUserId("tester")
	c.Origin, c.Secure = s.Addr(), false
	c.SubscribeKey, c.PublishKey = "demo", "demo"
	c.SuppressLeaveEvents = true
	c.MaxWorkers = 0
	pn := pubnub.NewPubNub(c)
	calls, polls := &http.Transport{}, &http.Transport{}
	pn.SetClient(&http.Client{Transport: calls, Timeout: patience})
	pn.SetSubscribeClient(&http.Client{Transport: polls})
	t.Cleanup(func() {
		pn.Destroy()
		calls.CloseIdleConnections()
		polls.CloseIdleConnections()
	})
	return pn
}

// A subscriber takes what the SDK's listener gives.
type subscriber struct {
	messages chan *pubnub.PNMessage
	signals  chan *pubnub.PNMessage
	files    chan *pubnub.PNFilesEvent
	statuses chan *pubnub.PNStatus
}

// listen attaches a subscriber to a client. It must come before Subscribe.
func listen(t testing.TB, pn *pubnub.PubNub) *subscriber {
	t.Helper()
	l := pubnub.NewListener()
	s := &subscriber{
		messages: make(chan *pubnub.PNMessage, 1000),
		signals:  make(chan *pubnub.PNMessage, 1000),
		files:    make(chan *pubnub.PNFilesEvent, 1000),
		statuses: make(chan *pubnub.PNStatus, 1000),
	}
	done := make(chan struct{})
	t.Cleanup(func() { close(done) })
	go func() {
		for {
			select {
			case m := <-l.Message:
				s.messages <- m
			case m := <-l.Signal:
				s.signals <- m
			case f := <-l.File:
				s.files <- f
			case st := <-l.Status:
				s.statuses <- st
			case <-l.Presence:
			case <-l.UUIDEvent:
			case <-l.ChannelEvent:
			case <-l.MembershipEvent:
			case <-l.MessageActionsEvent:
			case <-done:
				return
			}
		}
	}()
	pn.AddListener(l)
	return s
}

// take returns the next n of ch.
func take[T any](t testing.TB, what string, ch chan T, n int) []T {
	t.Helper()
	var all []T
	over := time.After(patience)
	for len(all) < n {
		select {
		case v := <-ch:
			all = append(all, v)
		case <-over:
			t.Fatalf("%s = %d, want %d", what, len(all), n)
		}
	}
	return all
}

func TestSDKSubscribes(t *testing.T) {
	t.Parallel()
	s := start(t, pubnubtest.Config{})
	pn := client(t, s)
	if _, _, err := pn.AddChannelToChannelGroup().Channels([]string{"a", "b"}).ChannelGroup("g").Execute(); err != nil {
		t.Fatalf("AddChannelToChannelGroup() = %v, want nil", err)
	}
	sub := listen(t, pn)
	pn.Subscribe().Channels([]string{"user.*", "plain"}).ChannelGroups([]string{"g"}).WithPresence(true).Execute()
	if err := s.WaitPolls(within(t, patience), 1); err != nil {
		t.Fatalf("WaitPolls(1) = %v, want nil", err)
	}
	want := map[string]string{"user.7.sync": "user.*", "user.7": "user.*", "plain": "", "b": "g"}
	for channel := range want {
		s.Publish(channel, []byte(`{"hello":1}`), pubnubtest.From("phone"), pubnubtest.Meta([]byte(`{"k":1}`)))
	}
	for _, m := range take(t, "messages", sub.messages, len(want)) {
		got := fmt.Sprint(m.Subscription, m.Message, m.Publisher, m.UserMetadata)
		same(t, "message on "+m.Channel, got, want[m.Channel]+"map[hello:1]phonemap[k:1]")
	}
}

func TestSDKPublishes(t *testing.T) {
	t.Parallel()
	s := start(t, pubnubtest.Config{})
	pn := client(t, s)
	sub := listen(t, pn)
	pn.Subscribe().Channels([]string{"user.7.sync"}).Execute()
	if err := s.WaitPolls(within(t, patience), 1); err != nil {
		t.Fatalf("WaitPolls(1) = %v, want nil", err)
	}
	text := map[string]any{"text": "ü / % ? \u2028 \"", "n": 1.5}
	byGet, _, err := pn.Publish().Channel("user.7.sync").Message(text).Meta(map[string]any{"k": "v"}).Execute()
	if err != nil {
		t.Fatalf("Publish(GET) = %v, want nil", err)
	}
	byPost, _, err := pn.Publish().Channel("user.7.sync").Message(text).UsePost(true).ShouldStore(false).Execute()
	if err != nil {
		t.Fatalf("Publish(POST) = %v, want nil", err)
	}
	if _, _, err := pn.Fire().Channel("user.7.sync").Message("fire").Execute(); err != nil {
		t.Fatalf("Fire() = %v, want nil", err)
	}
	if _, _, err := pn.Signal().Channel("user.7.sync").Message("blip").Execute(); err != nil {
		t.Fatalf("Signal() = %v, want nil", err)
	}
	tokens := []int64{byGet.Timestamp, byPost.Timestamp}
	for _, m := range take(t, "messages", sub.messages, 2) {
		same(t, "message", m.Message, text)
		same(t, "publisher", m.Publisher, "tester")
		if !slices.Contains(tokens, m.Timetoken) {
			t.Errorf("message's timetoken = %d, want one of %v", m.Timetoken, tokens)
		}
	}
	same(t, "signal", take(t, "signals", sub.signals, 1)[0].Message, "blip")
	same(t, "stored messages", len(history(t, s, "user.7.sync", "")), 1)

	_, status, err := pn.Publish().Channel("too.many.segments.here").Message(1).Execute()
	if err == nil || status.StatusCode != 400 {
		t.Errorf("Publish(too.many.segments.here) = %d, %v, want 400", status.StatusCode, err)
	}
	_, status, err = pn.Publish().Channel("a").Message(strings.Repeat("x", 40_000)).UsePost(true).Execute()
	if err == nil || status.StatusCode != 413 {
		t.Errorf("Publish(40 kB) = %d, %v, want 413", status.StatusCode, err)
	}
	now, _, err := pn.Time().Execute()
	if err != nil || now.Timetoken < byPost.Timestamp-10_000 {
		t.Errorf("Time() = %v, %v, want at least %d", now, err, byPost.Timestamp)
	}
}

// TestSDKPublishesMeta publishes metadata with the SDK, by GET and by POST, and
// looks for the very bytes in what a subscriber gets and in history.
func TestSDKPublishesMeta(t *testing.T) {
	t.Parallel()
	s := start(t, pubnubtest.Config{PollTimeout: time.Millisecond})
	pn := client(t, s)
	for i, tt := range []struct {
		name string
		meta any
		want string
	}{
		{"object", map[string]any{"c": 1, "b": "x"}, `{"b":"x","c":1}`},
		{"characters of queries", map[string]any{"k": "a+b&c=d;e%20f#g?h/i\\ j"}, `{"k":"a+b\u0026c=d;e%20f#g?h/i\\ j"}`},
		{"characters of HTML and others", map[string]any{"k": "<ü\u2028\"'>"}, `{"k":"\u003cü\u2028\"'\u003e"}`},
		{"numbers as they were written", json.RawMessage(`{"k":[9007199254740993,1.10,-0]}`), `{"k":[9007199254740993,1.10,-0]}`},
		{"trace context", map[string]string{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
			`{"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}`},
		{"array", []int{1, 2}, `[1,2]`},
		{"string", "plain text", `"plain text"`},
		{"string that the SDK does not quote", `a"b`, `"\"a\"b\""`},
	} {
		for _, post := range []bool{false, true} {
			channel := fmt.Sprintf("a%d%v", i, post)
			ack, _, err := pn.Publish().Channel(channel).Message(1).Meta(tt.meta).UsePost(post).Execute()
			if err != nil {
				t.Fatalf("Publish(%s, post %v) = %v, want nil", tt.name, post, err)
			}
			live := lastEnvelope(get(t, s, "/v2/subscribe/demo/"+channel+"/0?tt=1"))
			if want := `,"u":` + tt.want + `,"d":1,`; !strings.Contains(live, want) {
				t.Errorf("%s, post %v: poll() = %s, want %s", tt.name, post, live, want)
			}
			same(t, fmt.Sprintf("history of %s, post %v", tt.name, post),
				get(t, s, "/v3/history/sub-key/demo/channel/"+channel+"?include_meta=true&include_uuid=false&include_message_type=false"),
				fmt.Sprintf(`{"status":200,"error":false,"error_message":"","channels":{"%s":[{"message":1,"timetoken":"%d","meta":%s}]}}`,
					channel, ack.Timestamp, tt.want))
			var meta any
			if err := json.Unmarshal([]byte(tt.want), &meta); err != nil {
				t.Fatalf("Unmarshal(%s) = %v", tt.want, err)
			}
			fetched, _, err := pn.Fetch().Channels([]string{channel}).IncludeMeta(true).Execute()
			if err != nil {
				t.Fatalf("Fetch(%s) = %v, want nil", channel, err)
			}
			same(t, fmt.Sprintf("Fetch() of %s, post %v", tt.name, post), fetched.Messages[channel][0].Meta, meta)
		}
	}
}

func TestSDKResumesInPages(t *testing.T) {
	t.Parallel()
	s := start(t, pubnubtest.Config{QueueSize: 1000})
	saved := poll(t, s, "user.%2A", "", "").T.T
	var cursor int64
	fmt.Sscan(saved, &cursor)
	publish(s, "user.7.sync", numbers(0, 250))
	pn := client(t, s)
	sub := listen(t, pn)
	pn.Subscribe().Channels([]string{"user.*"}).Timetoken(cursor).Execute()
	seen := make(map[string]int)
	for _, m := range take(t, "messages", sub.messages, 250) {
		seen[fmt.Sprint(m.Message)]++
	}
	same(t, "different messages", len(seen), 250)
	if err := s.WaitPolls(within(t, patience), 1); err != nil {
		t.Fatalf("WaitPolls(1) = %v, want nil", err)
	}
	polls := 0
	for _, r := range s.Journal() {
		if r.Endpoint == pubnubtest.Poll {
			polls++
		}
	}
	same(t, "polls", polls, 4) // three pages and the one that is held
}

func TestSDKFetchesInPages(t *testing.T) {
	t.Parallel()
	s := start(t, pubnubtest.Config{})
	want := publish(s, "a", numbers(0, 351))
	pn := client(t, s)
	var got []int64
	var sizes []int
	oldest := want[len(want)-1] + 1
	for {
		page, _, err := pn.Fetch().Channels([]string{"a"}).Count(100).Start(oldest).End(want[0]).Execute()
		if err != nil {
			t.Fatalf("Fetch(start=%d) = %v, want nil", oldest, err)
		}
		items := page.Messages["a"]
		sizes = append(sizes, len(items))
		var tokens []int64
		for _, m := range items {
			var token int64
			fmt.Sscan(m.Timetoken, &token)
			tokens = append(tokens, token)
		}
		got = append(tokens, got...)
		if len(items) < 100 {
			break
		}
		oldest = tokens[0]
	}
	same(t, "page sizes", sizes, []int{100, 100, 100, 51})
	same(t, "timetokens", got, want)

	counts, _, err := pn.MessageCounts().Channels([]string{"a", "b"}).ChannelsTimetoken([]int64{want[51]}).Execute()
	if err != nil || counts.Channels["a"] != 300 || counts.Channels["b"] != 0 {
		t.Errorf("MessageCounts(since the 52nd) = %v, %v, want a:300 b:0", counts, err)
	}
	counts, _, err = pn.MessageCounts().Channels([]string{"a", "b"}).ChannelsTimetoken([]int64{want[350], 1}).Execute()
	if err != nil || counts.Channels["a"]+counts.Channels["b"] == 0 {
		t.Errorf("MessageCounts(two timetokens) = %v, %v, want some", counts, err)
	}
}

func TestSDKGroupsAndPresence(t *testing.T) {
	t.Parallel()
	s := start(t, pubnubtest.Config{})
	pn := client(t, s)
	if _, _, err := pn.AddChannelToChannelGroup().Channels([]string{"a", "b", "c"}).ChannelGroup("g").Execute(); err != nil {
		t.Fatalf("AddChannelToChannelGroup() = %v, want nil", err)
	}
	if _, _, err := pn.RemoveChannelFromChannelGroup().Channels([]string{"b"}).ChannelGroup("g").Execute(); err != nil {
		t.Fatalf("RemoveChannelFromChannelGroup() = %v, want nil", err)
	}
	listed, _, err := pn.ListChannelsInChannelGroup().ChannelGroup("g").Execute()
	if err != nil || fmt.Sprint(listed.Channels) != "[a c]" {
		t.Errorf("ListChannelsInChannelGroup(g) = %v, %v, want [a c]", listed, err)
	}
	if _, _, err := pn.DeleteChannelGroup().ChannelGroup("g").Execute(); err != nil {
		t.Errorf("DeleteChannelGroup(g) = %v, want nil", err)
	}
	pn.Subscribe().Channels([]string{"room"}).Execute()
	if err := s.WaitPolls(within(t, patience), 1); err != nil {
		t.Fatalf("WaitPolls(1) = %v, want nil", err)
	}
	here, _, err := pn.HereNow().Channels([]string{"room"}).IncludeUUIDs(true).Execute()
	if err != nil || here.TotalOccupancy != 1 || here.Channels[0].Occupants[0].UUID != "tester" {
		t.Errorf("HereNow(room) = %+v, %v, want tester", here, err)
	}
	where, _, err := pn.WhereNow().UUID("tester").Execute()
	if err != nil || fmt.Sprint(where.Channels) != "[room]" {
		t.Errorf("WhereNow(tester) = %+v, %v, want [room]", where, err)
	}
}

func TestSDKTokens(t *testing.T) {
	t.Parallel()
	clock := newHandClock()
	s := start(t, pubnubtest.Config{RequirePAM: true, Now: clock.Now})
	c := pubnub.NewConfigWithUserId("granter")
	c.Origin, c.Secure, c.MaxWorkers = s.Addr(), false, 0
	c.SubscribeKey, c.PublishKey, c.SecretKey = "demo", "demo", "secret"
	granter := pubnub.NewPubNub(c)
	granter.SetClient(&http.Client{Transport: plain.Transport, Timeout: patience})
	t.Cleanup(granter.Destroy)

	pn := client(t, s)
	publish := func() int {
		_, status, _ := pn.Publish().Channel("user.7.sync").Message(1).Execute()
		return status.StatusCode
	}
	fetchAll := func() int {
		_, status, _ := pn.Fetch().Channels([]string{"user.7.sync"}).Execute()
		return status.StatusCode
	}
	same(t, "Publish() without token", publish(), 403)
	granted, _, err := granter.GrantToken().TTL(60).AuthorizedUUID("tester").
		ChannelsPattern(map[string]pubnub.ChannelPermissions{`^user\..*$`: {Read: true}}).Execute()
	if err != nil {
		t.Fatalf("GrantToken() = %v, want nil", err)
	}
	token := granted.Data.Token
	pn.SetToken(token)
	same(t, "Publish() with a token to read", publish(), 403)
	same(t, "Fetch() with a token to read", fetchAll(), 200)
	sub := listen(t, pn)
	pn.Subscribe().Channels([]string{"user.*"}).Execute()
	if err := s.WaitPolls(within(t, patience), 1); err != nil {
		t.Fatalf("WaitPolls(1) = %v, want nil", err)
	}
	s.Publish("user.7.sync", []byte(`"hello"`))
	same(t, "message", take(t, "messages", sub.messages, 1)[0].Message, "hello")
	clock.Advance(time.Hour)
	same(t, "Fetch() with an expired token", fetchAll(), 403)

	s.SetToken("mine", pubnubtest.Token{Channels: map[string]int{"user.7.sync": pubnubtest.Read | pubnubtest.Write}})
	pn.SetToken("mine")
	same(t, "Publish() with a token to write", publish(), 200)
	if _, _, err := granter.RevokeToken().Token("mine").Execute(); err != nil {
		t.Errorf("RevokeToken() = %v, want nil", err)
	}
	same(t, "Publish() with a revoked token", publish(), 403)
	s.DropToken("mine")
	same(t, "Publish() with a dropped token", publish(), 403)
}

func TestSDKGetsHostilePayloads(t *testing.T) {
	t.Parallel()
	s := start(t, pubnubtest.Config{})
	pn := client(t, s)
	sub := listen(t, pn)
	pn.Subscribe().Channels([]string{"user.*"}).Execute()
	if err := s.WaitPolls(within(t, patience), 1); err != nil {
		t.Fatalf("WaitPolls(1) = %v, want nil", err)
	}
	// None of these makes this version of the SDK panic; those that do are the
	// same calls with other payloads.
	s.Publish("user.1.sync", nil)
	s.Publish("user.2.sync", []byte(`1`), pubnubtest.Omit("d", "p", "b"))
	s.Publish("user.3.sync", []byte(`{"file":{"id":"1","name":"n"},"message":{"text":"t"}}`), pubnubtest.Type(4))
	s.Publish("user.4-pnpres.sync", []byte(`{"n":1}`)) // the SDK takes it for presence: lost
	s.Publish("user.5.sync", []byte(`9007199254740993`), pubnubtest.Extra("s", `"7"`))
	got := make(map[string]string)
	for _, m := range take(t, "messages", sub.messages, 3) {
		got[m.Channel] = fmt.Sprint(m.Message)
	}
	same(t, "messages", got, map[string]string{"user.1.sync": "<nil>", "user.2.sync": "<nil>", "user.5.sync": "9.007199254740992e+15"})
	same(t, "file", take(t, "files", sub.files, 1)[0].File.PNFile.Name, "n")
}
