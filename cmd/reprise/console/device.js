// One simulated device: a screen with a shelf of films, and its connection.
import { memoryStore, Reprise, UserState } from "./client/index.js";
import { byId, clock, copyOf, count, make } from "./dom.js";
import { filmOf, films, sentence } from "./films.js";

const feedMost = 200;

/** The close code of a device that is connected elsewhere since. */
export const replaced = 4509;

const elsewhere = "Another tab plays this device. ";

export class Device {
  element;
  id;
  name;
  #relay; // undefined while it is cut, closed, or played by another tab
  #state = new UserState();
  #store = memoryStore(); // of the cursor: as long-lived as the state
  #films = new Map(); // content id → the parts of its row
  #others;
  #got;
  #user;
  #missed = 0;
  #replay = []; // what came since the welcome

  constructor({ id, name, icon, user, others, got }) {
    Object.assign(this, { id, name });
    this.#others = others;
    this.#got = got;
    this.#user = user;
    this.element = copyOf("device").firstElementChild;
    this.element.setAttribute("aria-label", name);
    this.#part("use").setAttribute("href", `#${icon}`);
    this.#part(".name").textContent = name;
    this.#part(".target select").setAttribute("aria-label", `Device that ${name} hands a film to`);
    this.#part(".target select").addEventListener("change", () => this.#nameHands());
    this.#part(".feed").setAttribute("aria-label", `What ${name} got, newest last`);
    this.#part(".cut").addEventListener("click", () => (this.#relay ? this.#cut() : this.#resume()));
    for (const film of films) this.#addFilm(film);
    this.#resume();
  }

  focus() {
    this.#part(".cut").focus();
  }

  /** Fills the list of devices that a film can be handed to. */
  listOthers() {
    const target = this.#part(".target select");
    const chosen = target.value;
    target.replaceChildren(...this.#others().map(({ id, name }) => new Option(name, id, false, id === chosen)));
    this.#nameHands();
  }

  /** Each button says to whom it hands its film. */
  #nameHands() {
    const target = this.#part(".target select").selectedOptions[0]?.text;
    for (const { hand, film } of this.#films.values()) {
      hand.disabled = target === undefined;
      hand.title = `Hand ${film.title} from ${this.name} to ${target}`;
      hand.setAttribute("aria-label", hand.title);
    }
  }

  /** Something happened in the user's log; a device that has no connection misses it. */
  happened(event) {
    if (this.#relay) return;
    if (event.device_id === this.id) {
      this.#apply(event); // by another tab
      return;
    }
    this.#missed++;
    this.#say(".missed", `${this.element.dataset.state === "taken" ? elsewhere : ""}Missed so far: ${this.#missed}`);
  }

  /** The network goes. */
  #cut() {
    const relay = this.#relay;
    this.#leave("cut", "cut off");
    relay.cut();
    relay.close();
  }

