package browser

import (
	"fmt"
	"testing"

	"github.com/chromedp/chromedp"
)

// The JavaScript client in a page: what another test has from Node, here is the
// browser's own, its WebSocket, its stores, and what it says about page and network.

const (
	playing = `"aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"`
	other   = `"bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"`
	person  = `"22222222-2222-4222-8222-222222222222"`
	film    = `"cccccccc-cccc-4ccc-8ccc-cccccccccccc"`
)

// begin makes a page's client, as relay, with what its device has heard, as heard.
func (tab *tab) begin(options string) {
	tab.t.Helper()
	value[bool](tab, fmt.Sprintf(`import("/console/client/index.js").then((m) => {
		globalThis.heard = [];
		globalThis.relay = new m.Reprise({ userId: %s, deviceId: %s, ...(%s)(m) });
		relay.on("event", (e) => heard.push(e.position));
		relay.on("resumed", (e) => (globalThis.resumed = e));
		return true;
	})`, person, playing, options))
}

// A page is left and comes back: the cursor and what was not sent are where they were
// kept, in either store.
func TestClientKeepsWhatItHas(t *testing.T) {
	t.Parallel()
	page := "http://" + startConsole(t).addrs["devices"] + "/"
	for _, store := range []string{"localStore()", `indexedDBStore("a device")`} {
		tab := open(t, page)
		tab.until(bothLive)
		options := fmt.Sprintf(`(m) => ({ store: m.%s, since: "earliest" })`, store)
		tab.begin(options)
		tab.until(`globalThis.resumed`)
		send := func(from, to int) {
			value[bool](tab, fmt.Sprintf(`import("/console/client/index.js").then(async (m) => {
				const phone = new m.Reprise({ userId: %s, deviceId: %s });
				for (let n = %d; n <= %d; n++) await phone.progress(%s, n);
				await phone.close();
				return true;
			})`, person, other, from, to, film))
		}
		send(1, 3)
		tab.until(`heard.at(-1) === 3`)
		value[bool](tab, `relay.close().then(() => true)`)
		send(4, 5)
		// What waits while there is no connection.
		tab.begin(`(m) => ({ connect: false, store: m.` + store + ` })`)
		value[bool](tab, `(async () => { relay.connect(); relay.cut(); relay.progress(`+film+`, 77).catch(() => {}); await relay.close(); return true; })()`)

		tab.do("comes again", chromedp.Reload())
		tab.until(bothLive)
		tab.begin(options)
		tab.until(`globalThis.resumed && relay.pending.length === 0`)
		if got := value[string](tab, `JSON.stringify([heard, resumed.complete, resumed.replayed])`); got != `[[4,5],true,2]` {
			t.Errorf("%s: after the page came again: %s, want what it missed, [[4,5],true,2]", store, got)
		}
		// The next store begins anew.
		value[bool](tab, `relay.close().then(() => true)`)
		value[bool](tab, `(localStorage.clear(), true)`)
	}
}

// A device that waits to connect again does so when the network is back, and one that
// comes to the front asks whether its link still is.
func TestClientListensToThePage(t *testing.T) {
	t.Parallel()
	page := "http://" + startConsole(t).addrs["devices"] + "/"
	tab := open(t, page)
	tab.until(bothLive)
	value[bool](tab, `(globalThis.sent = [], globalThis.Spy = class extends WebSocket { send(text) { sent.push(text); super.send(text); } }, true)`)
	tab.begin(`() => ({ minBackoff: 60_000, maxBackoff: 120_000, WebSocket: Spy })`)
	tab.until(`relay.state === "live"`)
	value[bool](tab, `(document.dispatchEvent(new Event("visibilitychange")), true)`)
	tab.until(`sent.includes('{"type":"ping"}')`)

	// It waits for a minute at least, and no longer than by chance when there is a
	// network again.
	value[bool](tab, `(relay.cut(), true)`)
	tab.until(`relay.state === "waiting"`)
	value[bool](tab, `(Math.random = () => 0.001, window.dispatchEvent(new Event("online")), true)`)
	tab.until(`relay.state === "live"`)
}
