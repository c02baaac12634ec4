// What a device does where there is no edge, or something else answers.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import http from "node:http";
import { test } from "node:test";
import { memoryStore, Reprise, stamp, UserState } from "../src/index.js";

const userId = "5f0c1f0e-8a52-4a53-9d3b-5e8a4c1f7d10";
const deviceId = "0b6d5c1e-4c0e-4f0a-9f57-3f6f0c0b7a11";
const film = "c0ffee00-8a52-4a53-9d3b-5e8a4c1f7d10";
const nowhere = "ws://127.0.0.1:1/ws";

/** A device, closed when the test ends. */
function device(t, options) {
  const self = new Reprise({ url: nowhere, userId, deviceId, minBackoff: 5, maxBackoff: 10, ...options });
  t.after(() => self.close());
  return self;
}

const next = (self, type) => new Promise((resolve) => self.once(type, resolve));
const jwt = (sub) => ["{}", JSON.stringify({ sub }), "signature"].map(btoa).join(".").replaceAll("=", "");

/** A server that answers everything with a status and a body. */
async function server(t, status, body) {
  const self = http.createServer((_, response) => response.writeHead(status).end(body)).listen(0, "127.0.0.1");
  await once(self, "listening");
  t.after(() => self.close());
  return `ws://127.0.0.1:${self.address().port}/ws`;
}

test("a connection that cannot be made is given up at once", { timeout: 10_000 }, async (t) => {
  for (const url of [nowhere, await server(t, 404, "")]) {
    const { opened, code } = await next(device(t, { url, dialTimeout: 60_000 }), "disconnected");
    assert.deepEqual([opened, code], [false, 1006]);
  }
});

test("a refusal ends the client only if it is an edge's", { timeout: 30_000 }, async (t) => {
  for (const body of ["default backend - 404", '{"error":"not found"}', '{"error":{"code":404}}', '{"error":{"code":""}}', ""]) {
    const self = device(t, { url: await server(t, 404, body), dialTimeout: 1000 });
    for (let i = 0; i < 2; i++) {
      const { refusal } = await next(self, "disconnected");
      assert.deepEqual([refusal.status, refusal.code], [404, undefined], body);
    }
  }
  const self = device(t, { url: await server(t, 403, '{"error":{"code":"user","message":"no UUID"}}'), dialTimeout: 1000 });
  const { refusal } = await next(self, "closed");
  assert.deepEqual([refusal.status, refusal.code], [403, "user"]);
});

test("what is sent while there is no token is kept", async (t) => {
  const store = memoryStore();
  const token = () => Promise.reject(new Error("offline"));
  const self = device(t, { token, store });
  const { code, reason } = await next(self, "disconnected");
  assert.deepEqual([code, reason], [1006, "token: offline"]);
  self.add(film, "tag");
  await self.flush(); // as on pagehide, and the page dies
  const again = device(t, { token, store });
  await next(again, "disconnected");
  assert.deepEqual([again.userId, again.pending.map((u) => u.unique_tag)], [userId, ["tag"]]);
});

test("without a user it is in memory until a token names one", async (t) => {
  const store = memoryStore();
  const tokens = ["", jwt(userId)];
  const self = device(t, { userId: undefined, token: () => tokens.shift() ?? jwt(userId), store });
  self.add(film, "tag");
  await next(self, "disconnected");
  assert.equal(self.userId, undefined);
  while (self.userId === undefined) await next(self, "disconnected");
  await self.flush();
  assert.match(store.get(`reprise:${userId}:${deviceId}:outbox`), /"unique_tag":"tag"/);
});

test("what was queued before the first connection is kept", async (t) => {
  const store = memoryStore();
  const self = device(t, { store, connect: false });
  const kept = assert.rejects(self.add(film, "tag"), { code: "closed" });
  await self.close();
  await kept;
  const again = device(t, { store });
  await next(again, "disconnected");
  assert.deepEqual(again.pending.map((u) => u.unique_tag), ["tag"]);
});

test("a token function that is not done in time is a failed attempt", { timeout: 10_000 }, async (t) => {
  const self = device(t, { token: () => new Promise(() => {}), dialTimeout: 50 });
  for (let i = 0; i < 2; i++) assert.equal((await next(self, "disconnected")).reason, "token: not there after 50 ms");
});

test("close waits for no token", { timeout: 10_000 }, async (t) => {
  let asked;
  const asking = new Promise((resolve) => (asked = resolve));
  const self = device(t, { token: () => (asked(), new Promise(() => {})), dialTimeout: 60_000 });
  await asking;
  await self.close();
  assert.equal(self.state, "closed");
});

test("what is no token is a failed attempt", async (t) => {
  for (const [answer, reason] of [
    ["<html>Bad Gateway</html>", /^token: what the function made is none/],
    [undefined, /^token: what the function made is none/],
    ["offline", /^token: it names no user/],
  ]) {
    const self = device(t, { userId: undefined, token: () => answer });
    for (let i = 0; i < 2; i++) assert.match((await next(self, "disconnected")).reason, reason);
  }
});

/** A WebSocket that notes how it was made, and fails as it is told. */
function socketThat(fails) {
  return class extends EventTarget {
    static made = [];
    constructor(url, protocols) {
      super();
      this.constructor.made.push({ query: new URL(url).searchParams, protocols });
      if (fails) throw new SyntaxError("not so");
      setTimeout(() => this.dispatchEvent(Object.assign(new Event("close"), { code: 1006, reason: "" })));
    }
    close() {}
  };
}

