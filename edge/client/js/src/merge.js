// What events mean for a user's state. Events may be applied in any order and
// any number of times: the outcome is the same on every device, and the same
// as the relay's own snapshot.

import { instant } from "./hlc.js";

/** Compares text by code points, as the relay does. */
function compareText(a, b) {
  const left = Array.from(a, (c) => c.codePointAt(0));
  const right = Array.from(b, (c) => c.codePointAt(0));
  for (let i = 0; i < left.length && i < right.length; i++) {
    if (left[i] !== right[i]) return left[i] - right[i];
  }
  return left.length - right.length;
}

/**
 * A last-writer-wins register: of all values that were offered it holds the one
 * with the newest timestamp. A tie is broken by device id, then by the value.
 */
export class LWWRegister {
  /** The value that won, undefined before the first. */
  value = undefined;
  /** The winner's timestamp as its publisher wrote it. */
  timestamp = undefined;
  /** The winner's device id. */
  deviceId = undefined;

  /** Offers a value; the answer tells whether it won. */
  set(value, timestamp, deviceId = "") {
    if (this.timestamp !== undefined && this.#newer(value, timestamp, deviceId) <= 0) return false;
    this.value = value;
    this.timestamp = String(timestamp ?? "");
    this.deviceId = deviceId ?? "";
    return true;
  }

  /** Offers what another register holds. */
  merge(other) {
    return other.timestamp !== undefined && this.set(other.value, other.timestamp, other.deviceId);
  }

  #newer(value, timestamp, deviceId) {
    const mine = instant(this.timestamp);
    const theirs = instant(timestamp);
    if (theirs !== mine) return theirs > mine ? 1 : -1;
    return compareText(deviceId ?? "", this.deviceId) || compareValues(value, this.value);
  }
}

/** A total order of values, so that even a full tie has one winner. */
function compareValues(a, b) {
  if (a?.position !== undefined && b?.position !== undefined) {
    return a.position - b.position || (a.duration ?? -1) - (b.duration ?? -1);
  }
  return compareText(JSON.stringify(a) ?? "", JSON.stringify(b) ?? "");
}

/**
 * An observed-remove set. Each addition of an element carries a tag of its own,
 * a removal names the tag that it saw: whoever adds again at the same time, with
 * another tag, wins over the removal. Removed tags are remembered, so that a
 * removal that comes before its addition still removes it.
 */
export class ORSet {
  #live = new Map(); // element → set of tags
  #removed = new Map(); // element → set of tags

  /** Adds element under a tag; the answer tells whether the set changed. */
  add(element, tag) {
    if (this.#removed.get(element)?.has(tag)) return false;
    const tags = this.#live.get(element);
    if (tags === undefined) {
      this.#live.set(element, new Set([tag]));
      return true;
    }
    tags.add(tag);
    return false;
  }

  /** Takes back the addition with this tag; the answer tells whether the set changed. */
  remove(element, tag) {
    const removed = this.#removed.get(element);
    if (removed === undefined) this.#removed.set(element, new Set([tag]));
    else removed.add(tag);
    const tags = this.#live.get(element);
    if (!tags?.delete(tag) || tags.size > 0) return false;
    this.#live.delete(element);
    return true;
  }

  /** Whether the element is in the set. */
  has(element) {
    return this.#live.has(element);
  }

  /** The tags under which the element is in the set: what a removal has to name. */
  tags(element) {
    return [...(this.#live.get(element) ?? [])].sort(compareText);
  }

  /** How many elements there are. */
  get size() {
    return this.#live.size;
  }

  /** The elements, sorted. */
  values() {
    return [...this.#live.keys()].sort(compareText);
  }

  [Symbol.iterator]() {
    return this.values()[Symbol.iterator]();
  }

  /** Applies all that another set knows. */
  merge(other) {
    for (const [element, tags] of other.#removed) for (const tag of tags) this.remove(element, tag);
    for (const [element, tags] of other.#live) for (const tag of tags) this.add(element, tag);
  }

  /** What the set knows, for [ORSet.from]. */
  toJSON() {
    const flat = (map) => [...map].sort(([a], [b]) => compareText(a, b)).map(([element, tags]) => [element, [...tags].sort(compareText)]);
    return { live: flat(this.#live), removed: flat(this.#removed) };
  }

  /** The set that toJSON wrote. */
  static from({ live = [], removed = [] }) {
    const set = new ORSet();
    for (const [element, tags] of removed) for (const tag of tags) set.remove(element, tag);
    for (const [element, tags] of live) for (const tag of tags) set.add(element, tag);
    return set;
  }
}

/**
 * A user's watchlist and positions, made from events, from updates of this
 * device's own, and from snapshots. Commands and notifications are no state.
 */
export class UserState {
  /** Content ids. */
  watchlist = new ORSet();
  /** Content id to a register of `{position, duration}`, in seconds. */
  positions = new Map();

  /**
   * Applies an event as it came, or an update as it is sent; the answer tells
   * whether it was of a type that is state.
   */
  apply(event) {
    switch (event.type) {
      case "watchlist_update":
        if ((event.action ?? event.operation) === "add") this.watchlist.add(event.content_id, event.unique_tag);
        else this.watchlist.remove(event.content_id, event.unique_tag);
        return true;
      case "progress_update":
        this.#position(event, event.position ?? event.position_seconds, event.duration ?? event.duration_seconds);
        return true;
      case "snapshot":
        this.reset(event);
        return true;
    }
    return false;
  }

  /**
   * Forgets everything and takes a snapshot. Updates of this device that have
   * not been accepted yet are not in it: apply `relay.pending` afterwards.
   */
  reset(snapshot) {
    this.watchlist = new ORSet();
    this.positions = new Map();
    for (const { content_id, unique_tags } of snapshot.watchlist ?? []) {
      for (const tag of unique_tags) this.watchlist.add(content_id, tag);
    }
    for (const progress of snapshot.progress ?? []) this.#position(progress, progress.position, progress.duration);
  }

  /** Applies all that another state knows. */
  merge(other) {
    this.watchlist.merge(other.watchlist);
    for (const [id, register] of other.positions) this.#register(id).merge(register);
  }

  /** The state, for [UserState.from]. */
  toJSON() {
    const positions = [...this.positions].sort(([a], [b]) => compareText(a, b));
    return {
      watchlist: this.watchlist.toJSON(),
      progress: positions.map(([content_id, { value, timestamp, deviceId }]) => ({ content_id, ...value, device_id: deviceId, timestamp })),
    };
  }

  /** The state that toJSON wrote. */
  static from({ watchlist = {}, progress = [] }) {
    const state = new UserState();
    state.reset({ progress });
    state.watchlist = ORSet.from(watchlist);
    return state;
  }

  #position({ content_id, timestamp, device_id }, position, duration) {
    const value = duration === undefined ? { position } : { position, duration };
    this.#register(content_id).set(value, timestamp, device_id);
  }

  #register(id) {
    let register = this.positions.get(id);
    if (register === undefined) {
      register = new LWWRegister();
      this.positions.set(id, register);
    }
    return register;
  }
}
