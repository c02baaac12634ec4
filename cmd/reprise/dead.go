package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"
)

// checkDeadNumbers says which operands are no numbers.
func checkDeadNumbers(_ *config, operands []string) (problems []string) {
	for _, text := range operands {
		if _, err := deadNumber(text); err != nil {
			problems = append(problems, fmt.Sprintf("N: %q is no number of a dead letter", text))
		}
	}
	return problems
}

func checkDeadRetry(cfg *config, operands []string) []string {
	problems := checkDeadNumbers(cfg, operands)
	from, read := cfg.origins["reason"]
	switch {
	case !read: // it has a mistake of its own
	case len(operands) == 0 && cfg.reason == "":
		problems = append(problems, "N: missing: name dead letters by their numbers, or those of a reason with --reason")
	case len(operands) > 0 && cfg.reason != "":
		problems = append(problems, fmt.Sprintf("reason: is given, and numbers are too; either will do (%s)", from))
	}
	return problems
}

// runDeadList prints the dead letters, a page at a time.
func runDeadList(ctx context.Context, c *call) error {
	var oldest int64 // Unix ms
	if c.cfg.sinceAge > 0 {
		oldest = time.Now().Add(-c.cfg.sinceAge).UnixMilli()
	}
	found := 0
	err := c.deadPages(ctx, func(page []json.RawMessage, letters []deadLetter) {
		table := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
		for i, d := range letters {
			if d.BuriedAt < oldest {
				continue
			}
			found++
			if c.cfg.json {
				c.printf("%s\n", page[i])
				continue
			}
			if found == 1 {
				fmt.Fprintln(table, "NUMBER\tBURIED\tREASON\tCHANNEL\tDETAIL\tSIZE")
			}
			fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%d\n", d.Seq, time.UnixMilli(d.BuriedAt).Format(time.DateTime),
				cell(d.Reason), cell(d.Channel), cell(d.Detail), d.Size)
		}
		_ = table.Flush() // a closed standard output is nobody's failure
	})
	if err == nil && found == 0 && !c.cfg.json {
		c.printf("%s\n", c.noDeadLetters())
	}
	return err
}

// noDeadLetters is the sentence for an empty list.
func (c *call) noDeadLetters() string {
	text := "there are no dead letters"
	if c.cfg.reason != "" {
		text += " with the reason " + c.cfg.reason
	}
	if c.cfg.sinceAge > 0 {
		text += " of the last " + c.cfg.shown["since"]
	}
	return text
}

// deadPages calls fn with all dead letters of the reason that is set, oldest
// first, as they came and as they are, some hundred at a time.
func (c *call) deadPages(ctx context.Context, fn func(page []json.RawMessage, letters []deadLetter)) error {
	query := url.Values{"limit": {strconv.Itoa(deadPage)}}
	if c.cfg.reason != "" {
		query.Set("reason", c.cfg.reason)
	}
	for after := uint64(0); ; {
		query.Set("after", strconv.FormatUint(after, 10))
		var page []json.RawMessage
		if _, err := c.askDead(ctx, http.MethodGet, "", query, &page); err != nil || len(page) == 0 {
			return err
		}
		letters := make([]deadLetter, len(page))
		for i := range page {
			if err := json.Unmarshal(page[i], &letters[i]); err != nil || letters[i].Seq <= after {
				return fmt.Errorf("%s: a list that does not go on after %d: %s", c.cfg.adminURL, after, cell(string(page[i])))
			}
			after = letters[i].Seq
		}
		fn(page, letters)
	}
}

// runDeadShow prints one dead letter.
func runDeadShow(ctx context.Context, c *call) error {
	var d deadLetter
	raw, err := c.askDead(ctx, http.MethodGet, "/"+c.args[0], nil, &d)
	switch {
	case err != nil:
		return err
	case c.cfg.json:
		c.printf("%s\n", raw)
		return nil
	}
	size := fmt.Sprintf("%d bytes", d.Size)
	if kept := len(d.payload()); kept < d.Size {
		size += fmt.Sprintf(", the first %d of them kept", kept)
	}
	for _, row := range [][2]string{
		{"number", strconv.FormatUint(d.Seq, 10)},
		{"buried", time.UnixMilli(d.BuriedAt).Format("2006-01-02 15:04:05.000 -07:00")},
		{"reason", cell(d.Reason)},
		{"detail", cell(d.Detail)},
		{"channel", cell(d.Channel)},
		{"timetoken", cell(d.Timetoken)},
		{"publisher", cell(d.Publisher)},
		{"id", cell(d.ID)},
		{"size", size},
	} {
		c.printf("%-9s  %s\n", row[0], row[1])
	}
	c.printf("\n%s\n", printed(string(d.payload()), "\n\t"))
	return nil
}

