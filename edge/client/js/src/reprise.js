import { Backoff } from "./backoff.js";
import { badToken, tooBig, tooManyMessages } from "./codes.js";
import { Connection } from "./connection.js";
import { Clock, isStamp, zero } from "./hlc.js";
import { Outbox, UpdateError } from "./outbox.js";
import { defined, withDefaults } from "./options.js";
import { askWhy } from "./refusal.js";
import { Replay } from "./replay.js";
import { Keeper } from "./store.js";
import { subjectOf, tokenFrom } from "./token.js";

const subprotocol = "reprise.v1";

/** A device of a user. See index.d.ts for what each part promises. */
export class Reprise {
  // static after construction
  #options;
  #backoff;
  #clock = new Clock();
  #followed; // the kept state that the app told of

  #listeners = new Map(); // type → set of functions
  #state = "idle";
  #cursor = zero; // events up to here have been delivered
  #since; // what the next connection asks for; undefined: what the edge remembers
  #replay = new Replay();
  #user; // undefined until the store is open, and where no token names one
  #keeper; // of the cursor; undefined until the store is open
  #outbox;
  #handled = Promise.resolve(); // ends when the handlers of all delivered events have
  #waiting = 0; // deliveries whose handlers have not ended

  // of the current connection
  #connection;
  #afterMs;
  #welcome;
  #acked = zero;
  #pumpTimer;

  #running;
  #ending = false; // close was called
  #stop; // an AbortController while running
  #wake; // ends the wait for the next attempt early

  constructor(options) {
    this.#options = withDefaults(options);
    const { since, minBackoff, maxBackoff, queueLimit, sendRate, sendBurst, connect } = this.#options;
    this.#backoff = new Backoff({ min: minBackoff, max: maxBackoff });
    this.#outbox = new Outbox({ limit: queueLimit, rate: sendRate, burst: sendBurst, backoff: { min: minBackoff, max: maxBackoff } });
    this.#since = since;
    if (isStamp(since)) this.#cursor = since;
    if (connect) queueMicrotask(() => this.connect());
  }

  get state() {
    return this.#state;
  }

  get cursor() {
    return this.#cursor;
  }

  get userId() {
    return this.#user;
  }

  get pending() {
    return this.#outbox.pending;
  }

