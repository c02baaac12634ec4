package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// tab is a tab of the browser in which a person looks at a page.
type tab struct {
	t     *testing.T
	ctx   context.Context
	shows *console
}

// open loads a page in a tab of its own. Whatever its console shows fails the test.
func open(t *testing.T, page string) *tab {
	t.Helper()
	shows := &console{}
	ctx, stop := chromedp.NewContext(browser, chromedp.WithListener(shows.take))
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	t.Cleanup(func() {
		cancel()
		stop()
		if said := shows.String(); said != "" || t.Failed() {
			t.Errorf("the console of %s:\n%s", page, said)
		}
	})
	tab := &tab{t, ctx, shows}
	tab.do("loads "+page, chromedp.Navigate(page))
	return tab
}

func (tab *tab) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	tab.t.Helper()
	if err := chromedp.Do(tab.ctx, steps...); err != nil {
		tab.t.Fatalf("%s: %v", what, err)
	}
}

// until waits for an expression to be true.
func (tab *tab) until(expression string) {
	tab.t.Helper()
	for begin := time.Now(); ; {
		ok, err := chromedp.Run(tab.ctx, chromedp.Evaluate[bool]("Boolean("+expression+")"))
		if err != nil {
			tab.t.Fatalf("%s: %v", expression, err)
		}
		if ok {
			return
		}
		if time.Since(begin) > patience/2 {
			tab.t.Fatalf("not within %v: %s\nthe page says:\n%s", patience/2, expression, value[string](tab, "document.body.innerText"))
		}
		<-time.After(20 * time.Millisecond)
	}
}

