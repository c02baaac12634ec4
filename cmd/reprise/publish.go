package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
)

// emulatorOrigin and emulatorKey are what publish uses when it has no keys.
const (
	emulatorOrigin = "127.0.0.1:8090"
	emulatorKey    = "demo"
)

// runPublish publishes one message by PubNub's HTTP interface.
func runPublish(ctx context.Context, c *call) error {
	channel, payload := c.args[0], c.args[1]
	if !json.Valid([]byte(payload)) {
		return usage("JSON: %q is no JSON; quote it for the shell, as in '%s'", payload, `{"text":"hello"}`)
	}
	if !isChannel(channel) {
		return usage("CHANNEL: %q is no channel name", channel)
	}
	timetoken, err := publisherOf(c.cfg).publish(ctx, oneRequest(), channel, payload)
	if err != nil {
		return err
	}
	c.printf("%s\n", timetoken)
	return nil
}

func isChannel(name string) bool { return name != "" && !strings.ContainsAny(name, "/?#, ") }

// publisher is who publishes at a PubNub.
type publisher struct {
	origin             string // host:port
	tls                bool
	publishKey, subKey string
	token              string // "" is none
}

// publisherOf is the one of the settings; without keys, the emulator's.
func publisherOf(cfg *config) publisher {
	p := publisher{
		origin: cfg.pubnubOrigin, tls: cfg.pubnubTLS, token: cfg.pubnubToken.reveal(),
		publishKey: cfg.pubnubPublishKey.reveal(), subKey: cfg.pubnubSubscribeKey.reveal(),
	}
	if p.publishKey == "" {
		p.publishKey, p.subKey = emulatorKey, emulatorKey
		if cfg.origins["pubnub-origin"] == fromDefault {
			p.origin = emulatorOrigin
		}
		if cfg.origins["pubnub-tls"] == fromDefault {
			p.tls = false
		}
	}
	return p
}

// publish publishes one message and returns its timetoken.
func (p publisher) publish(ctx context.Context, client *http.Client, channel, payload string) (timetoken string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	request, err := p.request(ctx, channel, payload)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", fmt.Errorf("%s: %w", p.origin, withoutURL(err))
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return "", fmt.Errorf("%s: %w", p.origin, err)
	}
	if timetoken, err = publishAnswer(response.StatusCode, body); err != nil {
		return "", fmt.Errorf("%s: %w", p.origin, err)
	}
	return timetoken, nil
}

// request makes the POST form of a publish.
func (p publisher) request(ctx context.Context, channel, payload string) (*http.Request, error) {
	query := url.Values{"uuid": {uuid.NewString()}}
	if p.token != "" {
		query.Set("auth", p.token)
	}
	target := url.URL{
		Scheme:   "http",
		Host:     p.origin,
		Path:     strings.Join([]string{"", "publish", p.publishKey, p.subKey, "0", channel, "0"}, "/"),
		RawQuery: query.Encode(),
	}
	if p.tls {
		target.Scheme = "https"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), strings.NewReader(payload))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.origin, withoutURL(err))
	}
	request.Header.Set("Content-Type", "application/json")
	return request, nil
}

// publishAnswer reads PubNub's answer to a publish: [1,"Sent","<timetoken>"],
// [0,"why not","<timetoken>"], or an object with a message.
func publishAnswer(status int, body []byte) (timetoken string, err error) {
	var sent []any
	if json.Unmarshal(body, &sent) == nil && len(sent) >= 3 {
		if ok, _ := sent[0].(float64); ok == 1 && status == http.StatusOK {
			return fmt.Sprint(sent[2]), nil
		}
		return "", fmt.Errorf("refused: %v", sent[1])
	}
	var refusal struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &refusal) == nil && refusal.Message != "" {
		return "", fmt.Errorf("refused with status %d: %s", status, refusal.Message)
	}
	return "", fmt.Errorf("status %d, and an answer that is not PubNub's", status)
}

// oneRequest is a client for a request of a command, after which there is none.
func oneRequest() *http.Client {
	return &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}}
}

// withoutURL drops the URL from an HTTP client's error: it holds the keys and
// the token.
func withoutURL(err error) error {
	var e *url.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}
