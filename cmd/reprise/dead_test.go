package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"reprise/bridge"
	"reprise/stream"
)

// deadNode is an admin listener that has the routes of the dead letters.
func deadNode(t *testing.T, log *stream.Log) (url string) {
	t.Helper()
	a := &admin{token: newSecret(hush), ready: func() (_, _ []string) { return nil, nil }, metrics: http.NotFoundHandler(), v1: deadHandler(log)}
	server := httptest.NewServer(a.handler())
	t.Cleanup(server.Close)
	return server.URL
}

// dead runs reprise dead.
func dead(t *testing.T, url string, args ...string) (code int, out, complaint string) {
	t.Helper()
	return reprise(t.Context(), []string{"REPRISE_ADMIN_TOKEN=" + hush}, append(append([]string{"dead"}, args...), "--admin-url", url)...)
}

func TestDeadReasons(t *testing.T) {
	t.Parallel()
	want := []bridge.Reason{bridge.NotJSON, bridge.NotObject, bridge.UnknownType, bridge.WrongChannel, bridge.BadChannel, bridge.BadID,
		bridge.BadNumber, bridge.BadTimestamp, bridge.BadValue, bridge.MissingField, bridge.TooLarge, bridge.TooDeep}
	about := strings.Join(strings.Fields(find(allCommands(), "dead list").about), " ")
	if !strings.Contains(about, strings.Join(deadReasons, " ")) {
		t.Errorf("reprise help dead list says %s, want %q in it", about, deadReasons)
	}
	if len(deadReasons) != len(want) {
		t.Errorf("deadReasons = %q, want %q", deadReasons, want)
	}
	for _, reason := range want {
		if !slices.Contains(deadReasons, string(reason)) {
			t.Errorf("deadReasons does not have %s", reason)
		}
	}
}

func TestDeadList(t *testing.T) {
	t.Parallel()
	log := openLog(t, 1)
	url := deadNode(t, log)
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, "there are no dead letters\n"},
		{[]string{"--reason", "bad_id", "--since", "24h"}, "there are no dead letters with the reason bad_id of the last 24h\n"},
		{[]string{"--json"}, ""},
	} {
		if code, out, complaint := dead(t, url, append([]string{"list"}, tt.args...)...); code != 0 || out != tt.want || complaint != "" {
			t.Errorf("run(dead list %q) of nothing = %d, %q, %q, want 0 and %q", tt.args, code, out, complaint, tt.want)
		}
	}
	bury(t, log, exampleSync, "bad_id", "1234567")
	bury(t, log, "evil\x1b[2Jevil", "bad_channel", "1")
	const rest = 2*deadPage + 1
	for i := range rest {
		bury(t, log, exampleSync, "not_json", fmt.Sprint("n", i))
	}
	code, out, complaint := dead(t, url, "list")
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if code != 0 || complaint != "" || len(lines) != 1+2+rest {
		t.Fatalf("run(dead list) = %d, %d lines, %s, want 0 and %d", code, len(lines), complaint, 1+2+rest)
	}
	const when = `\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`
	for i, want := range []string{
		`^NUMBER +BURIED +REASON +CHANNEL +DETAIL +SIZE$`,
		`^1 +` + when + ` +bad_id +` + regexp.QuoteMeta(exampleSync) + ` +it is <wrong> +7$`,
		`^2 +` + when + ` +bad_channel +"evil\\x1b\[2Jevil" +it is <wrong> +1$`,
	} {
		if !regexp.MustCompile(want).MatchString(lines[i]) {
			t.Errorf("run(dead list) line %d = %q, want %s", i, lines[i], want)
		}
	}
	for i, line := range lines[1:] {
		if !strings.HasPrefix(line, fmt.Sprint(i+1, " ")) {
			t.Errorf("run(dead list) line %d = %q, want number %d", i+1, line, i+1)
		}
	}
	for _, tt := range []struct {
		args []string
		want int // letters
	}{
		{[]string{"--reason", "bad_channel"}, 1},
		{[]string{"--reason", "not_json"}, rest},
		{[]string{"--since", "1h"}, 2 + rest},
	} {
		_, out, _ := dead(t, url, append([]string{"list", "--json"}, tt.args...)...)
		found := 0
		for line := range strings.Lines(out) {
			var d deadLetter
			if err := json.Unmarshal([]byte(line), &d); err != nil || d.Seq == 0 || d.Payload != nil {
				t.Errorf("run(dead list --json %q) printed %s, %v", tt.args, line, err)
			}
			found++
		}
		if found != tt.want {
			t.Errorf("run(dead list --json %q) printed %d letters, want %d", tt.args, found, tt.want)
		}
	}
}