  on(type, listener) {
    const listeners = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, listeners.add(listener));
    return () => this.off(type, listener);
  }

  once(type, listener) {
    const off = this.on(type, (detail) => {
      off();
      return listener(detail);
    });
    return off;
  }

  off(type, listener) {
    this.#listeners.get(type)?.delete(listener);
  }

  connect() {
    if (this.#running !== undefined || this.#ending) return;
    this.#stop = new AbortController();
    this.#running = this.#run(this.#stop.signal).catch((error) => this.#closed({ code: 1006, reason: String(error?.message ?? error), error }));
  }

  async close() {
    this.#ending = true;
    this.#ack();
    this.#stop?.abort();
    this.#connection?.close();
    await this.#running;
    // What was queued before the first connection is kept, too.
    const { userId } = this.#options;
    if (userId !== undefined && this.pending.length > 0) await this.#openStore(userId);
    this.#closed({ code: 1000, reason: "closed" });
    await this.#handled;
    await this.flush();
  }

  cut() {
    this.#connection?.cut();
  }

  async flush() {
    await Promise.all([this.#keeper?.flush(), this.#outbox.flush()]);
  }

  follow(state) {
    this.#followed = state;
    const positions = [...state.positions.values()];
    for (const { deviceId, timestamp } of positions) if (deviceId === this.#options.deviceId) this.#clock.resume(timestamp);
    for (const { timestamp } of positions) this.#clock.update(timestamp);
  }

  send(update) {
    const complete = { id: crypto.randomUUID(), timestamp: this.#clock.tick(), ...defined(update) };
    if (this.#state === "closed") return rejected(new UpdateError("closed", "the client is closed", complete));
    if (!isId(complete.id)) return rejected(new UpdateError("bad_id", "id: not a string of 1 to 128 characters", complete));
    let copy;
    try {
      copy = JSON.parse(JSON.stringify(complete));
    } catch (error) {
      return rejected(new UpdateError("not_json", error.message, update));
    }
    const outcome = this.#outbox.add(copy);
    if (this.#outbox.pending.includes(copy)) this.#emit("update", { device_id: this.#options.deviceId, ...copy });
    this.#pump();
    outcome.catch(() => {}); // who does not wait for it hears of it by "rejected"
    return outcome;
  }

  progress(content_id, position_seconds, duration_seconds) {
    return this.send({ type: "progress_update", content_id, position_seconds, duration_seconds });
  }

  add(content_id, unique_tag = crypto.randomUUID()) {
    return this.send({ type: "watchlist_update", operation: "add", content_id, unique_tag });
  }

  remove(content_id, unique_tag) {
    return this.send({ type: "watchlist_update", operation: "remove", content_id, unique_tag });
  }

  command(target_device_id, command_type, payload = {}, { expires_at } = {}) {
    return this.send({ type: "device_command", target_device_id, command_type, payload, expires_at });
  }

  handoff(target_device_id, content_id, position_seconds) {
    return this.send({ type: "device_handoff", target_device_id, content_id, position_seconds });
  }

  /** Connects, again and again, until signal or until it is pointless. */
  async #run(signal) {
    this.#watchPage(signal);
    while (!signal.aborted) {
      const end = await this.#connectOnce(signal);
      if (signal.aborted) return;
      if (isPermanent(end, this.#renewable)) {
        this.#closed(end);
        return;
      }
      const { wait, asked } = this.#backoff.wait(end);
      this.#setState("waiting");
      this.#emit("disconnected", { ...end, retryInMs: wait });
      await this.#sleep(wait, signal, !asked);
    }
  }

  /** Lives through one connection and answers how it ended. */
  async #connectOnce(signal) {
    this.#setState("connecting");
    const { userId } = this.#options;
    if (userId !== undefined) await this.#openStore(userId); // first, so that the queue is kept while there is no token
    let token;
    let user;
    try {
      token = await this.#token(signal);
      user = subjectOf(token) ?? userId;
      if (user === undefined && this.#renewable) throw new TypeError("it names no user");
    } catch (error) {
      return { opened: false, code: 1006, reason: `token: ${error?.message ?? error}`, error };
    }
    await this.#openStore(user);
    if (user !== this.#user) throw new Error("reprise: the token is another user's; a client is one user's device");
    if (signal.aborted) return { opened: false, code: 1000, reason: "" };
    const url = this.#target();
    const { WebSocket, fetch, dialTimeout, pingInterval, pingTimeout } = this.#options;
    this.#afterMs = undefined;
    this.#welcome = undefined;
    this.#connection = new Connection({
      WebSocket,
      url,
      protocols: token === undefined ? [subprotocol] : [subprotocol, `bearer.${token}`],
      dialTimeout,
      pingInterval,
      pingTimeout,
      onFrame: (text) => this.#frame(text),
    });
    const acking = setInterval(() => this.#ack(), this.#options.ackInterval);
    const end = await this.#connection.ended;
    clearInterval(acking);
    clearTimeout(this.#pumpTimer);
    this.#connection = undefined;
    const tooLarge = end.code === tooBig ? this.#outbox.tooLarge() : undefined;
    if (tooLarge !== undefined) this.#emit("rejected", tooLarge);
    this.#outbox.disconnected();
    if (end.code === tooManyMessages) this.#outbox.slower();
    if (end.opened) return { ...end, afterMs: this.#afterMs };
    if (signal.aborted) return end;
    return { ...end, refusal: await askWhy(url, token, { fetch, timeout: dialTimeout, signal }) };
  }

  /** Takes up what this device kept of this user, once. */
  async #openStore(user) {
    if (this.#keeper !== undefined) return;
    const { store, deviceId, saveInterval } = this.#options;
    const key = ["reprise", user ?? "", deviceId ?? ""].join(":");
    const report = (error) => this.#emit("error", new Error(`reprise: store: ${error?.message ?? error}`, { cause: error }));
    this.#user = user;
    this.#keeper = new Keeper(store, `${key}:cursor`, { interval: saveInterval, report });
    try {
      const kept = await this.#keeper.load();
      if (isStamp(kept)) {
        this.#cursor = this.#since = kept;
        this.#clock.resume(kept);
      }
      await this.#outbox.open(new Keeper(store, `${key}:outbox`, { report }));
      for (const { timestamp } of this.pending) this.#clock.resume(timestamp);
      if (this.#followed !== undefined) this.follow(this.#followed); // the clock knows better now what is too far ahead
    } catch (error) {
      report(error); // it is a device without a memory, then
    }
  }

  #frame(text) {
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      this.#connection.cut();
      this.#emit("error", new Error("reprise: a frame that is not JSON"));
      return;
    }
    this.#emit("frame", frame);
    switch (frame.type) {
      case "welcome":
        this.#welcome = frame;
        this.#begin(frame.resume);
        this.#setState("replaying");
        this.#deliver("welcome", frame);
        this.#pump();
        break;
      case "snapshot":
        this.#move(frame.hlc, true);
        for (const { timestamp } of frame.progress ?? []) this.#clock.update(timestamp);
        this.#deliver("snapshot", frame, frame.hlc);
        break;
      case "caught_up":
        this.#backoff.caughtUp();
        this.#move(frame.hlc);
        this.#setState("live");
        this.#deliver("resumed", this.#replay.end(frame), this.#cursor);
        this.#ack();
        break;
      case "position":
        this.#move(frame.hlc);
        this.#deliver("position", frame, this.#cursor);
        break;
      case "reconnect":
        this.#afterMs = Math.max(0, frame.after_ms);
        break;
      case "token_expiring":
        this.#renew();
        break;
      case "accepted":
        this.#outbox.accepted(frame.id);
        this.#emit("accepted", { id: frame.id });
        this.#pump();
        break;
      case "error":
        this.#refused(frame);
        break;
      case "pong":
        break;
      default:
        if (isStamp(frame.hlc)) {
          if (!this.#move(frame.hlc)) return;
          this.#clock.update(frame.timestamp);
          this.#replay.deliver();
          this.#deliver(frame.type, frame, frame.hlc, true);
        } else this.#deliver(frame.type, frame);
    }
  }

  /** Takes note of where a connection begins. */
  #begin(resume) {
    this.#replay.begin(resume);
    const { since, complete } = resume;
    if (!complete) {
      this.#cursor = zero;
      this.#since = since;
    } else if (since >= this.#cursor) this.#cursor = this.#since = since;
  }

  /** Moves the cursor forward, or, for a snapshot, wherever it says; tells whether it moved. */
  #move(hlc, anywhere = false) {
    if (hlc <= this.#cursor && !anywhere) return false;
    this.#cursor = this.#since = hlc;
    this.#clock.resume(hlc);
    return true;
  }

  /**
   * Calls the listeners. When those of this and of all earlier frames have
   * ended, also those that return promises, the cursor is kept as at. Not in a
   * replay that is incomplete: until its end is delivered, another page has to
   * begin where this one did, and is told.
   */
  #deliver(type, detail, at, isEvent = false) {
    const keeps = at !== undefined && !this.#replay.incomplete;
    const outcomes = [...this.#emit(type, detail), ...(isEvent ? this.#emit("event", detail) : [])];
    const keep = () => keeps && this.#keeper.save(at);
    if (outcomes.length === 0 && this.#waiting === 0) {
      keep();
      return;
    }
    this.#waiting++;
    const settled = Promise.allSettled(outcomes);
    this.#handled = this.#handled.then(async () => {
      for (const { status, reason } of await settled) {
        if (status === "rejected") this.#emit("error", reason);
      }
      this.#waiting--;
      keep();
    });
  }

  /** Calls the listeners of a type and answers the promises that they returned. */
  #emit(type, detail) {
    const promises = [];
    for (const listener of [...(this.#listeners.get(type) ?? [])]) {
      try {
        const outcome = listener(detail);
        if (typeof outcome?.then === "function") promises.push(outcome);
      } catch (error) {
        if (type === "error") reportUncaught(error);
        else this.#emit("error", error);
      }
    }
    if (type === "error" && !this.#listeners.get("error")?.size) reportUncaught(detail);
    return promises;
  }

  #setState(state) {
    if (state === this.#state) return;
    this.#state = state;
    this.#emit("state", state);
  }

  #refused({ id, code, message, temporary }) {
    const error = id === undefined ? undefined : this.#outbox.refused(id, code, message, temporary);
    if (error !== undefined) this.#emit("rejected", error);
    else if (!temporary) this.#emit("error", new Error(`reprise: the edge answers ${code}: ${message}`));
    this.#pump();
  }

  /** Sends what may be sent, and comes back when there is more. */
  #pump() {
    clearTimeout(this.#pumpTimer);
    if (this.#welcome === undefined || this.#connection === undefined) return;
    const next = this.#outbox.pump((text) => this.#connection.send(text));
    if (next !== undefined) this.#pumpTimer = setTimeout(() => this.#pump(), next);
  }

  /** Tells the edge how far the listeners have come: its memory for a device that lost its own. */
  #ack() {
    const at = this.#cursor;
    const connection = this.#connection;
    if (this.#state !== "live" || at === this.#acked || at === zero) return;
    const send = () => {
      if (connection !== this.#connection) return;
      this.#acked = at;
      connection.send(JSON.stringify({ type: "ack", hlc: at }));
    };
    if (this.#waiting === 0) send();
    else this.#handled.then(send);
  }

  async #renew() {
    if (!this.#renewable) return;
    const connection = this.#connection;
    const { signal } = this.#stop;
    try {
      const token = await this.#token(signal);
      connection?.send(JSON.stringify({ type: "token", token }));
    } catch (error) {
      // The edge closes with 4004, and the next connection asks again.
      if (!signal.aborted) this.#emit("error", new Error(`reprise: token: ${error?.message ?? error}`, { cause: error }));
    }
  }

  /** Whether there may be a better token than the last. */
  get #renewable() {
    return typeof this.#options.token === "function";
  }

  #token(signal) {
    return tokenFrom(this.#options.token, { timeout: this.#options.dialTimeout, signal });
  }

  #target() {
    const { url, userId, deviceId, echo, coalesce, snapshot } = this.#options;
    const target = new URL(url);
    const query = target.searchParams;
    if (deviceId !== undefined) query.set("device_id", deviceId);
    if (userId !== undefined) query.set("user_id", userId);
    if (this.#since !== undefined) query.set("since", this.#since);
    for (const [name, wanted] of Object.entries({ echo, coalesce, snapshot })) if (wanted) query.set(name, "1");
    return target.href;
  }

  /** Waits; a page that comes back to life ends a wait that the edge did not ask for. */
  #sleep(milliseconds, signal, mayWake) {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        this.#wake = undefined;
        resolve();
      };
      const timer = setTimeout(done, milliseconds);
      signal.addEventListener("abort", done);
      if (mayWake) this.#wake = done;
    });
  }

  /** Listens to what a browser says about the network and the page. */
  #watchPage(signal) {
    const back = () => {
      this.#connection?.probe(3000);
      // Not all devices of a home whose network came back are to knock at one moment.
      if (this.#wake !== undefined) setTimeout(() => this.#wake?.(), Math.random() * this.#options.minBackoff);
    };
    globalThis.addEventListener?.("online", back, { signal });
    globalThis.addEventListener?.("pagehide", () => void this.flush(), { signal });
    globalThis.document?.addEventListener("visibilitychange", () => document.visibilityState === "visible" && back(), { signal });
  }

  #closed(detail) {
    if (this.#state === "closed") return;
    this.#stop?.abort();
    this.#outbox.close();
    this.#setState("closed");
    this.#emit("closed", detail);
  }
}

/**
 * Whether coming back is pointless. It is not where the next token may be a better
 * one, nor where something before the edge answered, as a proxy does in a deploy.
 */
function isPermanent({ code, refusal }, renewable) {
  if (refusal === undefined) return code >= 4500 && code <= 4999 && !(code === badToken && renewable);
  const { status } = refusal;
  if (refusal.code === undefined || (status === 401 && renewable)) return false;
  return status >= 400 && status < 500 && ![408, 425, 429].includes(status);
}

function isId(id) {
  return typeof id === "string" && id !== "" && [...id].length <= 128;
}

function rejected(error) {
  const promise = Promise.reject(error);
  promise.catch(() => {});
  return promise;
}

function reportUncaught(error) {
  if (typeof globalThis.reportError === "function") globalThis.reportError(error);
  else console.error(error);
}