  /** There is no connection from now on, until somebody presses the button. */
  #leave(state, text, why = text) {
    this.#relay = undefined;
    this.#missed = 0;
    this.#show(state, text);
    this.#line("ended", why);
  }

  /** The edge has closed the connection for good. */
  #closed({ code, refusal }) {
    if (code === replaced) {
      this.#leave("taken", "away", "another tab plays this device");
      this.#say(".missed", elsewhere);
      byId("spoken").textContent = `Another tab plays ${this.name}.`;
    } else this.#leave("closed", "closed", refusal ? `refused: ${refusal.message ?? refusal.status}` : `closed with ${code}`);
  }

  /** The network is back: the device goes on behind its cursor, which its store has. */
  #resume() {
    const relay = new Reprise({ userId: this.#user, deviceId: this.id, since: "earliest", snapshot: true, store: this.#store });
    this.#relay = relay;
    relay.on("state", (state) => this.#relay === relay && this.#show(state, state));
    relay.on("welcome", () => (this.#replay = []));
    relay.on("update", (update) => this.#apply({ ...update, device_id: this.id }));
    relay.on("snapshot", (snapshot) => {
      this.#apply(snapshot);
      for (const update of relay.pending) this.#apply({ ...update, device_id: this.id });
      this.#line("replayed", `snapshot: ${this.#state.watchlist.size} on the watchlist, ${count(this.#state.positions.size, "position")}`);
    });
    relay.on("event", (event) => {
      this.#apply(event);
      const live = relay.state === "live";
      const own = event.device_id === this.id; // comes back to us: the snapshot implies echo
      if (!own) this.#got(event);
      if (!live) this.#replay.push(event);
      if (live && own) return; // who did it has seen it
      this.#line(live ? "" : "replayed", own ? `${sentence(event)} (its own)` : sentence(event), live ? 0 : this.#replay.length);
      if (event.type === "device_command" && event.target_device === this.id) this.#play(event);
    });
    relay.on("announcement", (event) => this.#line("", sentence(event)));
    relay.on("resumed", ({ complete, reason, replayed }) => {
      const verdict = complete ? "complete" : `not complete: ${reason}`;
      this.#line(complete ? "mark" : "mark incomplete", `caught up · ${replayed} replayed · ${verdict}`, replayed + 1);
      this.#say(".missed", "");
      byId("spoken").textContent = `${this.name} caught up: ${count(replayed, "event")} replayed, ${verdict}.`;
    });
    for (const type of ["resumed", "event", "position"]) relay.on(type, () => (this.#part(".cursor code").textContent = relay.cursor));
    relay.on("closed", (end) => this.#relay === relay && this.#closed(end));
    relay.on("rejected", ({ code, message }) => this.#line("ended", `refused: ${code}: ${message}`));
    this.#show("connecting", "connecting");
  }

  #show(state, text) {
    this.element.dataset.state = state;
    this.#part(".state").textContent = text;
    const cut = this.#part(".cut");
    cut.dataset.does = this.#relay ? "cut" : "resume";
    cut.textContent = this.#relay ? "Cut" : state === "taken" ? "Take back" : "Resume";
    cut.setAttribute("aria-label", `${cut.textContent} ${this.name}`);
  }

  #addFilm(film) {
    const row = copyOf("film").firstElementChild;
    const [heart, time, range, hand] = [".heart", ".time", "input", ".hand"].map((s) => row.querySelector(s));
    row.querySelector(".title").textContent = film.title;
    range.max = film.seconds;
    range.value = 0;
    range.setAttribute("aria-label", `Position of ${film.title} on ${this.name}`);
    range.addEventListener("input", () => (time.textContent = clock(Number(range.value))));
    range.addEventListener("change", () => this.#send((relay) => relay.progress(film.id, Number(range.value), film.seconds)));
    heart.setAttribute("aria-label", `${film.title} on the watchlist, on ${this.name}`);
    heart.addEventListener("click", () => {
      const tags = this.#state.watchlist.tags(film.id);
      this.#send((relay) => (tags.length === 0 ? relay.add(film.id) : tags.forEach((tag) => relay.remove(film.id, tag))));
    });
    hand.addEventListener("click", () => {
      const target = this.#part(".target select").value;
      this.#send((relay) => relay.handoff(target, film.id, Number(range.value)));
    });
    this.#films.set(film.id, { row, heart, time, range, hand, film });
    this.#part(".films").append(row);
    this.#draw(film.id);
  }

  /** Does something with the relay; a device without a network says so. */
  #send(what) {
    if (this.#relay) what(this.#relay);
    else {
      this.#line("ended", "no network here: resume first");
      for (const id of this.#films.keys()) this.#draw(id);
    }
  }

  #apply(event) {
    const before = this.#shown(event.content_id);
    if (!this.#state.apply(event)) return;
    // What is known already must not move a slider that a hand has hold of.
    if (event.hlc !== undefined && event.device_id === this.id && this.#shown(event.content_id) === before) return;
    if (event.type === "snapshot") for (const id of this.#films.keys()) this.#draw(id);
    this.#draw(event.content_id);
    const row = this.#films.get(event.content_id)?.row;
    if (row === undefined || event.hlc === undefined) return;
    row.classList.remove("changed");
    void row.offsetWidth; // begins the animation again
    row.classList.add("changed");
  }

  /** What the row of a film shows. */
  #shown(id) {
    return `${this.#state.positions.get(id)?.value.position} ${this.#state.watchlist.has(id)}`;
  }

  #draw(id) {
    const parts = this.#films.get(id);
    if (parts === undefined) return;
    const position = this.#state.positions.get(id)?.value.position ?? 0;
    parts.range.value = position;
    parts.range.setAttribute("aria-valuetext", clock(position));
    parts.time.textContent = clock(position);
    parts.heart.setAttribute("aria-pressed", this.#state.watchlist.has(id));
  }

  #play({ command, payload, device_id }) {
    const [, id] = command.split(":");
    const from = this.#others().find((d) => d.id === device_id)?.name ?? "another device";
    const film = filmOf(id);
    this.#say(".playing", film ? `▶ ${film.title} at ${clock(payload?.position_seconds ?? 0)}, from ${from}` : `${command}, from ${from}`);
  }

  /** Adds a line to what it got; the nth of a replay comes in a moment later. */
  #line(className, text, nth = 0) {
    const feed = this.#part(".feed");
    const line = make("li", className, text);
    if (nth > 0) line.style.animationDelay = `${Math.min(nth * 60, 1500)}ms`;
    feed.append(line);
    while (feed.childElementCount > feedMost) feed.firstElementChild.remove();
    feed.scrollTop = feed.scrollHeight;
  }

  #say(selector, text) {
    const element = this.#part(selector);
    element.textContent = text;
    element.hidden = text === "";
  }

  #part(selector) {
    return this.element.querySelector(selector);
  }
}