// value is that of an expression.
func value[T any](tab *tab, expression string) T {
	tab.t.Helper()
	v, err := chromedp.Run(tab.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		tab.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// press clicks the button of a name.
func (tab *tab) press(name string) {
	tab.t.Helper()
	tab.do("press "+name, chromedp.Click(fmt.Sprintf("button[aria-label=%q]", name)))
}

// card is an expression for a device's card.
func card(name string) string { return fmt.Sprintf("document.querySelector('[aria-label=%q]')", name) }

// said is an expression for what stands in a part of a device's card.
func said(name, part string) string {
	return fmt.Sprintf("%s.querySelector(%q).innerText", card(name), part)
}

func startConsole(t *testing.T) *node {
	t.Helper()
	return start(t, "running", "dev", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--emulator-listen", "127.0.0.1:0", "--data-dir", t.TempDir())
}

// sameCursor is true when every device has what the others have.
const sameCursor = `new Set([...document.querySelectorAll('.device .cursor code')].map((cursor) => cursor.innerText)).size === 1`

const bothLive = `document.querySelectorAll('.device[data-state="live"]').length === 2`

// TestConsole does what a newcomer does, and looks at what a newcomer sees.
func TestConsole(t *testing.T) {
	dev := startConsole(t)
	tab := open(t, "http://"+dev.addrs["devices"]+"/")
	tab.until(bothLive)

	// A position that is moved on the TV, by the keyboard, moves on the phone.
	const film = "The Long Way Back"
	tab.do("move the position", chromedp.SendKeys(fmt.Sprintf("input[aria-label=%q]", "Position of "+film+" on TV"), strings.Repeat(kb.ArrowRight, 3)))
	tab.until(said("Phone", ".time") + " === '3:00'")
	// So does a heart.
	tab.press(film + " on the watchlist, on Phone")
	tab.until(card("TV") + `.querySelector('.heart').getAttribute('aria-pressed') === 'true'`)

	tab.until(sameCursor)

	// The phone is cut off, and says how much it misses; then it resumes.
	tab.press("Cut Phone")
	tab.until(said("Phone", ".state") + " === 'cut off'")
	tab.do("go on", chromedp.SendKeys(fmt.Sprintf("input[aria-label=%q]", "Position of "+film+" on TV"), kb.ArrowRight))
	tab.until(said("Phone", ".missed") + " === 'Missed so far: 1'")
	tab.press(film + " on the watchlist, on TV")
	tab.until(said("Phone", ".missed") + " === 'Missed so far: 2'")
	if got := value[string](tab, said("Phone", ".time")); got != "3:00" {
		t.Errorf("a phone without a network shows %s", got)
	}
	replayed := card("Phone") + `.querySelectorAll('.feed .replayed').length`
	before := value[int](tab, replayed) // a snapshot, where there was one already
	tab.press("Resume Phone")
	tab.until(said("Phone", ".feed") + ".includes('caught up · 2 replayed · complete')")
	tab.until(said("Phone", ".time") + " === '4:00'")
	tab.until(card("Phone") + `.querySelector('.heart').getAttribute('aria-pressed') === 'false'`)
	tab.until(fmt.Sprintf("%s === %d", replayed, before+2))
	tab.until(`document.getElementById('spoken').innerText === 'Phone caught up: 2 events replayed, complete.'`)

	// A film is handed over, a notification comes from outside.
	tab.press("Hand " + film + " from TV to Phone")
	tab.until(said("Phone", ".playing") + " === '▶ " + film + " at 4:00, from TV'")
	tab.do("publish", chromedp.Click("#publish button"))
	tab.until(said("TV", ".feed") + ".includes('notification: A new season is here')")

	// An event's way, and the figures.
	tab.do("choose", chromedp.Click("#log tr:first-child button"))
	tab.until(`document.querySelectorAll('#trace li').length === 5`)
	if got := value[string](tab, "document.getElementById('trace').innerText"); !strings.Contains(got, "bridge:") || !strings.Contains(got, "Phone has it") {
		t.Errorf("the way of the event is\n%s", got)
	}
	tab.until(`document.getElementById('connections').innerText === '3'`)
	tab.until(`document.getElementById('p50').innerText.endsWith(' ms')`)

	// Another device. To choose it by the keyboard does nothing yet: the button does.
	tab.do("add a device", chromedp.Click("#add-device"))
	tab.until(said("Laptop", ".state") + " === 'live'")
	tab.do("choose", chromedp.SendKeys("select[aria-label='Device that TV hands a film to']", kb.ArrowDown))
	tab.press("Hand " + film + " from TV to Laptop")
	tab.until(said("Laptop", ".playing") + " === '▶ " + film + " at 4:00, from TV'")
	if got := value[int](tab, `[...document.querySelectorAll('#log tr')].filter((row) => row.innerText.includes('hand over')).length`); got != 2 {
		t.Errorf("a film was handed over %d times, want 2", got)
	}

	// The page loaded anew, right after a change of the TV's: the fold behind the snapshot does
	// not have it yet. What comes back is listed once, as its own, and was not where it was made.
	const (
		other  = "Second Harbour"
		others = ".querySelector('.films li:nth-child(2) .time').innerText === '2:00'"
	)
	listed := fmt.Sprintf(`[...%s.querySelectorAll('.feed li')].filter((line) => line.innerText.includes(%q)).map((line) => line.innerText).join()`, card("TV"), other)
	tab.do("move the position", chromedp.SendKeys(fmt.Sprintf("input[aria-label=%q]", "Position of "+other+" on TV"), strings.Repeat(kb.ArrowRight, 2)))
	tab.until(card("Phone") + others)
	tab.until(sameCursor)
	if got := value[string](tab, listed); got != "" {
		t.Errorf("the TV got what it did itself: %s", got)
	}
	tab.do("reload", chromedp.Reload())
	tab.until(`document.querySelectorAll('.device[data-state="live"]').length === 3`)
	tab.until(card("TV") + others)
	seen := map[string]bool{}
	for line := range strings.SplitSeq(value[string](tab, listed), ",") {
		if line != "" && !strings.HasSuffix(line, " (its own)") || seen[line] {
			t.Errorf("loaded anew, the TV lists %q, again: %t", line, seen[line])
		}
		seen[line] = true
	}
}

// TestConsoleInTwoTabs plays the same devices in a copy of a tab, which has what the
// first one remembers.
func TestConsoleInTwoTabs(t *testing.T) {
	dev := startConsole(t)
	page := "http://" + dev.addrs["devices"] + "/"
	first := open(t, page)
	first.until(bothLive)
	second := open(t, page+"console/icon.svg")
	defer second.shows.forget("/favicon.ico") // which an icon's own page has not
	second.do("be a copy", chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`Object.assign(sessionStorage, %s)`, value[string](first, `JSON.stringify(sessionStorage)`))))
	second.do("loads", chromedp.Navigate(page))
	second.until(bothLive)

	const elsewhere = "Another tab plays this device."
	for _, name := range []string{"TV", "Phone"} {
		first.until(said(name, ".state") + " === 'away'")
		first.until(said(name, ".missed") + " === '" + elsewhere + "'")
	}
	// The first tab still sees what happens.
	second.do("move", chromedp.SendKeys(`input[aria-label="Position of Night Ferry on TV"]`, kb.ArrowRight))
	first.until(said("Phone", ".missed") + " === '" + elsewhere + " Missed so far: 1'")
	first.until(card("TV") + `.querySelector('.films li:last-child .time').innerText === '1:00'`)

	first.usableByAll("elsewhere")

	first.press("Take back Phone")
	first.until(said("Phone", ".state") + " === 'live'")
	first.until(said("Phone", ".feed") + ".includes('caught up · 1 replayed · complete')")
	second.until(said("Phone", ".state") + " === 'away'")
	if got := value[string](second, said("TV", ".state")); got != "live" {
		t.Errorf("the TV, which was not taken back, is %s in the second tab", got)
	}
}

// operate starts a node that wants a token, beside an emulator, and opens its page.
func operate(t *testing.T) (n, emulator *node, tab *tab) {
	t.Helper()
	emulator = start(t, "listening", "emulator", "--emulator-listen", "127.0.0.1:0")
	n = serve(t, emulator, "--auth-hmac-secret", signingKey, "--admin-token", adminToken, "--nats-listen", "127.0.0.1:0", "--stream-shards", "2")
	tab = open(t, "http://"+n.addrs["admin"]+"/")
	// Refusals are answers: the browser notes them in its console.
	t.Cleanup(func() { tab.shows.forget("401 (Unauthorized)") })
	tab.until("document.getElementById('token')?.hidden === false")
	return n, emulator, tab
}

const (
	adminToken = "open sesame"
	signingKey = "a key that is of thirty-two bytes"
	isReady    = "document.getElementById('ready')?.innerText === 'Ready'"
)

func (tab *tab) unlock() {
	tab.t.Helper()
	tab.do("the token", chromedp.SendKeys("#admin-token", adminToken+"\r"))
	tab.until(isReady)
}

// TestOperatorsConsole looks at the page of the admin listener.
func TestOperatorsConsole(t *testing.T) {
	_, _, tab := operate(t)
	if got := value[string](tab, "document.querySelector('header').innerText"); strings.TrimSpace(got) != "Reprise" {
		t.Errorf("without a token the header says %q", got)
	}
	tab.do("a wrong token", chromedp.SendKeys("#admin-token", "sesame\r"))
	tab.until("document.getElementById('notice').innerText === 'That is not the admin token.'")
	tab.unlock()
	tab.until("document.getElementById('connections').innerText === '0'")
	if got := value[string](tab, "document.getElementById('node').innerText"); got == "" || strings.Contains(got, "undefined") {
		t.Errorf("the node is called %q", got)
	}
	tab.do("look for a user", chromedp.SendKeys("#user-id", user+"\r"))
	tab.until("document.getElementById('user-connections').innerText.includes('Nobody of this user')")

	// What is wrong is said, and nothing is left unhandled; what was wrong is forgotten.
	const notice = "document.getElementById('notice').innerText"
	for _, tt := range []struct{ path, answer, want string }{
		{"/readyz", "Promise.reject(new TypeError('gone'))", "The relay does not answer. The page goes on when it is back."},
		{"/v1/stats", "Promise.resolve(new Response('a proxy', { status: 502 }))", "The relay answers: status 502."},
	} {
		tab.do("break", chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`globalThis.whole = fetch; globalThis.fetch = (path, o) => (path === %q ? %s : whole(path, o))`, tt.path, tt.answer)))
		tab.until(fmt.Sprintf("%s === %q", notice, tt.want))
		tab.do("mend", chromedp.Evaluate[chromedp.Void]("globalThis.fetch = whole"))
		tab.until(notice + " === ''")
	}
}

