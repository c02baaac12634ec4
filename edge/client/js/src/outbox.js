// What this device sends up, until the edge has said that it is stored.

import { Backoff } from "./backoff.js";
import { LWWRegister } from "./merge.js";

/** The most updates that are under way at once. */
const window = 16;

/** An update that will not be sent, or that the edge refused for good. */
export class UpdateError extends Error {
  /** The edge's code, or "too_large", "queue_full", "bad_id", "not_json" or "closed". */
  code;
  /** The update. */
  update;

  constructor(code, message, update) {
    super(message);
    this.name = "UpdateError";
    this.code = code;
    this.update = update;
  }
}

/**
 * The queue of updates. An entry leaves it when the edge accepts or refuses it;
 * what was under way when a connection ended is sent again on the next one,
 * with its id, which makes that harmless.
 */
export class Outbox {
  #entries = []; // oldest first: see entry
  #promises = new Map(); // id → {resolve, reject}
  #keeper; // undefined until it is open
  #limit;
  #rate;
  #burst;
  #backoff;
  #tokens;
  #filled; // when #tokens was right, by performance.now

  /**
   * limit is how many updates may wait; rate and burst are how many are sent a
   * second, and at once after a pause; backoff is between which times one waits
   * that the edge refuses for the moment, as for a [Backoff].
   */
  constructor({ limit, rate, burst, backoff }) {
    this.#limit = limit;
    this.#rate = rate;
    this.#burst = burst;
    this.#backoff = backoff;
    this.#tokens = burst;
    this.#filled = performance.now();
  }

  /** Takes up what an earlier page left, before what this one has added, and keeps everything from now on. */
  async open(keeper) {
    const text = await keeper.load();
    this.#keeper = keeper;
    this.#entries.unshift(...JSON.parse(text ?? "[]").map(entry));
    if (this.#entries.length > 0) this.#keep();
  }

  /** The updates that wait or are under way, oldest first. */
  get pending() {
    return this.#entries.map(({ update }) => update);
  }

  /**
   * Adds an update that has an id. The promise ends when the edge has stored
   * it. Of the positions of one content that nobody has sent yet only the newest
   * waits, whichever was added first; the promises of the others end at once.
   */
  add(update) {
    const rivals = this.#entries.filter(
      (e) => !e.sent && e.backoff === undefined && update.type === "progress_update" && e.update.type === "progress_update" && e.update.content_id === update.content_id,
    );
    const newer = rivals.find((e) => isNewer(e.update, update));
    if (newer !== undefined) return Promise.resolve({ id: update.id, supersededBy: newer.update.id });
    if (rivals.length === 0 && this.#entries.length >= this.#limit) {
      return Promise.reject(new UpdateError("queue_full", `${this.#limit} updates are waiting already`, update));
    }
    this.#entries = this.#entries.filter((e) => !rivals.includes(e));
    for (const { update: old } of rivals) {
      this.#settle(old.id, ({ resolve }) => resolve({ id: old.id, supersededBy: update.id }));
    }
    this.#entries.push(entry(update));
    this.#keep();
    return new Promise((resolve, reject) => this.#promises.set(update.id, { resolve, reject }));
  }

  /**
   * Sends what may be sent now. The answer is the milliseconds until there is
   * more to do, undefined when only an answer of the edge can change that.
   */
  pump(send) {
    const now = performance.now();
    this.#tokens = Math.min(this.#burst, this.#tokens + ((now - this.#filled) / 1000) * this.#rate);
    this.#filled = now;
    let underWay = this.#entries.filter(({ sent }) => sent).length;
    let next;
    for (const e of this.#entries) {
      if (e.sent) continue;
      if (underWay >= window) return undefined;
      if (e.notBefore > now) {
        next = Math.min(next ?? Infinity, e.notBefore - now);
        continue;
      }
      if (this.#tokens < 1) return Math.min(next ?? Infinity, ((1 - this.#tokens) / this.#rate) * 1000);
      this.#tokens--;
      e.sent = true;
      underWay++;
      send(JSON.stringify(e.update));
    }
    return next;
  }

  /** The edge has stored the update of this id. */
  accepted(id) {
    if (this.#take(id) === undefined) return;
    this.#settle(id, ({ resolve }) => resolve({ id }));
  }

  /**
   * The edge did not take the update of this id. A temporary refusal is tried
   * again later; the update of another is given back.
   */
  refused(id, code, message, temporary) {
    if (temporary) {
      const e = this.#entries.find(({ update }) => update.id === id);
      if (e === undefined) return undefined;
      e.sent = false;
      e.backoff ??= new Backoff(this.#backoff);
      e.notBefore = performance.now() + e.backoff.wait({}).wait;
      return undefined;
    }
    const update = this.#take(id);
    if (update === undefined) return undefined;
    const error = new UpdateError(code, message, update);
    this.#settle(id, ({ reject }) => reject(error));
    return error;
  }

  /**
   * The edge has closed the connection over an update that is too large for it,
   * and would again: the largest of those under way is given back.
   */
  tooLarge() {
    const bytes = ({ update }) => new TextEncoder().encode(JSON.stringify(update)).length;
    const [largest] = this.#entries.filter(({ sent }) => sent).sort((a, b) => bytes(b) - bytes(a));
    if (largest === undefined) return undefined;
    return this.refused(largest.update.id, "too_large", `the edge takes no frame of ${bytes(largest)} bytes`, false);
  }

  /** The connection is gone: whatever was under way has to be sent again. */
  disconnected() {
    for (const e of this.#entries) e.sent = false;
  }

  /** The edge found us too fast. */
  slower() {
    this.#rate = Math.max(1, this.#rate / 2);
    this.#tokens = 0;
  }

  /** Ends the promises, not the updates: what is kept is sent by the next page. */
  close() {
    const fate = this.#keeper === undefined ? "" : "; kept for the next time";
    for (const [id, { reject }] of this.#promises) {
      const update = this.#entries.find((e) => e.update.id === id)?.update;
      reject(new UpdateError("closed", `closed before the edge had answered${fate}`, update));
    }
    this.#promises.clear();
  }

  /** Ends when everything is kept. */
  flush() {
    return this.#keeper?.flush();
  }

  #take(id) {
    const at = this.#entries.findIndex(({ update }) => update.id === id);
    if (at < 0) return undefined;
    const [{ update }] = this.#entries.splice(at, 1);
    this.#keep();
    return update;
  }

  #settle(id, how) {
    const promise = this.#promises.get(id);
    if (promise === undefined) return;
    this.#promises.delete(id);
    how(promise);
  }

  #keep() {
    this.#keeper?.save(JSON.stringify(this.pending));
  }
}

/** Whether position a wins over b where both are known; see [LWWRegister]. */
function isNewer(a, b) {
  const register = new LWWRegister();
  const offer = ({ position_seconds, duration_seconds, timestamp }) => register.set({ position: position_seconds, duration: duration_seconds }, timestamp);
  offer(b);
  return offer(a);
}

function entry(update) {
  return {
    update,
    sent: false, // on the connection that there is
    notBefore: 0, // by performance.now
    backoff: undefined, // of refusals for the moment, once there was one
  };
}
