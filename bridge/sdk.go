package bridge

import (
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
	s := &subscription{begun: g.begun, done: make(chan struct{})}
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

// start begins to poll channels: names and wildcards.
func (s *subscription) start(channels []string) error {
	return contain("subscribe", func() { s.pn.Subscribe().Channels(channels).Execute() })
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