// TestOperatorsConsoleByName opens the page by a name, which a node without a token does
// not answer: the page says what to do.
func TestOperatorsConsoleByName(t *testing.T) {
	emulator := start(t, "listening", "emulator", "--emulator-listen", "127.0.0.1:0")
	n := serve(t, emulator, "--auth", "none")
	tab := open(t, "http://admin.example:"+n.addrs["admin"][strings.LastIndex(n.addrs["admin"], ":")+1:]+"/")
	tab.until("document.getElementById('notice').innerText === 'The relay answers: ask by address, or set admin-token.'")
	tab.shows.forget("403 (Forbidden)")
}

// TestBridgesConsole looks at the page of a node that has no devices.
func TestBridgesConsole(t *testing.T) {
	_, emulator, tab := operateBridge(t)
	tab.until("document.getElementById('role').innerText === 'A bridge, which carries PubNub into the log.'")
	// Of some users the other bridge has the shard.
	for n := range 8 {
		channel := fmt.Sprintf("user.11111111-1111-4111-8111-11111111111%d.notifications", n)
		if out, err := exec.Command(binary, "publish", channel, "{}", "--pubnub-origin", emulator.addrs["emulator"]).CombinedOutput(); err != nil {
			t.Fatalf("reprise publish: %v: %s", err, out)
		}
	}
	for _, count := range []string{"events stored", "polls of PubNub"} {
		tab.until(fmt.Sprintf(`Number([...document.querySelectorAll('#counts tr')].find((row) => row.innerText.includes('%s')).lastChild.innerText) > 0`, count))
	}
	if shown := value[bool](tab, "!document.getElementById('figures').hidden || !document.getElementById('users-section').hidden"); shown {
		t.Error("a bridge shows figures of devices")
	}
}

