// What a device missed, over as many connections as it takes to deliver that.

/**
 * The replay that is under way, if there is one. When it is cut, the next
 * connection goes on with it, and goes by the cursor that came: what an earlier
 * welcome said to be missing is missing all the same.
 */
export class Replay {
  #resume; // undefined when none is under way
  #earlier = 0; // events of connections that were cut
  #delivered = 0; // events of this connection

  /** Whether one is under way that will not be complete. */
  get incomplete() {
    return this.#resume?.complete === false;
  }

  /** A welcome says where its connection goes on. */
  begin({ since, complete, reason }) {
    const before = this.#resume;
    this.#resume = complete ? { since: before?.since ?? since, complete } : { since, complete, reason };
    if (before?.complete === false) Object.assign(this.#resume, { complete: false, reason: before.reason });
    this.#earlier = before === undefined ? 0 : this.#earlier + this.#delivered;
    this.#delivered = 0;
  }

  /** An event was delivered. */
  deliver() {
    this.#delivered++;
  }

  /** The edge has sent all, and says how many events that were on its connection. */
  end({ hlc, replayed }) {
    const resumed = { ...this.#resume, hlc, replayed: this.#earlier + replayed };
    this.#resume = undefined;
    return resumed;
  }
}
