package pubnubtest_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"reprise/bridge/pubnubtest"
)

func TestPagesOfABacklog(t *testing.T) {
	t.Parallel()
	s := start(t, pubnubtest.Config{QueueSize: 1000, PollTimeout: time.Millisecond})
	cursor := poll(t, s, "user.%2A", "", "").T.T
	want := numbers(0, 250)
	for i, p := range want {
		s.Publish(fmt.Sprintf("user.%d.sync", i%7), []byte(p))
	}
	var got []string
	var sizes []int
	for {
		b := poll(t, s, "user.%2A", "", cursor)
		if len(b.M) == 0 {
			break
		}
		sizes = append(sizes, len(b.M))
		got = append(got, b.payloads()...)
		if last := b.M[len(b.M)-1].P.T; b.T.T >= last {
			t.Errorf("poll(%s).t.t = %s, want below the last p.t %s", cursor, b.T.T, last)
		}
		cursor = b.T.T
	}
	same(t, "page sizes", sizes, []int{100, 100, 50})
	same(t, "messages", got, want)
}

func TestMatching(t *testing.T) {
	t.Parallel()
	s := start(t, pubnubtest.Config{PollTimeout: time.Millisecond})
	for _, channel := range []string{"user", "user.a", "user.a.sync", "user.a.sync.x", "users.a.sync", "user.b.sync", "a,b", "x/y %", "user.p-pnpres"} {
		s.Publish(channel, []byte(fmt.Sprintf("%q", channel)))
	}
	for _, tt := range []struct {
		name, channels string
		want           []string
	}{
		{"wildcard of one segment", "user.*", []string{"user.a", "user.a.sync", "user.b.sync", "user.p-pnpres"}},
		{"wildcard of two segments", "user.a.*", []string{"user.a.sync"}},
		{"name", "user", []string{"user"}},
		{"several names, one twice", "user.b.sync,user,user", []string{"user", "user.b.sync"}},
		{"name with a comma", url.PathEscape("a,b"), []string{"a,b"}},
		{"name with special characters", url.PathEscape("x/y %"), []string{"x/y %"}},
		{"presence channel", "user.p-pnpres", nil},
		{"nothing published", "other", nil},
	} {
		var got []string
		for _, m := range poll(t, s, tt.channels, "", "1").M {
			got = append(got, m.C)
		}
		same(t, "poll("+tt.name+")", got, tt.want)
	}
}

func TestQueueDropsTheOldest(t *testing.T) {
	t.Parallel()
	s := start(t, pubnubtest.Config{QueueSize: 10, PageSize: 6, PollTimeout: time.Millisecond})
	for i, p := range numbers(0, 30) { // alternately on two channels
		s.Publish([]string{"a.x", "a.y"}[i%2], []byte(p))
	}
	read := func(channels string) []string {
		first := poll(t, s, channels, "", "1")
		return append(first.payloads(), poll(t, s, channels, "", first.T.T).payloads()...)
	}
	want := numbers(20, 30)
	same(t, "poll(a.*)", read("a.%2A"), want)
	same(t, "poll(a.x,a.y)", read("a.x,a.y"), want)
	var odd []string
	for i, p := range numbers(0, 30) {
		if i%2 == 1 && i >= 10 {
			odd = append(odd, p)
		}
	}
	same(t, "Stats().Overflows", s.Stats().Overflows, 2) // the first poll of each
	same(t, "poll(a.y)", read("a.y"), odd)
	same(t, "Stats().Overflows", s.Stats().Overflows, 3)
	same(t, "history(a.y)", len(history(t, s, "a.y", "")), 15)
}

func TestQueueAge(t *testing.T) {
	t.Parallel()
	clock := newHandClock()
	s := start(t, pubnubtest.Config{Now: clock.Now, QueueAge: 20 * time.Minute, PollTimeout: time.Millisecond})
	s.Publish("a", []byte("1"))
	clock.Advance(15 * time.Minute)
	s.Publish("a", []byte("2"))
	same(t, "poll(a) after 15 min", poll(t, s, "a", "", "1").payloads(), []string{"1", "2"})
	clock.Advance(15 * time.Minute)
	same(t, "Stats().Overflows", s.Stats().Overflows, 0)
	same(t, "poll(a) after 30 min", poll(t, s, "a", "", "1").payloads(), []string{"2"})
	same(t, "Stats().Overflows", s.Stats().Overflows, 1)
	same(t, "history(a)", len(history(t, s, "a", "")), 2)
}

