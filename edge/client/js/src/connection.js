// One WebSocket, from its opening to its end.

// Times are of performance.now, which no correction of the wall clock moves. In a
// machine that sleeps it stands still or goes on, and so do timers: where only the
// clock goes on, or the page is frozen, timers are late.

/** How late a timer may be before it says more about a sleeping machine than about the link. */
const slack = 1000;

/**
 * A connection that is being made. `ended` resolves, once, with
 * `{opened, code, reason}`; code is 1006 where the link was lost without a close
 * frame, and reason then says what is known.
 */
export class Connection {
  ended;
  #end; // resolves ended; undefined afterwards
  #socket;
  #opened = false;
  #heard = 0; // when the last frame came
  #timer;
  #pingInterval;
  #pingTimeout;
  #onFrame;
  #handlers;

  /**
   * WebSocket is the class to use; onFrame is called with each text frame that
   * arrives. Times are milliseconds. What the class throws is thrown.
   */
  constructor({ WebSocket, url, protocols, dialTimeout, pingInterval, pingTimeout, onFrame }) {
    this.#pingInterval = pingInterval;
    this.#pingTimeout = pingTimeout;
    this.#onFrame = onFrame;
    this.ended = new Promise((resolve) => (this.#end = resolve));
    this.#socket = new WebSocket(url, protocols); // may throw: nothing is begun before
    this.#timer = setTimeout(() => this.#fail("no answer in time"), dialTimeout);
    this.#handlers = {
      open: () => this.#open(),
      message: ({ data }) => this.#message(data),
      close: ({ code, reason }) => this.#finish({ code, reason: String(reason) }),
      // A close event follows at once, and knows more; not that of Node's class, where a connection was refused.
      error: () => this.#opened || setTimeout(() => this.#fail("no connection"), 0),
    };
    for (const [type, handler] of Object.entries(this.#handlers)) this.#socket.addEventListener(type, handler);
  }

  /** Sends a text frame, if the connection is open. */
  send(text) {
    if (this.#opened && this.#end !== undefined) this.#socket.send(text);
  }

  /**
   * Asks for a sign of life, and gives the link up when none comes in time. When
   * we were asleep the answer may be waiting, or the question was lost: it is
   * asked once more. Not for ever: in a hidden page every timer is late.
   */
  probe(timeout = this.#pingTimeout, again = true) {
    if (!this.#opened || this.#end === undefined) return;
    const asked = performance.now();
    this.send('{"type":"ping"}');
    this.#arm(timeout, () => {
      const late = performance.now() - asked > timeout + slack;
      if (this.#heard >= asked) this.#watch();
      else if (late && again) this.probe(this.#pingTimeout, false);
      else this.#fail("no sign of life");
    });
  }

  /** Closes the connection in good order. Nothing is delivered any more. */
  close() {
    this.#finish({ code: 1000, reason: "" });
  }

  /** Gives the link up as if it were lost. */
  cut() {
    this.#fail("cut");
  }

  #open() {
    this.#opened = true;
    this.#heard = performance.now();
    this.#watch();
  }

  #message(data) {
    this.#heard = performance.now();
    if (typeof data === "string") this.#onFrame(data);
    else this.#fail("a binary frame");
  }

  /** Waits for the link to be silent for too long. */
  #watch() {
    const silence = performance.now() - this.#heard;
    if (silence >= this.#pingInterval) this.probe();
    else this.#arm(this.#pingInterval - silence, () => this.#watch());
  }

  #arm(milliseconds, then) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(then, milliseconds);
  }

  #fail(reason) {
    this.#finish({ code: 1006, reason });
  }

  #finish(end) {
    if (this.#end === undefined) return;
    clearTimeout(this.#timer);
    for (const [type, handler] of Object.entries(this.#handlers)) {
      if (type !== "error") this.#socket.removeEventListener(type, handler);
    }
    // A browser waits long for the other side of a dead link; we do not wait for it.
    this.#socket.close(1000);
    const resolve = this.#end;
    this.#end = undefined;
    resolve({ opened: this.#opened, ...end });
  }
}
