// Where a device keeps its cursor and what it has not sent yet. A store has
// get(key) and set(key, text), each of which may return a promise; get answers null
// or undefined for what is not there.

/** Keeps everything for as long as the page or the process lives. */
export function memoryStore() {
  const kept = new Map();
  return {
    get: (key) => kept.get(key) ?? null,
    set: (key, text) => void kept.set(key, text),
  };
}

/** Keeps everything in localStorage, or in another Storage. */
export function localStore(storage = globalThis.localStorage) {
  return {
    get: (key) => storage.getItem(key),
    set: (key, text) => storage.setItem(key, text),
  };
}

/** Keeps everything in an IndexedDB database of this name. */
export function indexedDBStore(name = "reprise", factory = globalThis.indexedDB) {
  let opened;
  const open = () =>
    (opened ??= new Promise((resolve, reject) => {
      const request = factory.open(name, 1);
      request.onupgradeneeded = () => request.result.createObjectStore("kept");
      request.onerror = () => reject(request.error);
      request.onsuccess = () => {
        // Another page that wants a newer version, or deletes it, must not wait for us.
        request.result.onversionchange = () => {
          request.result.close();
          opened = undefined;
        };
        resolve(request.result);
      };
    }).catch((error) => {
      opened = undefined;
      throw error;
    }));
  const run = async (mode, operation) => {
    const database = await open();
    return new Promise((resolve, reject) => {
      const transaction = database.transaction("kept", mode);
      const request = operation(transaction.objectStore("kept"));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onerror = transaction.onabort = () => reject(transaction.error);
    });
  };
  return {
    get: (key) => run("readonly", (kept) => kept.get(key)),
    set: (key, text) => run("readwrite", (kept) => kept.put(text, key)),
  };
}

/**
 * Writes the newest text under a key, one write at a time and none that is
 * already overtaken, no more often than every interval milliseconds. A write
 * that fails is reported and tried again with the next text.
 */
export class Keeper {
  #store;
  #key;
  #interval;
  #report;
  #text; // what is to be written; undefined when nothing is
  #timer;
  #writing; // a promise while a write runs
  #last = -Infinity; // when it was written last

  constructor(store, key, { interval = 0, report }) {
    this.#store = store;
    this.#key = key;
    this.#interval = interval;
    this.#report = report;
  }

  /** What is kept; null when there is nothing. */
  async load() {
    return (await this.#store.get(this.#key)) ?? null;
  }

  /** Notes that text is to be kept, soon. */
  save(text) {
    this.#text = text;
    if (this.#timer !== undefined || this.#writing !== undefined) return;
    const due = this.#last + this.#interval - performance.now();
    if (due <= 0) this.#write();
    else this.#timer = setTimeout(() => this.#write(), due);
  }

  /** Writes what is due, now. The promise ends when it is kept. */
  async flush() {
    for (;;) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
      if (this.#writing === undefined && this.#text !== undefined) this.#write();
      if (this.#writing === undefined) return;
      await this.#writing;
    }
  }

  #write() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const text = this.#text;
    this.#text = undefined;
    if (text === undefined) return;
    this.#last = performance.now();
    let outcome;
    try {
      outcome = this.#store.set(this.#key, text);
    } catch (error) {
      this.#report(error);
      return;
    }
    if (typeof outcome?.then !== "function") return;
    this.#writing = outcome
      .then(undefined, (error) => this.#report(error))
      .then(() => {
        this.#writing = undefined;
        if (this.#text !== undefined) this.save(this.#text);
      });
  }
}
