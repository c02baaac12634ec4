package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
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

const bothLive = `document.querySelectorAll('.device[data-state="live"]').length === 2`

// TestConsole does what a newcomer does, and looks at what a newcomer sees.
func TestConsole(t *testing.T) {
	dev := startConsole(t)
	tab := open(t, "http://"+dev.addrs["devices"]+"/")
	tab.until(bothLive)

	// A position that is moved on the TV, by the keyboard, moves on the phone.
	const film = "The Long Way Back"
	tab.do("move the position", chromedp.SendKeys(fmt.Sprintf("input[aria-label=%q]", "Position of "+film+" on TV"), strings.Repeat(kb.ArrowRight, 3)))
	tab.until(said("Phone", ".time") + ".startsWith('3:00 /')")
	// So does a heart.
	tab.press(film + " on the watchlist, on Phone")
	tab.until(card("TV") + `.querySelector('.heart').getAttribute('aria-pressed') === 'true'`)

	// The phone is cut off, and says how much it misses; then it resumes.
	tab.press("Cut Phone")
	tab.until(said("Phone", ".state") + " === 'cut off'")
	tab.do("go on", chromedp.SendKeys(fmt.Sprintf("input[aria-label=%q]", "Position of "+film+" on TV"), kb.ArrowRight))
	tab.until(said("Phone", ".missed") + " === 'Missed so far: 1'")
	tab.press(film + " on the watchlist, on TV")
	tab.until(said("Phone", ".missed") + " === 'Missed so far: 2'")
	if got := value[string](tab, said("Phone", ".time")); !strings.HasPrefix(got, "3:00 /") {
		t.Errorf("a phone without a network shows %s", got)
	}
	tab.press("Resume Phone")
	tab.until(said("Phone", ".feed") + ".includes('caught up · 2 replayed · complete')")
	tab.until(said("Phone", ".time") + ".startsWith('4:00 /')")
	tab.until(card("Phone") + `.querySelector('.heart').getAttribute('aria-pressed') === 'false'`)
	tab.until(card("Phone") + `.querySelectorAll('.feed .replayed').length === 2`)
	tab.until(`document.getElementById('spoken').innerText === 'Phone caught up: 2 events replayed, complete.'`)

	// A film is handed over, a notification comes from outside.
	tab.do("hand over", chromedp.Evaluate[chromedp.Void](`(() => {
		const list = document.querySelector('select[aria-label="Hand The Long Way Back from TV to"]');
		list.selectedIndex = 1;
		list.dispatchEvent(new Event('change'));
	})()`))
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

	// Another device, and the page loaded anew.
	tab.do("add a device", chromedp.Click("#add-device"))
	tab.until(said("Laptop", ".state") + " === 'live'")
	tab.do("reload", chromedp.Reload())
	tab.until(`document.querySelectorAll('.device[data-state="live"]').length === 3`)
}

// TestOperatorsConsole looks at the page of the admin listener.
func TestOperatorsConsole(t *testing.T) {
	emulator := start(t, "listening", "emulator", "--emulator-listen", "127.0.0.1:0")
	secret := strings.Repeat("s", 32)
	n := serve(t, emulator, "--auth-hmac-secret", secret, "--admin-token", "open sesame")
	tab := open(t, "http://"+n.addrs["admin"]+"/")
	tab.until("document.getElementById('token')?.hidden === false")
	tab.do("a wrong token", chromedp.SendKeys("#admin-token", "sesame\r"))
	tab.until("document.getElementById('notice').innerText === 'That is not the admin token.'")
	tab.do("the token", chromedp.SendKeys("#admin-token", "open sesame\r"))
	tab.until("document.getElementById('ready').innerText.startsWith('Ready')")
	tab.until("document.getElementById('connections').innerText === '0'")
	tab.do("look for a user", chromedp.SendKeys("#user-id", "11111111-1111-4111-8111-111111111111\r"))
	tab.until("document.getElementById('user-connections').innerText.includes('Nobody of this user')")
	// Refusals are answers: the browser notes them in its console.
	tab.shows.forget("401 (Unauthorized)")
}

// TestConsoleIsUsableByAll has axe look at the page in both schemes, and at each width
// the page fits into the window. With a directory in KEEP_SCREENSHOTS it leaves pictures
// there, for people to look at.
func TestConsoleIsUsableByAll(t *testing.T) {
	axe, err := os.ReadFile("node_modules/axe-core/axe.min.js")
	if err != nil {
		t.Fatalf("axe-core is not here, npm ci brings it: %v", err)
	}
	dev := startConsole(t)
	tab := open(t, "http://"+dev.addrs["devices"]+"/")
	tab.until(bothLive)
	for _, text := range []string{"A new season is here", "Your film leaves on Friday"} {
		body := strings.NewReader(fmt.Sprintf(`{"channel":"user.11111111-1111-4111-8111-111111111111.notifications","message":{"text":%q}}`, text))
		resp, err := http.Post("http://"+dev.addrs["devices"]+"/console/publish", "application/json", body)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	tab.do("move", chromedp.SendKeys(`input[aria-label="Position of Night Ferry on TV"]`, strings.Repeat(kb.ArrowRight, 40)))
	tab.press("The Long Way Back on the watchlist, on TV")
	tab.press("Cut Phone")
	tab.do("move", chromedp.SendKeys(`input[aria-label="Position of Second Harbour on TV"]`, strings.Repeat(kb.ArrowRight, 25)))
	tab.until(said("Phone", ".missed") + ".startsWith('Missed so far')")
	tab.press("Second Harbour on the watchlist, on TV")
	tab.until("document.querySelector('#log tr').innerText.includes('Second Harbour: on the watchlist')")
	tab.do("choose", chromedp.Click("#log tr:first-child button"))
	tab.until(`document.querySelectorAll('#trace li').length === 3`)
	value[chromedp.Void](tab, string(axe))
	for _, scheme := range []string{"light", "dark"} {
		tab.do(scheme, chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
			_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}})
			return err
		}))
		for _, width := range []int64{360, 768, 1440} {
			tab.do("resize", chromedp.EmulateViewport(width, 900))
			if over := value[int](tab, "document.documentElement.scrollWidth - document.documentElement.clientWidth"); over > 0 {
				t.Errorf("%s, %d wide: the page is %d pixels wider than the window", scheme, width, over)
			}
			found := value[string](tab, `axe.run().then(({violations}) => JSON.stringify(violations.map((v) => [v.id, v.help, v.nodes.map((n) => n.html.slice(0, 120) + " " + n.failureSummary)])))`)
			var violations []any
			if err := json.Unmarshal([]byte(found), &violations); err != nil || len(violations) > 0 {
				t.Errorf("%s, %d wide: axe finds %s, %v", scheme, width, found, err)
			}
			if dir := os.Getenv("KEEP_SCREENSHOTS"); dir != "" {
				picture, err := chromedp.Run(tab.ctx, chromedp.FullScreenshot(100))
				if err == nil {
					err = os.WriteFile(filepath.Join(dir, fmt.Sprintf("console-%s-%d.png", scheme, width)), picture, 0o600)
				}
				if err != nil {
					t.Error(err)
				}
			}
		}
	}
}
