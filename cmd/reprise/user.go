package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// checkUser says whether the operand is a user.
func checkUser(_ *config, operands []string) (problems []string) {
	for _, text := range operands {
		if text == "" || identifier(new(string))(text) != nil {
			problems = append(problems, fmt.Sprintf("U: %q is no UUID of 36 lower-case characters", text))
		}
	}
	return problems
}

// runUserShow prints everything there is of a user.
func runUserShow(ctx context.Context, c *call) error {
	var v userView
	raw, err := c.askUser(ctx, http.MethodGet, "", nil, &v)
	if err != nil {
		return err
	}
	if c.cfg.json {
		c.printf("%s\n", raw)
		return nil
	}
	at := func(ms int64) string { return time.UnixMilli(ms).Format(time.DateTime) }
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "user\t%s\n", v.User)
	events := "none"
	if v.Events > 0 {
		events = fmt.Sprintf("%d, from %s to %s", v.Events, v.First, v.Last)
	}
	fmt.Fprintf(w, "events\t%s\n", events)
	fmt.Fprintf(w, "waiting to be published\t%d\n", v.Outbox)
	fmt.Fprintf(w, "dead letters\t%d\n", v.DeadLetters)
	fmt.Fprintf(w, "registered\t%v\n", v.Registered)
	if v.RevokedBefore != 0 {
		fmt.Fprintf(w, "tokens revoked\tthose issued before %s\n", at(v.RevokedBefore))
	}
	if v.ForgottenBefore != 0 {
		fmt.Fprintf(w, "forgotten\twhat was published before %s\n", at(v.ForgottenBefore))
	}
	_ = w.Flush() // a closed standard output is nobody's failure

	c.printf("\nconnections: %d\n", len(v.Connections))
	for _, o := range v.Connections {
		fmt.Fprintf(w, "  %s\tat %s\tsince %s\tcursor %s\tfrom %s\n", o.Device, cell(o.Node), at(o.Connected), o.Cursor, cell(o.Remote))
	}
	_ = w.Flush()
	c.printf("devices heard of within a minute: %d\n", len(v.Devices))
	for _, d := range v.Devices {
		fmt.Fprintf(w, "  %s\t%s\n", cell(d.Device), at(d.Seen))
	}
	_ = w.Flush()
	c.printf("acknowledged cursors: %d\n", len(v.Cursors))
	for _, device := range slices.Sorted(maps.Keys(v.Cursors)) {
		fmt.Fprintf(w, "  %s\t%s\n", cell(device), v.Cursors[device])
	}
	_ = w.Flush()
	c.printf("%s", silence(v.Silent))
	return nil
}

// silence is a line about edges that did not answer, or nothing.
func silence(nodes []string) string {
	if len(nodes) == 0 {
		return ""
	}
	return "no answer from " + cell(strings.Join(nodes, ", ")) + ": an edge that has gone is expected for ten minutes\n"
}

// runUserDisconnect ends a user's connections at all edges.
func runUserDisconnect(ctx context.Context, c *call) error {
	query := url.Values{}
	if c.cfg.revoke {
		query.Set("revoke", "1")
	}
	var done userDone
	raw, err := c.askUser(ctx, http.MethodPost, "/disconnect", query, &done)
	if err != nil {
		return err
	}
	return c.report(raw, done, "")
}

// runUserForget erases everything that is kept of a user.
func runUserForget(ctx context.Context, c *call) error {
	var done userDone
	raw, err := c.askUser(ctx, http.MethodDelete, "", nil, &done)
	if err != nil {
		return err
	}
	return c.report(raw, done, fmt.Sprintf("%d events erased, and the folded state, cursors, presence, outbox, dead letters and registration\n", done.Erased))
}

// report prints what was done. What is left is an error.
func (c *call) report(raw []byte, done userDone, more string) error {
	if c.cfg.json {
		c.printf("%s\n", raw)
	} else {
		c.printf("%d connections ended\n%s", done.Disconnected, more)
		if done.Revoked {
			c.printf("tokens that were issued before now are refused for 30 days\n")
		}
		c.printf("%s", silence(done.Silent))
	}
	if done.Left > 0 {
		return fmt.Errorf("%d connections are there still after %v", done.Left, goneWithin)
	}
	return nil
}

// askUser asks for what is below /v1/users/{user} and reads the answer, which it
// also returns as it came.
func (c *call) askUser(ctx context.Context, method, path string, query url.Values, answer any) ([]byte, error) {
	return c.askJSON(ctx, method, "/v1/users/"+c.args[0]+path, query, answer)
}
