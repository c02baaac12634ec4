// One WebSocket, from its opening to its end.

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
   * arrives. Times are milliseconds.
   */
  constructor({ WebSocket, url, protocols, dialTimeout, pingInterval, pingTimeout, onFrame }) {
    this.#pingInterval = pingInterval;
    this.#pingTimeout = pingTimeout;
    this.#onFrame = onFrame;
    this.ended = new Promise((resolve) => (this.#end = resolve));
    this.#timer = setTimeout(() => this.#fail("no answer in time"), dialTimeout);
    this.#socket = new WebSocket(url, protocols);
    this.#handlers = {
      open: () => this.#open(),
      message: ({ data }) => this.#message(data),
      close: ({ code, reason }) => this.#finish({ code, reason: String(reason) }),
      error: () => {}, // a close event follows, and knows more
    };
    for (const [type, handler] of Object.entries(this.#handlers)) this.#socket.addEventListener(type, handler);
  }

  /** Sends a text frame, if the connection is open. */
  send(text) {
    if (this.#opened && this.#end !== undefined) this.#socket.send(text);
  }

  /** Asks for a sign of life, and gives the link up when none comes in time. */
  probe(timeout = this.#pingTimeout) {
    if (!this.#opened || this.#end === undefined) return;
    const asked = Date.now();
    this.send('{"type":"ping"}');
    this.#arm(timeout, () => {
      if (this.#heard >= asked) this.#watch();
      else if (Date.now() - asked > timeout + slack) this.probe(); // we were asleep, the answer may be waiting
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
    this.#heard = Date.now();
    this.#watch();
  }

  #message(data) {
    this.#heard = Date.now();
    if (typeof data === "string") this.#onFrame(data);
    else this.#fail("a binary frame");
  }

  /** Waits for the link to be silent for too long. */
  #watch() {
    const silence = Date.now() - this.#heard;
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
