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

/** Asks this listener for JSON; an answer that is an error is thrown with its message. */
export async function ask(path, { token, ...options } = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(path, { cache: "no-store", headers, ...options });
  const body = await answer.json().catch(() => ({}));
  if (answer.ok || path === "/readyz") return body;
  throw Object.assign(new Error(body.error?.message ?? `status ${answer.status}`), { status: answer.status });
}

/** Seconds as a position: 1:02:03. */
export function clock(seconds) {
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return h > 0 ? `${h}:${pad(m)}:${pad(s)}` : `${m}:${pad(s)}`;
}
const pad = (n) => String(n).padStart(2, "0");