// TestDeadListSince asks a node whose letters are of known times, in two pages.
func TestDeadListSince(t *testing.T) {
	t.Parallel()
	now := time.Now()
	pages := map[string]string{
		"0": fmt.Sprintf(`[{"seq":3,"buried_at":%d},{"seq":5,"buried_at":%d}]`, now.Add(-3*time.Hour).UnixMilli(), now.Add(-61*time.Minute).UnixMilli()),
		"5": fmt.Sprintf(`[{"seq":9,"buried_at":%d}]`, now.Add(-59*time.Minute).UnixMilli()),
		"9": `[]`,
	}
	var endless bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		after := r.URL.Query().Get("after")
		if endless {
			after = "0"
		}
		_, _ = w.Write([]byte(pages[after]))
	}))
	t.Cleanup(server.Close)
	for age, want := range map[string]string{"1h": "9", "2h": "5 9", "24h": "3 5 9", "30m": ""} {
		code, out, complaint := dead(t, server.URL, "list", "--json", "--since", age)
		var got []string
		for line := range strings.Lines(out) {
			var d deadLetter
			if err := json.Unmarshal([]byte(line), &d); err != nil {
				t.Errorf("run(dead list --since %s) printed %s", age, line)
			}
			got = append(got, fmt.Sprint(d.Seq))
		}
		if code != 0 || strings.Join(got, " ") != want {
			t.Errorf("run(dead list --since %s) = %d, %q, %s, want 0, %s", age, code, got, complaint, want)
		}
	}
	endless = true
	if code, _, complaint := dead(t, server.URL, "list"); code != 1 || !strings.Contains(complaint, "does not go on after 5") {
		t.Errorf("run(dead list) of a list that does not end = %d, %s, want 1", code, complaint)
	}
}

func TestDeadShow(t *testing.T) {
	t.Parallel()
	log := openLog(t, 1)
	url := deadNode(t, log)
	payloads := []struct{ raw, printed string }{
		{`{"a":"ü"}`, `{"a":"ü"}`},
		{"{\n\t\"a\": 1\n}", "{\n\t\"a\": 1\n}"},
		{"\x1b[2J", `"\x1b[2J"`},
		{"a\u202eb", `"a\u202eb"`},
		{"\xff", `"\xff"`},
		{"", ""},
		{strings.Repeat("x", 600<<10), strings.Repeat("x", 512<<10)},
	}
	for i, p := range payloads {
		bury(t, log, exampleSync, "bad_id", p.raw)
		code, out, complaint := dead(t, url, "show", fmt.Sprint(i+1))
		head, payload, _ := strings.Cut(out, "\n\n")
		if code != 0 || complaint != "" || payload != p.printed+"\n" {
			t.Errorf("run(dead show) of %.30q = %d, %.300q, %s, want 0, %.30q", p.raw, code, payload, complaint, p.printed)
		}
		for _, want := range []string{
			fmt.Sprintf("number     %d\n", i+1), "reason     bad_id\n", "detail     it is <wrong>\n", "channel    " + exampleSync + "\n",
			"timetoken  17954373395342100\n", "publisher  pub\n", "\nid         ", fmt.Sprintf("size       %d bytes", len(p.raw)),
		} {
			if !strings.Contains(head+"\n", want) {
				t.Errorf("run(dead show) of %.30q printed %s, want %q", p.raw, head, want)
			}
		}
		if cut := strings.Contains(head, ", the first 524288 of them kept"); cut != (len(p.raw) > 512<<10) {
			t.Errorf("run(dead show) of %.30q printed %s", p.raw, head)
		}
	}
	code, out, _ := dead(t, url, "show", "1", "--json")
	if code != 0 || !strings.HasPrefix(out, `{"seq":1,`) || !strings.HasSuffix(out, `"payload":"{\"a\":\"ü\"}"}`+"\n") {
		t.Errorf("run(dead show --json) = %d, %s, want the answer itself", code, out)
	}
	code, _, complaint := dead(t, url, "show", "99")
	if code != 1 || !strings.Contains(complaint, "not_found: there is no dead letter with this number") {
		t.Errorf("run(dead show 99) = %d, %s, want 1 and why", code, complaint)
	}
}