// operateBridge starts a bridge beside a node, with which it shares the shards, and opens
// its page.
func operateBridge(t *testing.T) (n, emulator *node, tab *tab) {
	t.Helper()
	beside, emulator, _ := operate(t)
	n = start(t, "running", "bridge", "--node", "other", "--nats-url", beside.addrs["nats"], "--admin-listen", "127.0.0.1:0",
		"--pubnub-subscribe-key", "demo", "--pubnub-origin", emulator.addrs["emulator"], "--pubnub-tls=false")
	tab = open(t, "http://"+n.addrs["admin"]+"/")
	tab.until(isReady)
	return n, emulator, tab
}

// usableByAll has axe look at a page in both schemes, and at each width the page fits
// into the window. With a directory in KEEP_SCREENSHOTS it leaves pictures there, for
// people to look at.
func (tab *tab) usableByAll(name string) {
	t := tab.t
	t.Helper()
	axe, err := os.ReadFile("node_modules/axe-core/axe.min.js")
	if err != nil {
		t.Fatalf("axe-core is not here, npm ci brings it: %v", err)
	}
	value[chromedp.Void](tab, string(axe))
	for _, scheme := range []string{"light", "dark"} {
		tab.emulate(scheme)
		for _, width := range []int64{360, 768, 1440} {
			tab.do("resize", chromedp.EmulateViewport(width, 900))
			if over := value[int](tab, "document.documentElement.scrollWidth - document.documentElement.clientWidth"); over > 0 {
				t.Errorf("%s, %s, %d wide: the page is %d pixels wider than the window", name, scheme, width, over)
			}
			if over := value[string](tab, `[...document.querySelectorAll('.top, .card, .device, .device > header, form')].filter((e) => e.scrollWidth > e.clientWidth).map((e) => e.outerHTML.slice(0, 120)).join()`); over != "" {
				t.Errorf("%s, %s, %d wide: what is in these does not fit: %s", name, scheme, width, over)
			}
			found := value[string](tab, `axe.run().then(({violations}) => JSON.stringify(violations.map((v) => [v.id, v.help, v.nodes.map((n) => n.html.slice(0, 120) + " " + n.failureSummary)])))`)
			var violations []any
			if err := json.Unmarshal([]byte(found), &violations); err != nil || len(violations) > 0 {
				t.Errorf("%s, %s, %d wide: axe finds %s, %v", name, scheme, width, found, err)
			}
			tab.do("to the top", chromedp.Evaluate[chromedp.Void]("document.activeElement.blur(); scrollTo(0, 0)"))
			tab.keep(fmt.Sprintf("%s-%s-%d.png", name, scheme, width), chromedp.FullScreenshot(100))
		}
	}
}

