// Small help with the page.

/** The element of an id. */
export const byId = (id) => document.getElementById(id);

/** A copy of a template's content. */
export const copyOf = (id) => byId(id).content.cloneNode(true);

/** A new element with a class and a text. */
export function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.textContent = text;
  return element;
}

/** Says something in the page's notice; "" takes it away. */
export function notice(text) {
  const element = byId("notice");
  element.textContent = text;
  element.hidden = text === "";
}

/**
 * Asks this listener for JSON. An answer that is an error is thrown with its message and
 * status, no answer with the status 0.
 */
export async function ask(path, { token, ...options } = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(path, { cache: "no-store", headers, ...options }).catch((cause) => {
    throw Object.assign(new Error("no answer", { cause }), { status: 0 });
  });
  const body = await answer.json().catch(() => undefined);
  if (answer.ok || body?.ready !== undefined) return body; // a node that is not ready says so with an error's status
  throw Object.assign(new Error(body?.error?.message ?? `status ${answer.status}`), { status: answer.status });
}

/** What became of a question, in words; hint is for no answer. */
export function unanswered({ status, message }, hint) {
  return status === 0 ? `The relay does not answer. ${hint}` : `The relay answers: ${message}.`;
}

/** How many there are: 1 event, 2 events. */
export const count = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;

/** Seconds as a position: 1:02:03. */
export function clock(seconds) {
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return h > 0 ? `${h}:${pad(m)}:${pad(s)}` : `${m}:${pad(s)}`;
}
const pad = (n) => String(n).padStart(2, "0");
