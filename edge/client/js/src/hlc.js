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
 * A clock for the timestamps of what this device sends. Its stamps strictly
 * rise, also when the wall clock steps back, and are above every stamp that it
 * was told of: an update made after seeing another one is newer than it.
 */
export class Clock {
  #now;
  #maxDrift;
  #milliseconds = 0;
  #counter = 0;

  /**
   * now is the wall clock in milliseconds; maxDrift is how far ahead of it, in
   * milliseconds, a foreign stamp may be.
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
   * Takes note of a foreign stamp. One that is more than maxDrift ahead of the
   * wall clock is ignored, since one wrong clock would otherwise drag all
   * others with it; the answer is then false.
   */
  update(foreign) {
    if (!isStamp(foreign)) return false;
    const milliseconds = millisecondsOf(foreign);
    if (milliseconds > this.#now() + this.#maxDrift) return false;
    const counter = parseInt(foreign.slice(12), 16);
    if (milliseconds > this.#milliseconds || (milliseconds === this.#milliseconds && counter > this.#counter)) {
      this.#milliseconds = milliseconds;
      this.#counter = counter;
    }
    return true;
  }
}
