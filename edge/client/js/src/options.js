// What a [Reprise] is made from.

import { isStamp } from "./hlc.js";
import { memoryStore } from "./store.js";
import { tokenOf } from "./token.js";

/** Fills in what is missing, and throws a TypeError that names everything that is wrong. */
export function withDefaults(options) {
  const o = {
    url: undefined,
    token: undefined,
    userId: undefined,
    deviceId: undefined,
    since: undefined,
    echo: false,
    coalesce: false,
    snapshot: false,
    store: memoryStore(),
    connect: true,
    queueLimit: 1000,
    sendRate: 15,
    sendBurst: 100,
    minBackoff: 500,
    maxBackoff: 20_000,
    dialTimeout: 15_000,
    pingInterval: 25_000,
    pingTimeout: 10_000,
    ackInterval: 30_000,
    saveInterval: 250,
    WebSocket: globalThis.WebSocket,
    fetch: globalThis.fetch?.bind(globalThis),
    ...defined(options),
  };
  // A snapshot is some seconds behind the log: what this device did since comes only with echo.
  if (o.snapshot) o.echo = true;
  const wrong = [];
  if (o.token !== undefined && typeof o.token !== "function") {
    o.token = tokenOf(o.token) ?? null;
    if (o.token === null) wrong.push('token is none: a JWT is made of letters, digits, "-", "_" and "."');
  }
  o.url = edgeURL(o.url, wrong);
  if (typeof o.WebSocket !== "function") wrong.push("there is no WebSocket here: pass a class as WebSocket");
  for (const name of ["userId", "deviceId"]) {
    if (o[name] !== undefined && !/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(o[name])) wrong.push(`${name} "${o[name]}" is no lower-case UUID`);
  }
  if (o.deviceId === undefined && o.token === undefined) wrong.push("deviceId is missing");
  if (o.userId === undefined && o.token === undefined) wrong.push("neither a token nor a userId is given");
  if (o.since !== undefined && o.since !== "earliest" && o.since !== "latest" && !isStamp(o.since)) {
    wrong.push(`since "${o.since}" is neither a cursor of 16 lower-case hex digits nor earliest nor latest`);
  }
  if (!(o.minBackoff >= 0 && o.maxBackoff >= o.minBackoff)) wrong.push(`a backoff from ${o.minBackoff} to ${o.maxBackoff} is no range`);
  for (const name of ["queueLimit", "sendRate", "sendBurst", "dialTimeout", "pingInterval", "pingTimeout", "ackInterval"]) {
    if (!(o[name] > 0)) wrong.push(`${name} is ${o[name]}, not a number above 0`);
  }
  if (wrong.length > 0) throw new TypeError(`reprise: ${wrong.join("; ")}`);
  return o;
}

/** The edge's address: ws, wss, http or https, relative to the page where there is one; without a path /ws. */
function edgeURL(text, wrong) {
  let url;
  try {
    url = new URL(text ?? "/ws", globalThis.location?.href);
  } catch {
    wrong.push(text === undefined ? "url is missing" : "url is not a URL");
    return undefined;
  }
  if (!["ws:", "wss:", "http:", "https:"].includes(url.protocol)) wrong.push(`url: scheme ${url.protocol} is none of ws, wss, http, https`);
  url.protocol = url.protocol.replace(/^http/, "ws");
  if (url.pathname === "/") url.pathname = "/ws";
  url.hash = "";
  return url.href;
}

/** The members that are not undefined, which would hide a default. */
export function defined(object) {
  return Object.fromEntries(Object.entries(object ?? {}).filter(([, value]) => value !== undefined));
}
