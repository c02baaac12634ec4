package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"reprise/edge/client"
)

// runLog prints a user's stored events, page by page.
func runLog(ctx context.Context, c *call) error {
	for since := c.since(); ; {
		next, more, err := c.logPage(ctx, since)
		if err != nil || !more {
			return err
		}
		if next == since {
			return fmt.Errorf("%s: more events after %s, and none of them came", c.cfg.adminURL, since)
		}
		since = next
	}
}

// logPage prints what one answer holds. It returns from where to ask on, and
// whether there is more.
func (c *call) logPage(ctx context.Context, since string) (next string, more bool, err error) {
	response, err := c.askAdmin(ctx, http.MethodGet, "/v1/users/"+c.cfg.user+"/events", url.Values{"since": {since}})
	if err != nil {
		return "", false, err
	}
	defer response.Body.Close()
	lines := bufio.NewReader(response.Body)
	for {
		line, err := lines.ReadBytes('\n')
		if text := bytes.TrimSpace(line); len(text) > 0 {
			c.printf("%s\n", c.eventText(text))
		}
		if errors.Is(err, io.EOF) {
			return response.Header.Get("Reprise-Next"), response.Header.Get("Reprise-More") == "true", nil
		}
		if err != nil {
			return "", false, fmt.Errorf("%s: %w", c.cfg.adminURL, err)
		}
	}
}

// since is where the log is read from; all of it, if nothing was said.
func (c *call) since() string {
	if c.cfg.since == "" {
		return "earliest"
	}
	return c.cfg.since
}

// eventText is a stored frame as the settings want it.
func (c *call) eventText(raw []byte) string {
	f, err := client.Parse(raw)
	if c.cfg.json || err != nil {
		return string(raw)
	}
	return frameLine(f, inkFor(c.out))
}

// adminError is an answer of the admin listener that refuses.
type adminError struct {
	url           string
	status        int
	code, message string
}

func (e *adminError) Error() string { return e.url + ": " + e.code + ": " + e.message }

// askAdmin sends a request to the admin listener. An answer other than 200 is an
// error, an [*adminError] if it says why.
func (c *call) askAdmin(ctx context.Context, method, path string, query url.Values) (*http.Response, error) {
	target := strings.TrimSuffix(c.cfg.adminURL, "/") + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, method, target, nil)
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	if c.cfg.adminToken.isSet() {
		request.Header.Set("Authorization", "Bearer "+c.cfg.adminToken.reveal())
	}
	response, err := oneRequest().Do(request)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.cfg.adminURL, withoutURL(err))
	}
	if response.StatusCode == http.StatusOK {
		return response, nil
	}
	defer response.Body.Close()
	var answer struct {
		Error struct{ Code, Message string } `json:"error"`
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err == nil && json.Unmarshal(body, &answer) == nil && answer.Error.Code != "" {
		return nil, &adminError{c.cfg.adminURL, response.StatusCode, answer.Error.Code, answer.Error.Message}
	}
	return nil, fmt.Errorf("%s: status %d", c.cfg.adminURL, response.StatusCode)
}

// maxAnswer bounds an answer that is read as one: the log keeps half a MiB of a
// dead letter's payload, which JSON may make six times as long.
const maxAnswer = 16 << 20

// askJSON asks the admin listener and reads the answer, which it also returns as
// it came.
func (c *call) askJSON(ctx context.Context, method, path string, query url.Values, answer any) ([]byte, error) {
	response, err := c.askAdmin(ctx, method, path, query)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err == nil {
		err = json.Unmarshal(raw, answer)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.cfg.adminURL, err)
	}
	return raw, nil
}
