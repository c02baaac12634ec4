package bridge

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"reprise/bridge/pubnubtest"
)

// TestHostileEnvelopes publishes what crashes, derails or blinds the SDK's own
// listeners, between good events: the good ones arrive in order, the others
// are dead letters or, where their body is in order, events too.
func TestHostileEnvelopes(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, pubnubtest.Config{})
	r.follow()
	stop := r.start()
	notices, sync := "user."+testUser+".notifications", "user."+testUser+".sync"
	deep := strings.Repeat("[", 16_000) + strings.Repeat("]", 16_000)
	for _, tt := range []struct {
		name, channel, payload string
		options                []pubnubtest.PublishOption
		dead                   bool
	}{
		{"file whose message is a string", notices, `{"message":"hello","file":{"id":"1","name":"x"}}`, []pubnubtest.PublishOption{pubnubtest.Type(4)}, false},
		{"file that is a string", notices, `{"file":"x"}`, []pubnubtest.PublishOption{pubnubtest.Type(4)}, false},
		{"file of type 4, no object", notices, `7`, []pubnubtest.PublishOption{pubnubtest.Type(4)}, true},
		{"objects event", notices, `{"name":null}`, []pubnubtest.PublishOption{pubnubtest.Type(2)}, false},
		{"message action", notices, `{}`, []pubnubtest.PublishOption{pubnubtest.Type(3)}, false},
		{"presence in the channel's name", "user.a-pnpres-b.sync", `{"here_now_refresh":"x"}`, nil, true},
		{"null", sync, `null`, nil, true},
		{"crypto header", sync, `"UE5FRAFBQ1JIEA=="`, nil, true},
		{"16,000 levels", sync, deep, nil, true},
		{"no payload", sync, `1`, []pubnubtest.PublishOption{pubnubtest.Omit("d")}, true},
		{"no channel", sync, `1`, []pubnubtest.PublishOption{pubnubtest.Omit("c")}, true},
		{"channel is a number", sync, `1`, []pubnubtest.PublishOption{pubnubtest.Extra("c", "7")}, true},
		{"channel with a line feed", sync, `1`, []pubnubtest.PublishOption{pubnubtest.Extra("c", `"user.x\r\nNats-Msg-Id: 1"`)}, true},
		{"channel of 2,000 characters", sync, `1`, []pubnubtest.PublishOption{pubnubtest.Extra("c", `"`+strings.Repeat("x", 2000)+`"`)}, true},
		{"publisher with a line feed", sync, `1`, []pubnubtest.PublishOption{pubnubtest.From("x\r\nReprise-Reason: fine")}, true},
		{"publisher is an object", notices, `{}`, []pubnubtest.PublishOption{pubnubtest.Extra("i", `{}`)}, false},
		{"publisher is null", notices, `{}`, []pubnubtest.PublishOption{pubnubtest.Extra("i", `null`)}, false},
		{"sequence is a string, flags too", notices, `{}`, []pubnubtest.PublishOption{pubnubtest.Extra("s", `"7"`), pubnubtest.Extra("f", `"x"`)}, false},
		{"no publish timetoken", notices, `{}`, []pubnubtest.PublishOption{pubnubtest.Omit("p")}, true},
		{"publish timetoken is a word", notices, `{}`, []pubnubtest.PublishOption{pubnubtest.Extra("p", `{"t":"soon","r":1}`)}, true},
		{"meta is a number", notices, `{}`, []pubnubtest.PublishOption{pubnubtest.Meta([]byte("7"))}, false},
		{"payload twice", notices, `{}`, []pubnubtest.PublishOption{pubnubtest.Extra("d", `{"last":1},"d":{"last":2}`)}, false},
	} {
		r.pubnub.Publish(tt.channel, []byte(tt.payload), tt.options...)
		if !tt.dead {
			if rec := r.events(1)[0]; rec.User != testUser {
				t.Errorf("%s: user %s, want %s", tt.name, rec.User, testUser)
			}
		}
		r.noMore(testUser)
	}
	stop()
	all := r.dead(13)
	for _, m := range all {
		for name, values := range m.Headers() {
			if len(values) != 1 || len(values[0]) > 1100 || strings.ContainsAny(values[0], "\r\n") {
				t.Errorf("dead letter with header %s = %q, want one short line", name, values)
			}
		}
	}
	if s := r.b.Stats(); s.Dead != 13 || s.FailedPolls != 0 {
		t.Errorf("Stats() = %+v, want 13 dead and no failed poll", s)
	}
}

// TestContain turns a panic of the SDK into an error without its value, unless
// that is the runtime's own.
func TestContain(t *testing.T) {
	t.Parallel()
	if err := contain("x", func() {}); err != nil {
		t.Errorf("contain(nothing) = %v, want nil", err)
	}
	if err := contain("x", func() { panic(fmt.Sprint("sec", "ret")) }); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("contain(panic) = %v, want an error without the value", err)
	}
	if err := contain("x", func() { _ = []byte(nil)[len(t.Name())] }); err == nil || !strings.Contains(err.Error(), "index out of range") {
		t.Errorf("contain(index) = %v, want the runtime's words", err)
	}
	if err := (&pollError{result: pollStatus, class: "404"}); err.Error() != "status: 404" || !errors.As(error(err), new(*pollError)) {
		t.Errorf("pollError = %v, want status: 404", err)
	}
}