func TestPollIsWoken(t *testing.T) {
	t.Parallel()
	s := start(t, pubnubtest.Config{})
	get(t, s, "/v1/channel-registration/sub-key/demo/channel-group/g?add=a.grouped")
	for _, tt := range []struct{ channels, groups, publish string }{
		{"a.named", "", "a.named"},
		{"a.%2A", "", "a.wild.x"},
		{",", "g", "a.grouped"},
	} {
		cursor := poll(t, s, "a.named", "", "").T.T
		got := make(chan []string, 1)
		go func() { got <- poll(t, s, tt.channels, tt.groups, cursor).payloads() }()
		if err := s.WaitPolls(within(t, patience), 1); err != nil {
			t.Fatalf("WaitPolls(1) = %v, want nil", err)
		}
		s.Publish("other", []byte("0"))
		s.Publish(tt.publish, []byte("1"))
		same(t, "poll("+tt.channels+tt.groups+")", <-got, []string{"1"})
	}
	same(t, "Stats().Polls", s.Stats().Polls, 0)
}

func TestGroupChangesUnderAHeldPoll(t *testing.T) {
	t.Parallel()
	s := start(t, pubnubtest.Config{})
	register := func(query string) {
		get(t, s, "/v1/channel-registration/sub-key/demo/channel-group/g?"+query)
	}
	get(t, s, "/v1/channel-registration/sub-key/demo/channel-group/other?add=x")
	cursor := poll(t, s, ",", "other", "").T.T
	late := make(chan []string, 1)
	go func() { late <- poll(t, s, ",", "other,g", cursor).payloads() }()
	if err := s.WaitPolls(within(t, patience), 1); err != nil {
		t.Fatalf("WaitPolls(1) = %v, want nil", err)
	}
	same(t, "groups while one is waited for", strings.Contains(get(t, s, "/v1/channel-registration/sub-key/demo/channel-group"), `["other"]`), true)
	register("add=a,b")
	s.Publish("a", []byte(`"the group is new"`))
	same(t, "poll(other,g)", <-late, []string{`"the group is new"`})

	cursor = poll(t, s, ",", "g", "").T.T
	s.Publish("c", []byte(`"before it joined"`))
	got := make(chan []string, 1)
	go func() { got <- poll(t, s, ",", "g", cursor).payloads() }()
	if err := s.WaitPolls(within(t, patience), 1); err != nil {
		t.Fatalf("WaitPolls(1) = %v, want nil", err)
	}
	register("add=c")
	register("remove=a")
	s.Publish("a", []byte(`"after it left"`))
	s.Publish("c", []byte(`"after it joined"`))
	same(t, "poll(g)", <-got, []string{`"after it joined"`})
	register("remove=b")
	same(t, "Stats().Channels", s.Stats().Channels, 2) // a and c have messages
}

func TestGroupsDeliverWhatTheirMembersGetAsMembers(t *testing.T) {
	t.Parallel()
	s := start(t, pubnubtest.Config{PollTimeout: time.Millisecond})
	register := func(group, query string) {
		get(t, s, "/v1/channel-registration/sub-key/demo/channel-group/"+group+"?"+query)
	}
	s.Publish("a", []byte(`"before it joined"`))
	register("g", "add=a,b")
	register("h", "add=b")
	s.Publish("a", []byte(`1`))
	s.Publish("b", []byte(`2`))
	read := func() string {
		var all []string
		for _, m := range poll(t, s, ",", "g,h", "1").M {
			all = append(all, string(m.D)+m.B)
		}
		return fmt.Sprint(all)
	}
	same(t, "poll(g,h)", read(), "[1g 2g 2h]")
	register("g", "remove=b")
	s.Publish("b", []byte(`3`))
	same(t, "poll(g,h) after b left g", read(), "[1g 2h 3h]")
	register("g", "add=b")
	same(t, "poll(g,h) after b came back to g", read(), "[1g 2h 3h]")
	s.Publish("b", []byte(`4`))
	same(t, "poll(g,h) after one more", read(), "[1g 2h 3h 4g 4h]")
	get(t, s, "/v1/channel-registration/sub-key/demo/channel-group/h/remove")
	same(t, "poll(g,h) after h was removed", read(), "[1g 4g]")
}