test("white space around a token is left out", async (t) => {
  for (const token of [` ${jwt(userId)}\n`, () => `${jwt(userId)}\r\n`]) {
    const WebSocket = socketThat(false);
    await next(device(t, { token, WebSocket, fetch: undefined }), "disconnected");
    assert.deepEqual(WebSocket.made[0].protocols, ["reprise.v1", `bearer.${jwt(userId)}`]);
  }
});

test("what a WebSocket's constructor throws ends the client, and leaves no timer", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const self = device(t, { WebSocket: socketThat(true), dialTimeout: 1000 });
  const { code, reason } = await next(self, "closed");
  assert.deepEqual([code, reason], [1006, "not so"]);
  t.mock.timers.tick(1000); // a timer would throw
});

test("a snapshot implies echo", async (t) => {
  for (const [options, echo] of [[{ snapshot: true }, "1"], [{ snapshot: true, echo: false }, "1"], [{ echo: true }, "1"], [{}, null]]) {
    const WebSocket = socketThat(false);
    await next(device(t, { ...options, WebSocket }), "disconnected");
    assert.equal(WebSocket.made[0].query.get("echo"), echo, JSON.stringify(options));
  }
});

test("what a page sends is newer than what it shows, from page to page", async (t) => {
  const shownAfter = async (kept, { cursor, queue } = {}) => {
    const store = memoryStore();
    if (cursor) store.set(`reprise:${userId}:${deviceId}:cursor`, cursor);
    if (queue) store.set(`reprise:${userId}:${deviceId}:outbox`, JSON.stringify(queue));
    const self = device(t, { store, minBackoff: 60_000, maxBackoff: 60_000 });
    const state = UserState.from(JSON.parse(JSON.stringify(kept)));
    self.follow(state);
    self.on("update", (u) => state.apply(u));
    await next(self, "disconnected");
    for (const u of self.pending) state.apply({ ...u, device_id: deviceId });
    self.progress(film, 1);
    return state.positions.get(film).value.position;
  };
  const hourAhead = stamp(Date.now() + 3_600_000, 7);
  const secondsAhead = stamp(Date.now() + 30_000, 7);
  const shows = (timestamp, device_id) => ({ progress: [{ content_id: film, position: 2, timestamp, device_id }] });
  const update = { id: "1", type: "progress_update", content_id: film, position_seconds: 2, timestamp: hourAhead };
  const other = "zz";
  for (const [name, kept, store, want] of [
    ["another device's clock is ahead", shows(secondsAhead, other), {}, 1],
    ["the wall clock was put back: its own position", shows(hourAhead, deviceId), {}, 1],
    ["the wall clock was put back: the cursor", shows(stamp(Date.now() + 3_630_000), other), { cursor: hourAhead }, 1],
    ["the wall clock was put back: the queue", {}, { queue: [update] }, 1],
    ["another device's clock is wrong", shows(hourAhead, other), {}, 2],
  ]) {
    assert.equal(await shownAfter(kept, store), want, name);
  }
});

test("a token of another user ends it, also where the user was given", async (t) => {
  const self = device(t, { token: jwt("11111111-1111-4111-8111-111111111111") });
  assert.match((await next(self, "closed")).reason, /another user's/);
});

test("closed is for good", async (t) => {
  for (const connect of [true, false]) {
    const self = device(t, { connect });
    self.on("state", (state) => assert.equal(state, "closed"));
    await self.close();
    self.connect();
    await new Promise(setImmediate);
    assert.equal(self.state, "closed");
    await assert.rejects(self.add(film), { code: "closed" });
  }
});

test("an update has an id, whatever the app says", async (t) => {
  const self = device(t, { connect: false });
  const update = { type: "progress_update", content_id: film, position_seconds: 1 };
  self.send({ ...update, id: undefined, timestamp: undefined });
  const [{ id, timestamp }] = self.pending;
  assert.match(`${id} ${timestamp}`, /^[0-9a-f-]{36} [0-9a-f]{16}$/);
  for (const id of ["", "x".repeat(129), 7, null, {}]) {
    await assert.rejects(self.send({ ...update, id }), (e) => e.code === "bad_id" && e.update.content_id === film, String(id));
  }
  for (const id of ["x", "\u{1f4fa}".repeat(128)]) self.send({ ...update, content_id: id, id });
  assert.equal(self.pending.length, 3);
});

test("what the event update tells is state", (t) => {
  const self = device(t, { connect: false });
  const state = new UserState();
  const applied = [];
  self.on("update", (u) => applied.push(state.apply(u)));
  self.add(film, "tag");
  self.progress(film, 100, 7200);
  self.command(deviceId, "pause");
  self.handoff(deviceId, film, 100);
  assert.deepEqual(applied, [true, true, false, false]);
  assert.deepEqual(state.watchlist.tags(film), ["tag"]);
  const { value, timestamp, deviceId: by } = state.positions.get(film);
  assert.deepEqual([value, timestamp, by], [{ position: 100, duration: 7200 }, self.pending[1].timestamp, deviceId]);
  self.remove(film, "tag");
  assert.deepEqual(state.watchlist.values(), []);
});

test("the package links to nothing outside of it", () => {
  assert.doesNotMatch(readFileSync(new URL("../README.md", import.meta.url), "utf8"), /\]\(\.\.\//);
});