// emulate has the page in a colour scheme, and without motion.
func (tab *tab) emulate(scheme string) {
	tab.t.Helper()
	tab.do(scheme, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}})
		return err
	}))
}

// keep leaves a picture where KEEP_SCREENSHOTS says.
func (tab *tab) keep(name string, take chromedp.Action[[]byte]) {
	tab.t.Helper()
	dir := os.Getenv("KEEP_SCREENSHOTS")
	if dir == "" {
		return
	}
	picture, err := chromedp.Run(tab.ctx, take)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name), picture, 0o600)
	}
	if err != nil {
		tab.t.Error(err)
	}
}

func TestConsoleIsUsableByAll(t *testing.T) {
	dev := startConsole(t)
	tab := open(t, "http://"+dev.addrs["devices"]+"/")
	tab.until(bothLive)
	publish := func(text string) {
		t.Helper()
		body := strings.NewReader(fmt.Sprintf(`{"channel":"user.11111111-1111-4111-8111-111111111111.notifications","message":{"text":%q}}`, text))
		resp, err := http.Post("http://"+dev.addrs["devices"]+"/console/publish", "application/json", body)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	move := func(film, device string, steps int) {
		t.Helper()
		tab.do("move", chromedp.SendKeys(fmt.Sprintf("input[aria-label='Position of %s on %s']", film, device), strings.Repeat(kb.ArrowRight, steps)))
	}
	publish("A new season is here")
	publish("Your film leaves on Friday")
	move("Night Ferry", "Phone", 40)
	tab.press("The Long Way Back on the watchlist, on TV")
	tab.press("Hand Night Ferry from Phone to TV")
	tab.until(said("TV", ".playing") + ".includes('Night Ferry')")
	tab.until(sameCursor)
	tab.press("Cut Phone")
	move("Second Harbour", "TV", 6)
	tab.until(said("Phone", ".missed") + ".startsWith('Missed so far')")
	tab.press("Second Harbour on the watchlist, on TV")
	tab.until("document.querySelector('#log tr').innerText.includes('Second Harbour: on the watchlist')")
	tab.do("choose", chromedp.Click("#log tr:first-child button"))
	tab.until(`document.querySelectorAll('#trace li').length === 3`)
	tab.usableByAll("console")

	// What the README shows: a device has just come back.
	tab.emulate("light")
	tab.press("Resume Phone")
	tab.until(said("Phone", ".feed") + ".includes('7 replayed · complete')")
	tab.do("show the top", chromedp.EmulateViewport(1440, 990), chromedp.MouseEvent(chromedp.MouseMoved, 1, 1),
		chromedp.Evaluate[chromedp.Void]("document.activeElement.blur(); scrollTo(0, 0)"))
	if os.Getenv("KEEP_SCREENSHOTS") != "" {
		tab.until("document.querySelector('#spark polyline').points.length > 25")
	}
	tab.keep("console.png", chromedp.CaptureScreenshot())
}

func TestOperatorsConsoleIsUsableByAll(t *testing.T) {
	n, _, tab := operate(t)
	tab.usableByAll("locked")
	tab.unlock()
	// A device is connected.
	out, err := exec.Command(binary, "token", "--user", user, "--auth-hmac-secret", signingKey).Output()
	if err != nil {
		t.Fatal(err)
	}
	tail := exec.Command(binary, "tail", "--url", "ws://"+n.addrs["devices"]+"/ws", "--token", strings.TrimSpace(string(out)))
	if err := tail.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tail.Process.Kill()
		tail.Wait()
	})
	tab.until("document.getElementById('connections').innerText === '1'")
	tab.do("look for a user", chromedp.SendKeys("#user-id", user+"\r"))
	tab.until("document.getElementById('user-connections').innerText.includes('127.0.0.1')")
	tab.usableByAll("operator")
}

func TestBridgesConsoleIsUsableByAll(t *testing.T) {
	_, _, tab := operateBridge(t)
	tab.usableByAll("bridge")
}