func TestQueueIsOneForAllGroups(t *testing.T) {
	t.Parallel()
	s := start(t, pubnubtest.Config{QueueSize: 10, PageSize: 6, PollTimeout: time.Millisecond})
	get(t, s, "/v1/channel-registration/sub-key/demo/channel-group/g?add=a,b")
	get(t, s, "/v1/channel-registration/sub-key/demo/channel-group/h?add=c")
	for i, p := range numbers(0, 30) {
		s.Publish([]string{"a", "b", "c"}[i%3], []byte(p))
	}
	first := poll(t, s, ",", "g,h", "1")
	got := append(first.payloads(), poll(t, s, ",", "g,h", first.T.T).payloads()...)
	same(t, "poll(g,h)", got, numbers(20, 30))
	same(t, "Stats().Overflows", s.Stats().Overflows, 1)
}

// TestGroupsAtScale is what a bridge of many lanes does: each lane polls ten
// groups, and everybody publishes.
func TestGroupsAtScale(t *testing.T) {
	t.Parallel()
	const lanes, groups, members, messages = 8, 10, 500, 8000
	s := start(t, pubnubtest.Config{QueueSize: messages})
	all := channelNames(lanes * groups * members)
	var subscriptions [lanes]string
	for g := range lanes * groups {
		name := fmt.Sprintf("lane-%d-%d", g/groups, g%groups)
		subscriptions[g/groups] += name + ","
		for part := range slices.Chunk(all[g*members:(g+1)*members], 250) {
			get(t, s, "/v1/channel-registration/sub-key/demo/channel-group/"+name+"?add="+strings.Join(part, ","))
		}
	}
	same(t, "Stats().Channels before the first message", s.Stats().Channels, 0)
	cursor := poll(t, s, ",", subscriptions[0], "").T.T
	received := make(chan map[string]string, lanes)
	for lane := range lanes {
		go func() {
			seen := make(map[string]string)
			for at := cursor; len(seen) < messages/lanes; {
				b := poll(t, s, ",", subscriptions[lane], at)
				for _, m := range b.M {
					seen[string(m.D)] = m.C
				}
				at = b.T.T
			}
			received <- seen
		}()
	}
	if err := s.WaitPolls(within(t, patience), lanes); err != nil {
		t.Fatalf("WaitPolls(%d) = %v, want nil", lanes, err)
	}
	for i := range messages { // one lane after the other, any member of it
		s.Publish(all[i%lanes*groups*members+i*7919%(groups*members)], fmt.Append(nil, i))
	}
	for range lanes {
		for payload, channel := range <-received {
			var i int
			fmt.Sscan(payload, &i)
			same(t, "channel of message "+payload, channel, all[i%lanes*groups*members+i*7919%(groups*members)])
		}
	}
	same(t, "Stats().Overflows", s.Stats().Overflows, 0)
}

func TestOneCopyAndOrder(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		one   bool
		pages int // sizes of pages of at most 5
		want  string
	}{
		{false, 4, "[0 0 1 1 2 2 3 3]"},
		{true, 4, "[0 1 2 3]"},
	} {
		s := start(t, pubnubtest.Config{OneCopy: tt.one, PageSize: 5, PollTimeout: time.Millisecond})
		for i := range 4 {
			s.Publish("a.b", fmt.Append(nil, i))
		}
		first := poll(t, s, "a.b,a.%2A", "", "1")
		same(t, "messages in the first page", len(first.M), 4) // a fifth would part two copies
		all := append(first.payloads(), poll(t, s, "a.b,a.%2A", "", first.T.T).payloads()...)
		same(t, fmt.Sprintf("poll with OneCopy %v", tt.one), all, tt.want)
	}
}

