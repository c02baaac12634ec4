package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"

	"reprise/edge/client"
	"reprise/hlc"
)

// runTail is a device on the command line.
func runTail(ctx context.Context, c *call) error {
	device := c.cfg.device
	if device == "" {
		device = uuid.NewString()
	}
	ink := inkFor(c.out)
	ctx, end := context.WithCancel(ctx)
	defer end()
	var refused error // of the token
	config := client.Config{
		URL:    c.cfg.url,
		User:   c.cfg.user,
		Device: device,
		Since:  c.cfg.since,
		Echo:   c.cfg.echo,
		Logger: c.log,
		// It only looks: what it has seen is no reason for the edge to begin elsewhere.
		AckEvery: -1,
		OnFrame: func(f client.Frame) {
			if c.cfg.json {
				c.printf("%s\n", f.Raw)
				return
			}
			c.printf("%s\n", frameLine(f, ink))
		},
		OnDisconnect: func(err error, wait time.Duration) {
			if r := (*client.RefusedError)(nil); errors.As(err, &r) && r.Status == http.StatusUnauthorized {
				refused = err // there is no other token
				end()
				return
			}
			fmt.Fprintf(c.err, "# %v; again in %v\n", err, wait.Round(time.Millisecond))
		},
	}
	if c.cfg.token.isSet() {
		config.Token = func(context.Context) (string, error) { return c.cfg.token.reveal(), nil }
	}
	self, err := client.New(config)
	if err != nil {
		return err
	}
	if err = self.Run(ctx); refused != nil {
		err = refused
	}
	if since := self.Since(); since != "" {
		fmt.Fprintf(c.err, "# to go on from here:\n%s\n", continueLine(c.self, c.cfg, device, since))
	}
	return err
}

// continueLine is the command that goes on where this tail ends.
func continueLine(program string, cfg *config, device, since string) string {
	words := []string{"tail"}
	if cfg.file != "" {
		words = append(words, "--config", cfg.file)
	}
	if cfg.user != "" {
		words = append(words, "--user", cfg.user)
	}
	words = append(words, "--device", device, "--since", since)
	if cfg.origins["url"] != fromDefault {
		words = append(words, "--url", lookup("url").printable(cfg.url))
	}
	if from := cfg.origins["token"]; strings.HasPrefix(string(from), "--") {
		words = append(words, string(from), cmp.Or(cfg.secretFiles["token"], "…"))
	}
	if cfg.echo {
		words = append(words, "--echo")
	}
	if cfg.json {
		words = append(words, "--json")
	}
	for _, word := range words {
		program += " " + shellWord(word)
	}
	return program
}

// ink colours a text for what it is; nil leaves it as it is.
type ink func(what, text string) string

// coloured is the ink of a terminal. What matters less is faint, types of events differ.
func coloured(what, text string) string {
	code := map[string]string{
		"watchlist_update": "32", "progress_update": "36", "device_command": "33", "notification": "35", "announcement": "34",
		"bad": "1;31", "good": "32",
	}[what]
	return "\x1b[" + cmp.Or(code, "2") + "m" + text + "\x1b[0m"
}

// inkFor is coloured where w is a terminal and nobody asked for none (no-color.org).
func inkFor(w io.Writer) ink {
	if isTerminal(w) && os.Getenv("NO_COLOR") == "" {
		return coloured
	}
	return nil
}

func (i ink) on(what, text string) string {
	if i == nil {
		return text
	}
	return i(what, text)
}

// frameLine is a frame for reading: time, type, hlc, and the other members as
// they stand.
func frameLine(f client.Frame, ink ink) string {
	var line strings.Builder
	at, stamp := "            ", "-"
	if f.Hlc != hlc.Zero {
		at, stamp = f.Hlc.Time().Local().Format("15:04:05.000"), f.Hlc.String()
	}
	fmt.Fprintf(&line, "%s  %s  %s", ink.on("time", at), ink.on(f.Type, fmt.Sprintf("%-16s", f.Type)), ink.on("hlc", fmt.Sprintf("%-16s", stamp)))
	for _, m := range members(f.Raw) {
		if m.name == "type" || m.name == "hlc" {
			continue
		}
		value := m.value
		switch {
		case f.Type == "error", strings.Contains(value, `"complete":false`):
			value = ink.on("bad", value)
		case strings.Contains(value, `"complete":true`):
			value = ink.on("good", value)
		}
		fmt.Fprintf(&line, "  %s%s", ink.on("name", m.name+"="), value)
	}
	return line.String()
}

// member is one member of a JSON object, its value as it is written. A string
// that needs no quotes to be read has none.
type member struct{ name, value string }

// members reads the members of an object in their order.
func members(raw []byte) []member {
	var found []member
	d := json.NewDecoder(bytes.NewReader(raw))
	if _, err := d.Token(); err != nil {
		return nil
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return found
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return found
		}
		found = append(found, member{fmt.Sprint(name), plain(value)})
	}
	return found
}

// plain is a JSON value without quotes, where it is a string without spaces,
// quotes and control characters.
func plain(value json.RawMessage) string {
	var text string
	if json.Unmarshal(value, &text) != nil || text == "" {
		return string(value)
	}
	for _, r := range text {
		if r <= ' ' || r == '"' || r == '\\' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return string(value)
		}
	}
	return text
}
