// The JWT with which a device connects.

/** What a WebSocket takes as a subprotocol (RFC 9110, section 5.6.2); a page of HTML is none. */
const form = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/** A token without the white space around it; undefined where that leaves none. */
export function tokenOf(text) {
  const token = typeof text === "string" ? text.trim() : "";
  return form.test(token) ? token : undefined;
}

/**
 * The token: the one that is given, or what the function that is given makes
 * within timeout milliseconds. It rejects when that throws, makes no token, is
 * not done in time, and when signal ends the wait.
 */
export async function tokenFrom(given, { timeout, signal }) {
  if (typeof given !== "function") return given;
  signal.throwIfAborted();
  let stop;
  let timer;
  const ended = new Promise((_, reject) => {
    stop = () => reject(signal.reason);
    timer = setTimeout(() => reject(new Error(`not there after ${timeout} ms`)), timeout);
  });
  signal.addEventListener("abort", stop);
  try {
    const token = tokenOf(await Promise.race([given(), ended]));
    if (token === undefined) throw new TypeError("what the function made is none");
    return token;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
  }
}

/** The user that a token names, undefined where it cannot be read. The edge checks it, not we. */
export function subjectOf(token) {
  try {
    const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(payload), (c) => c.charCodeAt(0)))).sub;
  } catch {
    return undefined;
  }
}
