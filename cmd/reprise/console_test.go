package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"reprise/edge/client"
)

func startDev(t *testing.T) *running {
	return start(t, append([]string{"dev", "--emulator-listen", "127.0.0.1:0", "--data-dir", t.TempDir()}, freePorts...)...)
}

// TestDevSaysWhereThePageIs opens what reprise dev prints, and does what it suggests.
func TestDevSaysWhereThePageIs(t *testing.T) {
	t.Parallel()
	n := startDev(t)
	eventually(t, "the welcome", func() bool { return strings.Contains(n.out.String(), "Ctrl-C ends.") })
	text := n.out.String()
	for listener, title := range map[string]string{"devices": "page", "admin": "admin"} {
		url := regexp.MustCompile(`\n  ` + title + ` +(\S+) `).FindStringSubmatch(text)
		if len(url) == 0 || url[1] != "http://"+n.addrs[listener]+"/" {
			t.Errorf("the page at the %s listener is not told:\n%s", listener, text)
			continue
		}
		resp, err := http.Get(url[1])
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || !strings.HasPrefix(got, "text/html") {
			t.Errorf("GET %s = %d, %s", url[1], resp.StatusCode, got)
		}
	}
	_, suggested, _ := strings.Cut(text, "  reprise publish ")
	suggested, _, _ = strings.Cut(suggested, "\n")
	args := append([]string{"publish"}, strings.Fields(strings.ReplaceAll(suggested, "'", ""))...)
	if code, out, complaint := reprise(t.Context(), nil, args...); code != exitOK {
		t.Errorf("run(%q) = %d, %s%s", args, code, out, complaint)
	}
	if help := find(allCommands(), "dev").about; !strings.Contains(help, "http://"+lookup("listen").def+"/") {
		t.Errorf("help dev does not name the page:\n%s", help)
	}
}

// loaded is what a page names that a browser then loads.
var loaded = regexp.MustCompile(`(?:src|href)="(/[^"]+)"|(?:from |import\()"(\./[^"]+)"`)

// TestConsoleIsWhole loads the page and everything that it names, at both listeners.
func TestConsoleIsWhole(t *testing.T) {
	t.Parallel()
	n := startDev(t)
	for _, listener := range []string{"devices", "admin"} {
		queue := []string{"/"}
		for i := 0; i < len(queue); i++ {
			resp, err := http.Get("http://" + n.addrs[listener] + queue[i])
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("%s: GET %s = %d, %v", listener, queue[i], resp.StatusCode, err)
				continue
			}
			h := resp.Header
			if csp := h.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'; script-src 'self';") || strings.Contains(csp, "unsafe") || h.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s: GET %s has the headers %v", listener, queue[i], h)
			}
			if strings.Contains(string(body), "//cdn") || strings.Contains(string(body), "https://") {
				t.Errorf("%s: %s names a place elsewhere", listener, queue[i])
			}
			for _, found := range loaded.FindAllStringSubmatch(string(body), -1) {
				next := found[1]
				if found[2] != "" {
					next = path.Join(path.Dir(queue[i]), found[2])
				}
				if !slices.Contains(queue, next) {
					queue = append(queue, next)
				}
			}
		}
		if len(queue) < 15 || !slices.Contains(queue, "/console/client/reprise.js") {
			t.Errorf("%s: the page loads %v", listener, queue)
		}
	}
}

// TestConsoleActions does what the page of reprise dev does beside its WebSockets.
func TestConsoleActions(t *testing.T) {
	t.Parallel()
	n := startDev(t)
	base := "http://" + n.addrs["devices"]
	do := func(method, url, body string, header ...string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
			if header[i] == "Host" {
				req.Host = header[i+1]
			}
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var answer bytes.Buffer
		if _, err := answer.ReadFrom(resp.Body); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, answer.String()
	}
	if _, got := do("GET", base+"/console/about", ""); !strings.HasPrefix(got, `{"devices":true,"user":"`+exampleUser+`","node":`) {
		t.Errorf("about = %s", got)
	}
	if _, got := do("GET", "http://"+n.addrs["admin"]+"/console/about", ""); got != `{"devices":false}` {
		t.Errorf("about at the admin listener = %s", got)
	}
	_, frames := n.device(client.Config{User: exampleUser, Since: "latest"})
	for f := range frames {
		if f.Type == "caught_up" {
			break
		}
	}
	const message = `{"channel":"user.` + exampleUser + `.notifications","message":{"text":"hello"}}`
	if status, got := do("POST", base+"/console/publish", message, "Sec-Fetch-Site", "same-origin"); status != http.StatusOK {
		t.Fatalf("publish = %d %s", status, got)
	}
	f := <-frames
	if f.Type != "notification" || !strings.Contains(string(f.Raw), `"text":"hello"`) {
		t.Fatalf("the device got %s", f.Raw)
	}
	var trace struct {
		Spans []struct {
			Name  string
			Start int64 `json:"start_us"`
			End   int64 `json:"end_us"`
		}
	}
	eventually(t, "a trace of three spans", func() bool {
		_, text := do("GET", base+"/console/trace?hlc="+f.Hlc.String(), "")
		return json.Unmarshal([]byte(text), &trace) == nil && len(trace.Spans) == 3
	})
	for i, want := range []string{"process ", "publish ", "send websocket"} {
		if s := trace.Spans[i]; !strings.HasPrefix(s.Name, want) || s.Start <= 0 || s.End < s.Start {
			t.Errorf("span %d = %+v, want %q", i, s, want)
		}
	}
	if status, _ := do("GET", base+"/v1/stats", ""); status != http.StatusOK {
		t.Errorf("stats = %d", status)
	}
	for _, tt := range []struct {
		what   string
		status int
		method string
		url    string
		body   string
		header []string
	}{
		{"no channel", 400, "POST", base + "/console/publish", `{"message":{}}`, nil},
		{"no JSON", 400, "POST", base + "/console/publish", `{`, nil},
		{"another site's page", 403, "POST", base + "/console/publish", message, []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}},
		{"a name that leads here", 403, "POST", base + "/console/publish", message, []string{"Host", "evil.example"}},
		{"a name that leads here", 403, "GET", base + "/v1/stats", "", []string{"Host", "evil.example"}},
		{"no stamp", 400, "GET", base + "/console/trace?hlc=1", "", nil},
		{"no trace", 404, "GET", base + "/console/trace?hlc=0000000000000001", "", nil},
		{"nothing else of the admin listener", 404, "GET", base + "/metrics", "", nil},
		{"an operator's page does not publish", 404, "POST", "http://" + n.addrs["admin"] + "/console/publish", message, nil},
	} {
		if status, got := do(tt.method, tt.url, tt.body, tt.header...); status != tt.status {
			t.Errorf("%s: %s %s = %d %s, want %d", tt.what, tt.method, tt.url, status, got, tt.status)
		}
	}
}