func TestEnvelopeOptions(t *testing.T) {
	t.Parallel()
	s := start(t, pubnubtest.Config{PollTimeout: time.Millisecond})
	for _, tt := range []struct {
		name    string
		payload string
		options []pubnubtest.PublishOption
		want    string // of the envelope, from d or e on
	}{
		{"file with a text message", `{"message":"hello","file":{}}`, []pubnubtest.PublishOption{pubnubtest.Type(4)},
			`{"a":"1","f":0,"e":4,"p":{"t":"T","r":1},"k":"demo","c":"C","d":{"message":"hello","file":{}},"b":"C"}`},
		{"null", ``, nil,
			`{"a":"1","f":0,"p":{"t":"T","r":1},"k":"demo","c":"C","d":null,"b":"C"}`},
		{"without d and b", `1`, []pubnubtest.PublishOption{pubnubtest.Omit("d", "b", "f")},
			`{"a":"1","p":{"t":"T","r":1},"k":"demo","c":"C"}`},
		{"fields of any kind", `1`, []pubnubtest.PublishOption{pubnubtest.Extra("a", `7`), pubnubtest.Extra("o", `{"t":"1"}`), pubnubtest.Extra("d", `nonsense`)},
			`{"a":7,"f":0,"p":{"t":"T","r":1},"k":"demo","c":"C","d":nonsense,"b":"C","o":{"t":"1"}}`},
		{"other region", `1`, []pubnubtest.PublishOption{pubnubtest.InRegion(12), pubnubtest.From(`"é`), pubnubtest.Sequence(9), pubnubtest.Meta([]byte(`[]`)), pubnubtest.Custom("x")},
			`{"a":"1","f":0,"i":"\"é","s":9,"p":{"t":"T","r":12},"k":"demo","c":"C","u":[],"cmt":"x","d":1,"b":"C"}`},
	} {
		channel := "hostile"
		tt.want = replaceAll(tt.want, "C", channel)
		token := s.Publish(channel, []byte(tt.payload), tt.options...)
		body := get(t, s, "/v2/subscribe/demo/"+channel+"/0?tt="+fmt.Sprint(token-10_000))
		same(t, tt.name, replaceAll(lastEnvelope(body), fmt.Sprint(token), "T"), tt.want)
		same(t, "history of "+tt.name, len(history(t, s, channel, "")) > 0, true)
	}
}

func TestOmitFields(t *testing.T) {
	t.Parallel()
	s := start(t, pubnubtest.Config{OmitFields: 1, PollTimeout: time.Millisecond})
	token := s.Publish("a", []byte("1"), pubnubtest.From("u"), pubnubtest.Type(4), pubnubtest.Sequence(1))
	body := get(t, s, "/v2/subscribe/demo/a/0?tt=1")
	same(t, "envelope", replaceAll(lastEnvelope(body), fmt.Sprint(token), "T"),
		`{"a":"1","f":0,"p":{"t":"T","r":1},"k":"demo","c":"a","d":1}`)
}

func TestLateMessages(t *testing.T) {
	t.Parallel()
	clock := newHandClock()
	s := start(t, pubnubtest.Config{Now: clock.Now, PollTimeout: time.Millisecond})
	early := s.Publish("a", []byte(`"early"`))
	passed := poll(t, s, "a", "", "1")
	clock.Advance(30 * time.Millisecond)
	late := s.Publish("a", []byte(`"late"`), pubnubtest.Late(50*time.Millisecond), pubnubtest.InRegion(2))
	if late >= early {
		t.Errorf("Publish(Late) = %d, want below %d", late, early)
	}
	same(t, "poll after the early one", poll(t, s, "a", "", passed.T.T).payloads(), []string{`"late"`})
	same(t, "history", history(t, s, "a", ""), []string{`"late"`, `"early"`})
}

func TestBoundsOfMemory(t *testing.T) {
	t.Parallel()
	s := start(t, pubnubtest.Config{MaxMessages: 500, HistoryLimit: 40, PollTimeout: time.Millisecond})
	for i := range 20_000 {
		s.Publish(fmt.Sprintf("user.%d.sync", i%3000), fmt.Append(nil, i))
		s.Publish("user.busy.sync", fmt.Append(nil, i))
	}
	stats := s.Stats()
	if stats.Messages > 500 || stats.Channels > 501 || stats.Bytes > 500*300 {
		t.Errorf("Stats() = %+v, want at most 500 messages", stats)
	}
	same(t, "history(busy)", len(history(t, s, "user.busy.sync", "")), 40)
	same(t, "newest of history(19999)", history(t, s, "user.1999.sync", ""), []string{"19999"})
	same(t, "poll(1)", len(poll(t, s, "user.%2A", "", "1").M), 100)

	s = start(t, pubnubtest.Config{MaxBytes: 50_000})
	for range 1000 {
		s.Publish("a", make([]byte, 1000))
	}
	if stats := s.Stats(); stats.Bytes > 50_000 || stats.Messages < 30 {
		t.Errorf("Stats() = %+v, want about 41 messages of 1,200 bytes", stats)
	}
}

func TestTimetokensRiseAcrossServers(t *testing.T) {
	t.Parallel()
	var tokens []int64
	for range 3 {
		s := start(t, pubnubtest.Config{})
		tokens = append(tokens, publish(s, "a", numbers(0, 1000))...)
		s.Close()
	}
	if !slices.IsSorted(tokens) || len(slices.Compact(tokens)) != 3000 {
		t.Error("Publish() over three servers does not rise strictly")
	}
}
