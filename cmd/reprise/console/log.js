// The user's log as a table, and the way of the event that is chosen in it.
import { ask, byId, make } from "./dom.js";
import { sentence } from "./films.js";

const rowsMost = 100;
const receiptsMost = 200;

export class Log {
  #nameOf;
  #rows = byId("log");
  #receipts = new Map(); // hlc → [[device, Unix ms]]

  constructor({ nameOf }) {
    this.#nameOf = nameOf;
  }

  /** An event of the log, or an announcement, which is in no log. */
  add(event) {
    this.#rows.querySelector(".empty")?.remove();
    const row = make("tr");
    const stamp = make("td");
    if (event.hlc) {
      const choose = make("button", "", event.hlc);
      choose.type = "button";
      choose.setAttribute("aria-label", `The way of ${event.hlc}`);
      choose.addEventListener("click", () => this.#choose(event, row));
      stamp.append(choose);
    } else stamp.textContent = "–";
    row.append(stamp, make("td", "", sentence(event)), make("td", "", this.#nameOf(event.device_id) ?? (event.device_id ? "another" : "outside")));
    this.#rows.prepend(row);
    while (this.#rows.childElementCount > rowsMost) this.#rows.lastElementChild.remove();
  }

  /** A device of this page has got an event. */
  received(event, device) {
    const receipts = this.#receipts.get(event.hlc) ?? [];
    receipts.push([device, performance.timeOrigin + performance.now()]);
    this.#receipts.set(event.hlc, receipts);
    if (this.#receipts.size > receiptsMost) this.#receipts.delete(this.#receipts.keys().next().value);
  }

  async #choose(event, row) {
    for (const other of this.#rows.children) other.removeAttribute("aria-current");
    row.setAttribute("aria-current", "true");
    const about = byId("trace-about");
    try {
      const { spans } = await ask(`/console/trace?hlc=${event.hlc}`);
      this.#draw(event, spans);
    } catch (error) {
      about.textContent = `${sentence(event)}: ${error.message}.`;
      byId("trace").replaceChildren();
    }
  }

  #draw(event, spans) {
    const steps = spans.map(({ name, start_us, end_us }) => [label(name), start_us / 1000, end_us / 1000, ""]);
    const begin = Math.min(...steps.map(([, from]) => from));
    for (const [device, at] of this.#receipts.get(event.hlc) ?? []) steps.push([`${device} has it`, begin, at, "device-bar"]);
    const end = Math.max(...steps.map(([, , to]) => to));
    const scale = 100 / Math.max(end - begin, 0.001);
    byId("trace-about").textContent = `${sentence(event)}: ${(end - begin).toFixed(2)} ms from PubNub to the last device of this page.`;
    byId("trace").replaceChildren(
      ...steps.map(([name, from, to, className]) => {
        const item = make("li");
        const what = make("div", "what");
        what.append(make("span", "", name), make("span", "", `${(to - from).toFixed(2)} ms`));
        const track = make("div", "track");
        const bar = make("div", `bar ${className}`);
        bar.style.left = `${Math.min(99, (from - begin) * scale)}%`;
        bar.style.width = `${Math.max(0, (to - from) * scale)}%`;
        track.append(bar);
        item.append(what, track);
        return item;
      }),
    );
  }
}

/** A span in words. */
function label(name) {
  if (name.startsWith("process ")) return "bridge: take it from PubNub, judge, stamp, store";
  if (name.startsWith("publish ")) return "log: append, until it is acknowledged";
  if (name === "send websocket") return "edge: from the log to the first socket";
  return name;
}
