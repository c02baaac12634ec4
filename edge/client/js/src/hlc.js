// Hybrid logical clocks (Kulkarni et al. 2014, section 6) as the relay writes
// them: 48 bits of Unix milliseconds and a counter of 16 bits, as 16 lower-case
// hex digits. Stamps are kept as text, which sorts as they do; a JavaScript
// number would round them.

/** Before everything. */
export const zero = "0000000000000000";

const counterLimit = 0x10000;

/** Whether text is a stamp. */
export function isStamp(text) {
  return typeof text === "string" && /^[0-9a-f]{16}$/.test(text);
}

/** The stamp of a Unix time in milliseconds and a counter from 0 to 65535. */
export function stamp(milliseconds, counter = 0) {
  return milliseconds.toString(16).padStart(12, "0") + counter.toString(16).padStart(4, "0");
}

/** The Unix time of a stamp, in milliseconds. */
export function millisecondsOf(stamp) {
  return parseInt(stamp.slice(0, 12), 16);
}

/**
 * An event's timestamp as a number that can be compared, in units of a stamp
 * (milliseconds times 65536). Publishers write milliseconds, microseconds or a
 * stamp: 16 characters that begin with 0 or hold a letter are a stamp in hex;
 * digits go by their size, below 10^14 milliseconds, below 10^17 microseconds,
 * and above that a stamp in decimal. What is none of these, or missing, is 0.
 */
export function instant(timestamp) {
  const text = String(timestamp ?? "");
  if (/^[0-9a-f]{16}$/.test(text) && (text[0] === "0" || /[a-f]/.test(text))) return BigInt("0x" + text);
  if (!/^[0-9]{1,20}$/.test(text)) return 0n;
  const n = BigInt.asUintN(64, BigInt(text)) === BigInt(text) ? BigInt(text) : greatest;
  if (n < 10n ** 14n) return n << 16n;
  if (n < 10n ** 17n) return (n << 16n) / 1000n;
  return n;
}

const greatest = 2n ** 64n - 1n;

/** How far the wall clock may have been put back, in milliseconds. */
const putBack = 86_400_000;

/**
 * A clock for the timestamps of what this device sends. Its stamps strictly
 * rise, also when the wall clock steps back, and are above every timestamp that
 * it was told of: an update made after seeing another one is newer than it.
 */
export class Clock {
  #now;
  #maxDrift;
  #milliseconds = 0;
  #counter = 0;
  #known = 0; // a time that it is at least, whatever the wall clock says

  /**
   * now is the wall clock in milliseconds; maxDrift is how far ahead of it, in
   * milliseconds, a foreign timestamp may be.
   */
  constructor({ now = Date.now, maxDrift = 60_000 } = {}) {
    this.#now = now;
    this.#maxDrift = maxDrift;
  }

  /** A stamp above all that this clock gave or was told of. */
  tick() {
    const wall = Math.floor(this.#now());
    if (wall > this.#milliseconds) {
      this.#milliseconds = wall;
      this.#counter = 0;
    } else if (++this.#counter === counterLimit) {
      this.#milliseconds++;
      this.#counter = 0;
    }
    return stamp(this.#milliseconds, this.#counter);
  }

  /**
   * Takes note of a foreign timestamp in any form that [instant] reads. One that
   * is more than maxDrift ahead of the wall clock, and of all that was taken up, is
   * ignored, since one wrong clock would otherwise drag all others with it; the
   * answer is then false, as it is for what cannot be read.
   */
  update(foreign) {
    return this.#follow(foreign, Math.max(this.#now(), this.#known) + this.#maxDrift);
  }

  /**
   * Takes up a timestamp that this device made before, or its relay: whatever
   * the wall clock says, it is later than that. One that is more than a day ahead
   * is ignored all the same; the answer is then false.
   */
  resume(own) {
    if (!this.#follow(own, this.#now() + putBack)) return false;
    this.#known = Math.max(this.#known, Number(instant(own) >> 16n));
    return true;
  }

  #follow(timestamp, latest) {
    const at = instant(timestamp);
    const milliseconds = Number(at >> 16n);
    if (at === 0n || milliseconds > latest) return false;
    const counter = Number(at & 0xffffn);
    if (milliseconds > this.#milliseconds || (milliseconds === this.#milliseconds && counter > this.#counter)) {
      this.#milliseconds = milliseconds;
      this.#counter = counter;
    }
    return true;
  }
}
