package prometheus

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	rules     = "../../otel/prometheus/alerts.yaml"
	ruleTests = "../../otel/prometheus/alerts_test.yaml"
	dashboard = "../../otel/grafana/reprise.json"
)

// patience is how long a test waits for what must come.
const patience = 60 * time.Second

func promtool(t *testing.T, in io.Reader, args ...string) string {
	t.Helper()
	cmd := exec.Command("promtool", args...)
	cmd.Stdin = in
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestRules(t *testing.T) {
	t.Parallel()
	promtool(t, nil, "check", "rules", rules)
	promtool(t, nil, "test", "rules", ruleTests)
	text, tests := read(t, rules), read(t, ruleTests)
	for _, m := range regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(text, -1) {
		raised := regexp.MustCompile(`alertname: ` + m[1] + `\n\s+exp_alerts:\n\s+- exp_labels`)
		quiet := regexp.MustCompile(`alertname: ` + m[1] + `, exp_alerts: \[\]`)
		if !raised.MatchString(tests) || !quiet.MatchString(tests) {
			t.Errorf("%s has no test that raises it, or none that does not", m[1])
		}
	}
	// promtool refuses a test that expects something else.
	wrong := filepath.Join(t.TempDir(), "wrong.yaml")
	absolute, err := filepath.Abs(rules)
	if err != nil {
		t.Fatal(err)
	}
	broken := strings.NewReplacer("rule_files: [alerts.yaml]", "rule_files: ["+absolute+"]", "9 in ten minutes", "7 in ten minutes").Replace(tests)
	if err := os.WriteFile(wrong, []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command("promtool", "test", "rules", wrong).Run(); err == nil {
		t.Error("promtool test rules with a wrong expectation: error = nil, want one")
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// panel is as much of a Grafana panel as matters here.
type panel struct {
	ID      int
	Type    string
	Title   string
	GridPos struct{ H, W, X, Y int }
	Targets []struct{ Expr, RefID string }
}

// panels are those of the dashboard, each of which must have its place.
func panels(t *testing.T) []panel {
	t.Helper()
	var d struct {
		Title, UID    string
		SchemaVersion int
		Panels        []panel
	}
	if err := json.Unmarshal([]byte(read(t, dashboard)), &d); err != nil {
		t.Fatal(err)
	}
	if d.Title == "" || d.UID == "" || d.SchemaVersion == 0 || len(d.Panels) == 0 {
		t.Fatalf("the dashboard is %q, %q, version %d, with %d panels", d.Title, d.UID, d.SchemaVersion, len(d.Panels))
	}
	taken, ids := map[[2]int]string{}, map[int]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.Title == "" || p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %d %q: no title, no query, or an id that is taken", p.ID, p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other, both := taken[[2]int{x, y}]; both || x >= 24 {
					t.Fatalf("panel %q lies over %q at %d, %d", p.Title, other, x, y)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
	return d.Panels
}

// query is a panel's expression as Grafana sends it.
func query(expr string) string {
	return strings.NewReplacer("$__rate_interval", "1m", "$job", ".*", "$instance", ".*").Replace(expr)
}

// TestLive has a Prometheus server scrape a node with a device on it, with our
// rules loaded, and asks it all that the dashboard asks.
func TestLive(t *testing.T) {
	t.Parallel()
	addrs, binary := node(t)
	admin := addrs["admin"]
	scrape := get(t, "http://"+admin+"/metrics")
	if out := promtool(t, strings.NewReader(scrape), "check", "metrics"); strings.Contains(lint(out), "reprise_") {
		t.Errorf("promtool check metrics:\n%s", lint(out))
	}
	server := start(t, admin)
	device := exec.Command(binary, "tail", "--user", user, "--since", "earliest", "--url", "ws://"+addrs["devices"]+"/ws")
	if err := device.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { device.Process.Kill(); device.Wait() })
	await(t, "the device to be counted", func() bool { return len(ask(t, server, "reprise_active_connections == 1")) > 0 })
	if out, err := exec.Command(binary, "publish", "user."+user+".notifications", `{"n":1}`, "--pubnub-origin", addrs["emulator"]).CombinedOutput(); err != nil {
		t.Fatalf("publish: %v\n%s", err, out)
	}
	await(t, "the event to be counted", func() bool { return len(ask(t, server, "reprise_messages_relayed_total > 0")) > 0 })
	await(t, "the latency to be counted", func() bool { return len(ask(t, server, "reprise_broadcast_latency_seconds_count > 0")) > 0 })

	named := regexp.MustCompile(`reprise_[a-z_]+`)
	var names []string
	for _, p := range panels(t) {
		for _, target := range p.Targets {
			ask(t, server, query(target.Expr)) // an error ends the test
			names = append(names, named.FindAllString(target.Expr, -1)...)
		}
	}
	exprs := regexp.MustCompile(`(?s)expr:(.*?)\n        (?:for|labels):`)
	for _, m := range exprs.FindAllStringSubmatch(read(t, rules), -1) {
		names = append(names, named.FindAllString(m[1], -1)...)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) < 25 {
		t.Fatalf("%d metrics are named, want all of the dashboard and the rules: %v", len(names), names)
	}
	for _, name := range names {
		if len(ask(t, server, name)) == 0 {
			t.Errorf("%s is named in the dashboard or the rules, and is not there", name)
		}
	}
	var loaded struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Health, LastError string }
			}
		}
	}
	await(t, "the rules to be evaluated", func() bool {
		if err := json.Unmarshal([]byte(get(t, server+"/api/v1/rules")), &loaded); err != nil {
			t.Fatal(err)
		}
		for _, r := range loaded.Data.Groups[0].Rules {
			if r.LastError != "" {
				t.Fatalf("a rule fails: %s", r.LastError)
			}
			if r.Health != "ok" {
				return false
			}
		}
		return true
	})
}

