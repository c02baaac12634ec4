package bridge

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"reprise/bridge/pubnubtest"
)

// TestNothingSecretIsLogged makes every poll fail in the ways whose errors hold
// the URL or a piece of the reply, at the log's finest level, and looks for
// what was planted in URL, reply and payload.
func TestNothingSecretIsLogged(t *testing.T) {
	t.Parallel()
	const token, subKey, pubKey, body = "p0F2AkF0Gl_token_secret", "sub-c-key-secret", "pub-c-key-secret", "payload-secret"
	r := newRig(t, 1, pubnubtest.Config{SubscribeKey: subKey, PublishKey: pubKey, RequirePAM: true})
	r.pubnub.SetToken(token, pubnubtest.Token{ChannelPatterns: map[string]int{`^(user|global)\..*$`: pubnubtest.Read}})
	r.cfg.SubscribeKey, r.cfg.PublishKey = subKey, pubKey
	r.cfg.Token = func() string { return token }
	r.follow()
	stop := r.start()
	for _, f := range []pubnubtest.Fault{
		{Kind: pubnubtest.Garbage}, {Kind: pubnubtest.Hangup}, {Kind: pubnubtest.Reset}, {Kind: pubnubtest.CutChunks}, {Kind: pubnubtest.LongLength},
		{Kind: pubnubtest.CutJSON}, {Kind: pubnubtest.Status, Status: 403, Body: `{"payload":{"channels":["` + body + `"]}}`},
		{Kind: pubnubtest.Status, Status: 400, Body: body}, {Kind: pubnubtest.Status, Status: 200, Body: body}, {Kind: pubnubtest.Status, Status: 500, Body: body},
		{Kind: pubnubtest.Status, Status: 301, Location: "http://127.0.0.1:1/" + body},
	} {
		f.Endpoint, f.Times = pubnubtest.Poll, 1
		hit := r.pubnub.Inject(f)
		r.pubnub.Publish("user."+testUser+".notifications", []byte(`{"x":"`+body+`"}`), pubnubtest.Meta([]byte(`{"m":"`+body+`"}`)), pubnubtest.From(body))
		r.pubnub.Publish("user."+testUser+".sync", []byte(`{"type":"`+body+`","device_id":"`+body+`"}`), pubnubtest.From(body))
		if err := hit.WaitHits(testContext(t), 1); err != nil {
			t.Fatalf("%s: %v", f.Kind, err)
		}
		r.events(1) // a good poll in between keeps the backoff short
	}
	r.dead(11)
	r.pubnub.Stop()
	r.pubnub.Restart()
	r.noMore(testUser)
	stop()
	noSecrets(t, r.logged.String(), token, subKey, pubKey, body)
	if !strings.Contains(r.logged.String(), "poll failed") {
		t.Errorf("the failures were not logged at all:\n%s", r.logged)
	}
}

// TestMalformedReplyIsNotLogged has a server that answers with a status line
// of its own making, which net/http repeats in its error.
func TestMalformedReplyIsNotLogged(t *testing.T) {
	t.Parallel()
	const planted = "planted-in-the-reply"
	r := newRig(t, 1, pubnubtest.Config{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	answered := make(chan struct{}, 1<<10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(patience))
			c.Read(make([]byte, 4096))
			io.WriteString(c, "HTTP/1.1 "+planted+"\r\n\r\n")
			c.Close()
			answered <- struct{}{}
		}
	}()
	r.cfg.Origin = l.Addr().String()
	b, err := New(r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- b.Run(ctx) }()
	for range 4 {
		<-answered
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run() = %v, want nil", err)
	}
	if s := b.Stats(); s.FailedPolls < 3 {
		t.Errorf("Stats() = %+v, want failed polls", s)
	}
	noSecrets(t, r.logged.String(), planted)
}

func noSecrets(t *testing.T, logged string, planted ...string) {
	t.Helper()
	for _, line := range strings.Split(logged, "\n") {
		for _, p := range planted {
			if strings.Contains(line, p) {
				t.Errorf("logged %q in %s", p, line)
			}
		}
	}
}
