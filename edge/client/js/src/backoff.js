// How long to wait before the next connection.

import { badToken, tooManyMessages } from "./codes.js";

/** The longest that an edge may ask for, in milliseconds; a timer of 25 days would end at once. */
const longest = 3_600_000;

/** Counts attempts in vain. */
export class Backoff {
  #min;
  #max;
  #random;
  #failures = 0;

  /** min and max are milliseconds; random is like Math.random. */
  constructor({ min, max, random = Math.random }) {
    this.#min = min;
    this.#max = max;
    this.#random = random;
  }

  /**
   * The milliseconds until the next attempt after a connection ended: what the
   * edge asked for, exactly ("after_ms") or at least ("Retry-After"), or else a
   * random time up to a ceiling that doubles ("full jitter"). The other part
   * of the answer tells whether it was the edge's wish.
   */
  wait({ code, afterMs, refusal }) {
    if (afterMs !== undefined) return { wait: Math.min(afterMs, longest), asked: true };
    if (code === tooManyMessages) this.#failures = Math.max(this.#failures, 3);
    if (refusal?.status === 401 || code === badToken) this.#failures = 30; // a fresh token did not help: others will not soon
    const ceiling = Math.min(this.#max, this.#min * 2 ** (this.#failures + 1));
    this.#failures = Math.min(this.#failures + 1, 30);
    const jitter = this.#random() * (ceiling - this.#min);
    if (refusal?.retryAfterMs !== undefined) return { wait: Math.min(refusal.retryAfterMs, longest) + jitter, asked: true };
    return { wait: this.#min + jitter, asked: false };
  }

  /** Forgets earlier failures: the edge has delivered everything. */
  caughtUp() {
    this.#failures = 0;
  }
}
