// Why an edge refused a connection. A WebSocket keeps the answer to itself, so
// the same address is asked once more as a plain GET, which an edge answers with
// what it would say to the WebSocket.

/**
 * Asks, and answers `{status, code, message, retryAfterMs}`, without code where
 * something else than an edge answered, such as a proxy; or undefined when
 * nothing can be learned: no fetch, no network, an edge of another origin that
 * does not let us read, or one that has nothing against us any more.
 */
export async function askWhy(url, token, { fetch, timeout, signal }) {
  if (typeof fetch !== "function") return undefined;
  let response;
  let body = "";
  try {
    response = await fetch(url.replace(/^ws/, "http"), {
      headers: token === undefined ? {} : { Authorization: `Bearer ${token}` },
      signal: AbortSignal.any([signal, AbortSignal.timeout(timeout)]),
      cache: "no-store",
      redirect: "manual",
    });
    body = await response.text();
  } catch {
    return undefined;
  }
  if (response.status === 426 || response.status < 400) return undefined;
  return { status: response.status, retryAfterMs: retryAfter(response.headers.get("Retry-After")), ...errorOf(body) };
}

function errorOf(body) {
  try {
    const { code, message } = JSON.parse(body).error;
    return typeof code === "string" && code !== "" ? { code, message } : {};
  } catch {
    return {};
  }
}

/** Reads the header of that name: seconds or a date (RFC 9110, section 10.2.3). */
function retryAfter(value) {
  if (value === null) return undefined;
  if (/^\d+$/.test(value)) return Number(value) * 1000;
  const at = Date.parse(value);
  return Number.isNaN(at) ? undefined : Math.max(0, at - Date.now());
}