// lint is what promtool says of our own metrics.
func lint(out string) string {
	var ours []string
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "reprise_") {
			ours = append(ours, line)
		}
	}
	return strings.Join(ours, "")
}

const user = "11111111-1111-4111-8111-111111111111"

// node starts the relay with everything in one process, and returns what listens
// where, and the program.
func node(t *testing.T) (addrs map[string]string, binary string) {
	t.Helper()
	binary = filepath.Join(t.TempDir(), "reprise")
	build := exec.Command("go", "build", "-o", binary, "./cmd/reprise")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	cmd := exec.Command(binary, "dev", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--emulator-listen", "127.0.0.1:0",
		"--data-dir", t.TempDir(), "--log-format", "json", "--drain", "0s")
	lines, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	addrs = map[string]string{}
	scanner := bufio.NewScanner(lines)
	for scanner.Scan() {
		var line struct{ Msg, What, Addr string }
		if json.Unmarshal(scanner.Bytes(), &line) != nil {
			continue
		}
		if line.Msg == "listening" {
			addrs[line.What] = line.Addr
		}
		if line.Msg == "running" {
			go io.Copy(io.Discard, lines)
			return addrs, binary
		}
	}
	t.Fatal("the node did not start")
	return nil, ""
}

// start runs a Prometheus server that scrapes target every 200 ms.
func start(t *testing.T, target string) (base string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	absolute, err := filepath.Abs(rules)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 1s}\nrule_files: [%s]\nscrape_configs:\n  - job_name: reprise\n    static_configs: [{targets: ['%s']}]\n", absolute, target)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.Command("prometheus", "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("prometheus said:\n%s", out.String())
		}
	})
	base = "http://" + address
	await(t, "Prometheus to be ready", func() bool {
		response, err := http.Get(base + "/-/ready")
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
	return base
}

// ask runs a query now and returns its series.
func ask(t *testing.T, server, expr string) []json.RawMessage {
	t.Helper()
	var answer struct {
		Status, Error string
		Data          struct{ Result []json.RawMessage }
	}
	body := get(t, server+"/api/v1/query?query="+url.QueryEscape(expr))
	if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Status != "success" {
		t.Fatalf("query %s: %s %v", expr, body, err)
	}
	return answer.Data.Result
}

func get(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// await asks until the answer is yes.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); !done(); <-tick.C {
		if time.Since(began) > patience {
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}