// retryFailed is what the writer could not say of a dead letter. Those after it
// may fare better.
const retryFailed = "failed"

// runDeadRetry has dead letters judged anew, one after another.
func runDeadRetry(ctx context.Context, c *call) error {
	numbers, err := c.toRetry(ctx)
	if err != nil {
		return err
	}
	if len(numbers) == 0 {
		c.printf("%s\n", c.noDeadLetters())
		return nil
	}
	counts := map[string]int{}
	for _, n := range numbers {
		var result, text string
		if result, text, err = c.retryDead(ctx, n); err != nil {
			err = fmt.Errorf("dead letter %d: %w", n, err)
			break // the others would fare no better
		}
		counts[result]++
		c.printf("%d  %s\n", n, text)
	}
	c.printf("%s\n", retrySummary(len(numbers), counts))
	if bad := counts[retryRefused] + counts[retryFailed]; err == nil && bad > 0 {
		err = fmt.Errorf("%d of %d are dead letters still", bad, len(numbers))
	}
	return err
}

// toRetry are the dead letters to judge anew. Those of a reason are listed
// before the first is judged: what is buried meanwhile is not among them.
func (c *call) toRetry(ctx context.Context) (numbers []uint64, err error) {
	for _, text := range c.args {
		n, err := deadNumber(text)
		if err != nil {
			return nil, fmt.Errorf("dead letter %q: %w", text, err)
		}
		numbers = append(numbers, n)
	}
	if len(numbers) > 0 {
		return numbers, nil
	}
	err = c.deadPages(ctx, func(_ []json.RawMessage, letters []deadLetter) {
		for _, d := range letters {
			numbers = append(numbers, d.Seq)
		}
	})
	return numbers, err
}

// retryDead has one dead letter judged anew. It returns what became of it, for
// counting and for reading.
func (c *call) retryDead(ctx context.Context, n uint64) (result, text string, err error) {
	var answer retried
	_, err = c.askDead(ctx, http.MethodPost, fmt.Sprintf("/%d/retry", n), nil, &answer)
	var refusal *adminError
	switch {
	case errors.As(err, &refusal) && refusal.status == http.StatusNotFound:
		return retryGone, "gone: " + refusal.message, nil
	case errors.As(err, &refusal) && refusal.status == http.StatusBadGateway:
		return retryFailed, "failed: " + refusal.message, nil
	case err != nil:
		return "", "", err
	case answer.Result == retryDuplicate:
		return answer.Result, "duplicate: the log has it already", nil
	case answer.Result == retryRefused:
		return answer.Result, "refused: " + cell(answer.Reason) + ": " + cell(answer.Detail), nil
	}
	return answer.Result, cell(answer.Result), nil
}

// retrySummary is the last line of a retry of all dead letters.
func retrySummary(all int, counts map[string]int) string {
	var parts []string
	rest := all
	for _, result := range []string{retryStored, retryDuplicate, retryRefused, retryGone, retryFailed} {
		if n := counts[result]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, result))
			rest -= n
		}
	}
	if rest > 0 {
		parts = append(parts, fmt.Sprintf("%d not judged", rest))
	}
	return fmt.Sprintf("of %d: %s", all, strings.Join(parts, ", "))
}

// askDead asks for what is below /v1/dead and reads the answer, which it also
// returns as it came.
func (c *call) askDead(ctx context.Context, method, path string, query url.Values, answer any) ([]byte, error) {
	return c.askJSON(ctx, method, "/v1/dead"+path, query, answer)
}

// cell is a text in one line, "-" where there is none.
func cell(text string) string {
	if text == "" {
		return "-"
	}
	return printed(text, "")
}

// printed is text as it is, if no character of it does anything to a terminal
// but those that are allowed, and quoted otherwise.
func printed(text, allowed string) string {
	for _, r := range text {
		if !unicode.IsPrint(r) && !strings.ContainsRune(allowed, r) {
			return strconv.Quote(text)
		}
	}
	if !utf8.ValidString(text) {
		return strconv.Quote(text)
	}
	return text
}
