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
	if channel == "" || strings.ContainsAny(channel, "/?#, ") {
		return usage("CHANNEL: %q is no channel name", channel)
	}
	request, err := publishRequest(ctx, c.cfg, channel, payload)
	if err != nil {
		return err
	}
	client := oneRequest()
	client.Timeout = 15 * time.Second
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("%s: %w", request.URL.Host, withoutURL(err))
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("%s: %w", request.URL.Host, err)
	}
	timetoken, err := publishAnswer(response.StatusCode, body)
	if err != nil {
		return fmt.Errorf("%s: %w", request.URL.Host, err)
	}
	c.printf("%s\n", timetoken)
	return nil
}

// publishRequest makes the POST form of a publish.
func publishRequest(ctx context.Context, cfg *config, channel, payload string) (*http.Request, error) {
	origin, tls := cfg.pubnubOrigin, cfg.pubnubTLS
	publish, subscribe := cfg.pubnubPublishKey.reveal(), cfg.pubnubSubscribeKey.reveal()
	if publish == "" {
		publish, subscribe = emulatorKey, emulatorKey
		if cfg.origins["pubnub-origin"] == fromDefault {
			origin = emulatorOrigin
		}
		if cfg.origins["pubnub-tls"] == fromDefault {
			tls = false
		}
	}
	query := url.Values{"uuid": {uuid.NewString()}}
	if cfg.pubnubToken.isSet() {
		query.Set("auth", cfg.pubnubToken.reveal())
	}
	target := url.URL{
		Scheme:   "http",
		Host:     origin,
		Path:     strings.Join([]string{"", "publish", publish, subscribe, "0", channel, "0"}, "/"),
		RawQuery: query.Encode(),
	}
	if tls {
		target.Scheme = "https"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), strings.NewReader(payload))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", origin, withoutURL(err))
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