func TestDeadRetry(t *testing.T) {
	t.Parallel()
	log := openLog(t, 1)
	url := deadNode(t, log)
	if code, out, _ := dead(t, url, "retry", "--reason", "bad_id"); code != 0 || out != "there are no dead letters with the reason bad_id\n" {
		t.Errorf("run(dead retry --reason) of nothing = %d, %q, want 0", code, out)
	}
	for i := range 6 {
		bury(t, log, exampleSync, "bad_id", fmt.Sprint(i))
	}
	bury(t, log, exampleSync, "bad_number", "7")
	code, out, complaint := dead(t, url, "retry", "1", "2")
	if code != 1 || out != "of 2: 2 not judged\n" || !strings.Contains(complaint, "dead letter 1: "+url+": no_writer: nobody writes the shard at the moment, try again") {
		t.Errorf("run(dead retry 1 2) without a writer = %d, %q, %q, want 1 and why", code, out, complaint)
	}
	judge(t, log, 0, nil, func(seq uint64) string {
		switch seq {
		case 3:
			return `{"result":"refused","reason":"missing_field","detail":"no \u001b content_id"}`
		case 4:
			return `{"result":"what"}`
		}
		if err := log.Unbury(context.Background(), seq); err != nil {
			t.Errorf("Unbury(%d) error = %v", seq, err)
		}
		if seq == 2 {
			return `{"result":"duplicate"}`
		}
		return `{"result":"stored"}`
	})
	const failed = "the answer of the shard's writer is not understood; is it of another version?"
	tests := []struct {
		name string
		args []string
		code int
		out  string
		err  string
	}{
		{"one", []string{"1"}, 0, "1  stored\nof 1: 1 stored\n", ""},
		{"again", []string{"1"}, 0, "1  gone: there is no dead letter with this number\nof 1: 1 gone\n", ""},
		{"two", []string{"2", "3"}, 1, "2  duplicate: the log has it already\n3  refused: missing_field: \"no \\x1b content_id\"\nof 2: 1 duplicate, 1 refused\n", "1 of 2 are dead letters still"},
		{"a reason", []string{"--reason", "bad_id"}, 1, "3  refused: missing_field: \"no \\x1b content_id\"\n4  failed: " + failed + "\n5  stored\n6  stored\nof 4: 2 stored, 1 refused, 1 failed\n", "2 of 4 are dead letters still"},
		{"another reason", []string{"--reason", "bad_number"}, 0, "7  stored\nof 1: 1 stored\n", ""},
	}
	for _, tt := range tests {
		code, out, complaint := dead(t, url, append([]string{"retry"}, tt.args...)...)
		if code != tt.code || out != tt.out || !strings.Contains(complaint, tt.err) || (complaint == "") != (tt.err == "") {
			t.Errorf("run(dead retry %q) = %d, %q, %q, want %d, %q, %q", tt.args, code, out, complaint, tt.code, tt.out, tt.err)
		}
	}
}
