package bridge

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"sync"
	"time"

	pubnub "github.com/pubnub/go/v7"
)

// subscription is a client of the PubNub SDK that keeps polling through a
// guard. The SDK is fenced in on all sides: it gets no secret key, no cipher
// and no logger (it would print all three and every token), sends no leave, no
// heartbeat and no /time call, has one subscribe call in its life (a second
// one moves its cursor), and its panics end here.
type subscription struct {
	pn      *pubnub.PubNub
	begun   <-chan struct{} // closed by the guard at the SDK's first poll
	drained sync.WaitGroup
	done    chan struct{} // closed by stop
}

// sdkConfig is what an SDK client is made from.
type sdkConfig struct {
	origin       string
	tls          bool
	subscribeKey string
	publishKey   string
	userID       string
}

// subscribe starts the SDK's subscribe loop over g. Whatever the SDK says to
// listeners is thrown away: g alone sees events.
func subscribe(cfg sdkConfig, g *guard) (*subscription, error) {
	s := &subscription{begun: g.open(), done: make(chan struct{})}
	err := contain("subscribe", func() {
		c := pubnub.NewConfigWithUserId(pubnub.UserId(cfg.userID))
		c.Origin, c.Secure = cfg.origin, cfg.tls
		c.SubscribeKey, c.PublishKey = cfg.subscribeKey, cfg.publishKey
		c.SuppressLeaveEvents = true
		c.PNReconnectionPolicy = pubnub.PNNonePolicy
		c.MaxWorkers = 0
		s.pn = pubnub.NewPubNub(c)
		// Without a client of its own for other calls, Destroy panics.
		s.pn.SetClient(&http.Client{Transport: g.base, Timeout: 10 * time.Second})
		s.pn.SetSubscribeClient(&http.Client{Transport: g})
		listener := pubnub.NewListener()
		s.drained.Go(func() { drain(listener, s.done) })
		s.pn.AddListener(listener)
	})
	if err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// start begins to poll channels, names and wildcards, and channel groups.
func (s *subscription) start(channels, groups []string) error {
	return contain("subscribe", func() { s.pn.Subscribe().Channels(channels).ChannelGroups(groups).Execute() })
}

// setToken gives the SDK the access token for its next request. It does not
// escape tokens itself.
func (s *subscription) setToken(token string) { s.pn.SetToken(url.QueryEscape(token)) }

// stop ends the client; the guard must have been stopped before. One goroutine
// of the SDK (ReadQueue) outlives it: v7.4.0 has no way to end that.
func (s *subscription) stop() error {
	defer s.drained.Wait()
	defer close(s.done)
	if s.pn == nil {
		return nil
	}
	// Destroy races with the SDK's own start until the first poll has begun.
	select {
	case <-s.begun:
	case <-time.After(time.Second):
	}
	return contain("destroy", s.pn.Destroy)
}

// contain calls into the SDK and turns a panic into an error. The panic's
// value is kept out of the text unless it is the runtime's: the SDK's own may
// hold what must not be logged.
func contain(what string, call func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("bridge: pubnub sdk: %s: panic", what)
			if r, ok := p.(runtime.Error); ok {
				err = fmt.Errorf("%w: %s", err, r.Error())
			}
		}
	}()
	call()
	return nil
}

// drain reads all of a listener's channels until done is closed. One that is
// not read costs the SDK a goroutine for every event.
func drain(l *pubnub.Listener, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-l.Status:
		case <-l.Message:
		case <-l.Presence:
		case <-l.Signal:
		case <-l.UUIDEvent:
		case <-l.ChannelEvent:
		case <-l.MembershipEvent:
		case <-l.MessageActionsEvent:
		case <-l.File:
		}
	}
}

// calls is a client of the SDK for single requests. It is used for what the SDK
// builds, the request; what it makes of the reply is thrown away, and the
// transport gives it nothing but a fixed good one (see capture). The context of
// a call goes onto its request, which the SDK sends from the calling goroutine.
// Safe for concurrent use, but that destroy is called once and last.
//
// token is "" for none. It is a parameter of the request and not SetToken's:
// that is one for all calls, so a slow one could put an old token back.
type calls struct{ pn *pubnub.PubNub }

func newCalls(cfg sdkConfig, transport http.RoundTripper) (*calls, error) {
	c := &calls{}
	err := contain("new", func() {
		conf := pubnub.NewConfigWithUserId(pubnub.UserId(cfg.userID))
		conf.Origin, conf.Secure = cfg.origin, cfg.tls
		conf.SubscribeKey, conf.PublishKey = cfg.subscribeKey, cfg.publishKey
		conf.SuppressLeaveEvents = true
		conf.PNReconnectionPolicy = pubnub.PNNonePolicy
		conf.MaxWorkers = 0 // with workers, publishing while Destroy runs crashes the process
		// Every call adds a latency, and every request averages all of them. They
		// are dropped each second if older than this many; the default is 60.
		conf.MaximumLatencyDataAge = 0
		c.pn = pubnub.NewPubNub(conf)
		c.pn.SetClient(&http.Client{Transport: transport})
		c.pn.SetSubscribeClient(&http.Client{Transport: transport})
	})
	return c, err
}

// messageCounts asks for the messages of channels since a timetoken.
func (c *calls) messageCounts(ctx context.Context, token string, channels []string, since int64) error {
	return contain("message counts", func() {
		c.pn.MessageCountsWithContext(ctx).Channels(channels).ChannelsTimetoken([]int64{since}).
			QueryParam(authQuery(token)).Execute()
	})
}

// fetch asks for history; 0 is no bound.
func (c *calls) fetch(ctx context.Context, token, channel string, start, end int64, most int) error {
	return contain("fetch", func() {
		b := c.pn.FetchWithContext(ctx).Channels([]string{channel}).Count(most).
			IncludeMeta(true).IncludeUUID(true).QueryParam(authQuery(token))
		if start > 0 {
			b.Start(start)
		}
		if end > 0 {
			b.End(end)
		}
		b.Execute()
	})
}

// addToGroup escapes the names, which the SDK does not.
func (c *calls) addToGroup(ctx context.Context, token, group string, channels []string) error {
	escaped := make([]string, len(channels))
	for i, name := range channels {
		escaped[i] = url.QueryEscape(name)
	}
	return contain("add to group", func() {
		c.pn.AddChannelToChannelGroupWithContext(ctx).ChannelGroup(group).Channels(escaped).
			QueryParam(authQuery(token)).Execute()
	})
}

// publish sends body as it is: a string that the SDK is told not to serialise
// is the one form that it does not change. meta goes through encoding/json,
// which drops white space and writes <, >, &, U+2028 and U+2029 as escapes, but
// leaves numbers and the order of keys alone; nil is none.
func (c *calls) publish(ctx context.Context, token, channel string, body, meta []byte) error {
	return contain("publish", func() {
		b := c.pn.PublishWithContext(ctx).Channel(channel).Message(string(body)).Serialize(false).
			UsePost(true).QueryParam(authQuery(token))
		if meta != nil {
			b.Meta(json.RawMessage(meta))
		}
		b.Execute()
	})
}

// destroy ends the client. As with a subscription, one goroutine outlives it.
func (c *calls) destroy() error { return contain("destroy", c.pn.Destroy) }

// authQuery is a token as the parameter that the SDK takes in place of its own;
// it escapes the value.
func authQuery(token string) map[string]string {
	if token == "" {
		return nil
	}
	return map[string]string{"auth": token}
}
