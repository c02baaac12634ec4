package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"reprise/otel"
	"reprise/stream"
)

// reachTime is how long one thing that a node needs may take to answer.
const reachTime = 10 * time.Second

// finding is what became of one thing that a node needs.
type finding struct {
	what string
	note string // what was found, or why it was not asked
	err  error  // nil where it was found, or not asked
}

// runCheck is reached only with settings that are good one by one. It looks at
// what they lead to, all at once.
func runCheck(ctx context.Context, c *call) error {
	if c.cfg.print {
		return printSettings(c)
	}
	if problems := checkFiles(c); len(problems) > 0 {
		return &usageError{problems: problems}
	}
	checks := []func(context.Context, *call) finding{reachNATS, reachPubNub, reachKeys}
	findings := make([]finding, len(checks))
	var wait sync.WaitGroup
	for i, check := range checks {
		wait.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, reachTime)
			defer cancel()
			findings[i] = check(ctx, c)
		})
	}
	wait.Wait()
	bad := 0
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "settings\tok\tthe configuration is in order\n")
	for _, f := range findings {
		if f.err != nil {
			bad++
			fmt.Fprintf(w, "%s\tFAILED\t%v\n", f.what, f.err)
			continue
		}
		fmt.Fprintf(w, "%s\tok\t%s\n", f.what, f.note)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d cannot be reached", bad, len(findings))
	}
	return nil
}

// printSettings shows the effective settings, and where each came from.
func printSettings(c *call) error {
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	for _, s := range usedBy("check") {
		if s.name == "print" {
			continue
		}
		row := s.name + "\t" + c.cfg.shown[s.name] + "\t" + string(c.cfg.origins[s.name]) + "\n"
		if _, err := w.Write([]byte(row)); err != nil {
			return err
		}
	}
	return w.Flush()
}

// checkFiles reads the files that a node reads when it starts, and OpenTelemetry's
// variables. What it returns is wrong with the configuration.
func checkFiles(c *call) (problems []string) {
	note := func(err error) {
		if err != nil {
			problems = append(problems, strings.Split(err.Error(), "\n")...)
		}
	}
	_, err := fileTLS("tls-cert-file", c.cfg.tlsCertFile, c.cfg.tlsKeyFile, c.log)
	note(err)
	_, err = adminTLS(c.cfg, c.log)
	note(err)
	if c.cfg.authPublicKeyFile != "" {
		if _, err := readPublicKey(c.cfg.authPublicKeyFile); err != nil {
			note(fmt.Errorf("auth-public-key-file: %w", err))
		}
	}
	note(otel.Check())
	return problems
}

// reachNATS connects to the external NATS and asks for JetStream. The log is
// only looked at.
func reachNATS(ctx context.Context, c *call) finding {
	f := finding{what: "nats"}
	if c.cfg.natsURL == "" {
		f.note = "embedded, in " + c.cfg.dataDir
		return f
	}
	f.note, f.err = stream.Probe(ctx, (&node{call: c, name: nodeName(c.cfg)}).streamConfig(nil))
	return f
}

// reachPubNub begins a subscription, which PubNub answers at once and forgets.
func reachPubNub(ctx context.Context, c *call) finding {
	f := finding{what: "pubnub"}
	if !c.cfg.pubnubSubscribeKey.isSet() {
		f.note = "not asked: pubnub-subscribe-key is not set, which only reprise edge does without"
		return f
	}
	target := url.URL{
		Scheme: "http", Host: c.cfg.pubnubOrigin,
		Path:     strings.Join([]string{"/v2/subscribe", c.cfg.pubnubSubscribeKey.reveal(), strings.Join(c.cfg.pubnubChannels, ","), "0"}, "/"),
		RawQuery: url.Values{"uuid": {"reprise-check"}, "tt": {"0"}}.Encode(),
	}
	if c.cfg.pubnubTLS {
		target.Scheme = "https"
	}
	if c.cfg.pubnubToken.isSet() {
		target.RawQuery += "&auth=" + url.QueryEscape(c.cfg.pubnubToken.reveal())
	}
	body, err := fetch(ctx, target.String())
	var reply struct {
		Cursor struct {
			Timetoken string `json:"t"`
		} `json:"t"`
	}
	switch {
	case err != nil:
		f.err = fmt.Errorf("%s: %w", c.cfg.pubnubOrigin, err)
	case json.Unmarshal(body, &reply) != nil || reply.Cursor.Timetoken == "":
		f.err = fmt.Errorf("%s: the answer is not PubNub's", c.cfg.pubnubOrigin)
	default:
		f.note = fmt.Sprintf("%s: %s can be subscribed to", c.cfg.pubnubOrigin, strings.Join(c.cfg.pubnubChannels, ", "))
	}
	return f
}

// reachKeys looks for the keys that tokens are checked with.
func reachKeys(ctx context.Context, c *call) finding {
	f := finding{what: "keys"}
	switch {
	case c.cfg.auth == "none":
		f.note = "none needed: auth is none"
	case c.cfg.authHMACSecret.isSet():
		f.note = "a shared secret"
	case c.cfg.authPublicKeyFile != "":
		f.note = c.cfg.authPublicKeyFile
	case c.cfg.authJWKSURL != "":
		body, err := fetch(ctx, c.cfg.authJWKSURL)
		var set struct {
			Keys []json.RawMessage `json:"keys"`
		}
		host := lookup("auth-jwks-url").printable(c.cfg.authJWKSURL)
		switch {
		case err != nil:
			f.err = fmt.Errorf("%s: %w", host, err)
		case json.Unmarshal(body, &set) != nil || len(set.Keys) == 0:
			f.err = fmt.Errorf("%s: the answer is no key set, or an empty one", host)
		default:
			f.note = fmt.Sprintf("%d at %s", len(set.Keys), host)
		}
	default:
		f.note = "none set, which only reprise bridge does without"
	}
	return f
}

// fetch gets a small document. Its error holds no URL: there are keys in it.
func fetch(ctx context.Context, target string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, withoutURL(err)
	}
	response, err := oneRequest().Do(request)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("no answer within %v", reachTime)
	}
	if err != nil {
		return nil, withoutURL(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return nil, withoutURL(err)
	}
	if response.StatusCode != http.StatusOK {
		var refusal struct {
			Message string `json:"message"`
		}
		_ = json.Unmarshal(body, &refusal) // no message is no message
		return nil, errors.New(strings.TrimSpace(cmp.Or(refusal.Message, "refused") + fmt.Sprintf(" (status %d)", response.StatusCode)))
	}
	return body, nil
}
