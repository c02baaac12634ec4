import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import WebSocketOfWs from "ws";
import { memoryStore, Reprise, UserState } from "../src/index.js";
import { Link, Relay, token } from "./relay.js";

let relay;
before(async () => (relay = await Relay.start()));
after(() => relay.kill());

/** A device that notes what it is told. It is closed when the test ends, and has complained of nothing that was not taken from its errors. */
function device(t, options) {
  const self = new Reprise({ url: relay.url, deviceId: randomUUID(), minBackoff: 20, maxBackoff: 200, ...options });
  self.events = [];
  self.on("event", (e) => void self.events.push(e));
  self.errors = [];
  self.on("error", (error) => void self.errors.push(error.message));
  t.after(async () => {
    await self.close();
    assert.deepEqual(self.errors, []);
  });
  return self;
}

/** The next event of a type that is as wanted. */
function next(self, type, wanted = () => true) {
  return new Promise((resolve) => {
    const off = self.on(type, (detail) => {
      if (!wanted(detail)) return;
      off();
      resolve(detail);
    });
  });
}

/** Ends when something holds that may change with each event of a type. */
async function until(self, type, holds) {
  while (!holds()) await next(self, type);
}

const notify = (on, user, n) => on.publish(`user.${user}.notifications`, { n });
const numbers = (self) => self.events.map((e) => e.data.n);
const upTo = (n) => Array.from({ length: n }, (_, i) => i);

test("what was missed comes on resuming, in order and once", async (t) => {
  const userId = randomUUID();
  const self = device(t, { userId });
  const first = await next(self, "resumed");
  assert.deepEqual([first.complete, first.replayed], [true, 0]);
  await notify(relay, userId, 0);
  while (self.events.length < 1) await next(self, "event");
  for (const round of [1, 2]) {
    const gone = next(self, "disconnected");
    const back = next(self, "resumed");
    self.cut();
    const { code, retryInMs } = await gone;
    assert.equal(code, 1006);
    assert.ok(retryInMs >= 20 && retryInMs <= 200);
    for (let n = self.events.length; n < 10 * round; n++) await notify(relay, userId, n);
    const { complete } = await back;
    assert.equal(complete, true);
    while (self.events.length < 10 * round) await next(self, "event");
  }
  assert.deepEqual(numbers(self), upTo(20));
  const stamps = self.events.map((e) => e.hlc);
  assert.deepEqual(stamps, [...new Set(stamps)].sort());
  assert.ok(self.cursor >= stamps.at(-1));
});

test("a new page goes on where the old one was, with the class of ws", async (t) => {
  const options = { userId: randomUUID(), deviceId: randomUUID(), store: memoryStore(), WebSocket: WebSocketOfWs };
  const old = device(t, options);
  await next(old, "resumed");
  await notify(relay, options.userId, 0);
  while (old.events.length < 1) await next(old, "event");
  await old.close();
  assert.equal(old.state, "closed");
  await notify(relay, options.userId, 1);
  await notify(relay, options.userId, 2);
  const fresh = device(t, options);
  while (fresh.events.length < 2) await next(fresh, "event");
  assert.deepEqual(numbers(fresh), [1, 2]);
});

test("the cursor is not kept before a listener's promise has ended", async (t) => {
  const options = { userId: randomUUID(), deviceId: randomUUID(), store: memoryStore() };
  const self = device(t, options);
  await next(self, "resumed");
  let finish;
  self.on("notification", () => new Promise((resolve) => (finish = resolve)));
  await notify(relay, options.userId, 0);
  while (self.events.length < 1) await next(self, "event");
  const [{ hlc }] = self.events;
  await self.flush();
  const kept = () => options.store.get(`reprise:${options.userId}:${options.deviceId}:cursor`);
  assert.ok(kept() < hlc, `${kept()} is kept before ${hlc} is dealt with`);
  finish();
  await self.close();
  assert.ok(kept() >= hlc);
});

test("a relay that is killed and comes back costs nothing", async (t) => {
  const own = await Relay.start();
  t.after(() => own.kill());
  const userId = randomUUID();
  const self = device(t, { url: own.url, userId });
  await next(self, "resumed");
  await notify(own, userId, 0);
  while (self.events.length < 1) await next(self, "event");
  const back = next(self, "resumed");
  await own.kill();
  await own.run();
  await back;
  await notify(own, userId, 1);
  while (self.events.length < 2) await next(self, "event");
  assert.deepEqual(numbers(self), [0, 1]);
});

test("a cursor that the relay does not know is given up", async (t) => {
  const userId = randomUUID();
  await notify(relay, userId, 0);
  const self = device(t, { userId, since: "ffff000000000000" });
  const { complete, reason, hlc } = await next(self, "resumed");
  assert.deepEqual([complete, reason], [false, "future_cursor"]);
  while (self.events.length < 1) await next(self, "event");
  assert.ok(hlc < "ffff" && self.cursor < "ffff");
  const back = next(self, "resumed");
  self.cut();
  assert.deepEqual([(await back).complete, numbers(self)], [true, [0]]);
});

test("a replay that is cut is incomplete when its beginning was", async (t) => {
  const options = { userId: randomUUID(), deviceId: randomUUID(), store: memoryStore(), saveInterval: 1 };
  for (const n of upTo(5)) await notify(relay, options.userId, n);
  const kept = () => options.store.get(`reprise:${options.userId}:${options.deviceId}:cursor`);
  const unknown = "ffff000000000000";
  options.store.set(`reprise:${options.userId}:${options.deviceId}:cursor`, unknown);

  // A page that dies meanwhile leaves it to the next one.
  const first = device(t, options);
  await new Promise((closed) => first.once("event", () => closed(first.close())));
  assert.equal(kept(), unknown);

  let finish;
  t.after(() => finish?.());
  const self = device(t, options);
  self.once("welcome", () => self.cut());
  const cutAt = self.on("event", () => self.events.length === 2 && self.cut());
  const welcomes = [];
  self.on("welcome", ({ resume }) => void welcomes.push(resume.complete));
  self.once("resumed", () => new Promise((resolve) => (finish = resolve)));
  const { complete, reason, since, replayed } = await next(self, "resumed");
  cutAt();
  assert.deepEqual(welcomes, [false, true, true]);
  assert.deepEqual([complete, reason, since, replayed], [false, "future_cursor", "0000000000000000", 5]);
  assert.deepEqual(numbers(self), upTo(5));
  await self.flush();
  assert.equal(kept(), unknown, "until the listeners of resumed have ended");
  finish();
  await new Promise(setImmediate);
  await self.flush();
  assert.equal(kept(), self.cursor);

  const back = next(self, "resumed");
  self.cut();
  const again = await back;
  assert.deepEqual([again.complete, again.reason, again.replayed], [true, undefined, 0]);
});

test("updates reach the user's other device, and are the same state there", async (t) => {
  const userId = randomUUID();
  const phone = device(t, { userId });
  const tv = device(t, { userId });
  await Promise.all([next(phone, "resumed"), next(tv, "resumed")]);
  const there = new UserState();
  tv.on("event", (e) => there.apply(e));
  const film = randomUUID();
  await phone.add(film, "tag");
  await phone.progress(film, 100, 7200);
  await phone.command(randomUUID(), "pause", { fade: 1.5 });
  await phone.handoff(randomUUID(), film, 101);
  while (tv.events.length < 4) await next(tv, "event");
  assert.deepEqual(there.watchlist.values(), [film]);
  assert.deepEqual(there.positions.get(film).value, { position: 100, duration: 7200 });
  const [, , pause, handoff] = tv.events;
  assert.deepEqual([pause.command, pause.payload], ["pause", { fade: 1.5 }]);
  assert.deepEqual([handoff.command, handoff.payload], [`handoff:${film}`, { position_seconds: 101 }]);
  assert.deepEqual([phone.pending, phone.events], [[], []], "a device does not hear itself");
});

test("updates wait while there is no relay, also from page to page", async (t) => {
  const own = await Relay.start();
  t.after(() => own.kill());
  const options = { url: own.url, userId: randomUUID(), deviceId: randomUUID(), store: memoryStore() };
  const phone = device(t, options);
  await next(phone, "resumed");
  await own.kill();
  const film = randomUUID();
  for (let n = 0; n < 5; n++) phone.add(film, `tag ${n}`);
  const lost = assert.rejects(phone.progress(film, 100), { code: "closed" });
  await phone.close();
  await lost;
  await own.run();
  const tv = device(t, { ...options, deviceId: randomUUID(), store: memoryStore(), since: "earliest" });
  const again = device(t, options);
  while (tv.events.length < 6) await next(tv, "event");
  assert.deepEqual(tv.events.map((e) => e.unique_tag ?? e.position), ["tag 0", "tag 1", "tag 2", "tag 3", "tag 4", 100]);
  assert.deepEqual(again.pending, []);
});

test("an update that is wrong comes back with the reason", async (t) => {
  const self = device(t, { userId: randomUUID() });
  await assert.rejects(self.progress("no-uuid", 1), (error) => error.code === "bad_field" && error.update.content_id === "no-uuid");
  const told = next(self, "rejected");
  self.send({ type: "unheard_of" });
  assert.equal((await told).code, "unknown_type");
  const cycle = { type: "device_command" };
  cycle.payload = cycle;
  await assert.rejects(self.send(cycle), { code: "not_json" });
});

test("an update that is too large is given up, and holds up no other", async (t) => {
  const self = device(t, { userId: randomUUID(), minBackoff: 1, maxBackoff: 2 });
  await next(self, "resumed");
  const rejected = [];
  self.on("rejected", ({ code, update }) => void rejected.push([code, update.command_type]));
  const film = randomUUID();
  const large = ["a", "b"].map((type) => assert.rejects(self.command(randomUUID(), type, { text: "x".repeat(40_000) }), { code: "too_large" }));
  await Promise.all([self.add(film, "tag"), self.progress(film, 100), ...large]);
  assert.deepEqual(rejected.sort(), [["too_large", "a"], ["too_large", "b"]]);
  assert.deepEqual(self.pending, []);
});

test("what is made after seeing another device's is newer, whatever clock and form that has", async (t) => {
  const userId = randomUUID();
  const film = randomUUID();
  const states = [{}, { deviceId: randomUUID() }].map((options) => {
    const self = device(t, { userId, ...options });
    const state = new UserState();
    for (const type of ["update", "event"]) self.on(type, (e) => state.apply(e));
    return { self, state, position: () => state.positions.get(film)?.value.position };
  });
  await Promise.all(states.map(({ self }) => next(self, "resumed")));
  const ahead = Date.now() + 30_000;
  await relay.publish(`user.${userId}.sync`, { type: "progress_update", content_id: film, position_seconds: 1, timestamp: ahead, device_id: "zz" });
  for (const { self, position } of states) await until(self, "event", () => position() === 1);
  await states[0].self.progress(film, 2);
  assert.equal(states[0].position(), 2);
  await until(states[1].self, "event", () => states[1].self.events.length === 2);
  assert.equal(states[1].position(), 2);
});

test("what a snapshot has seen is older than what is made after it", async (t) => {
  const own = await Relay.start();
  t.after(() => own.kill());
  const userId = randomUUID();
  const film = randomUUID();
  const timestamp = String(Date.now() + 30_000);
  await own.publish(`user.${userId}.sync`, { type: "progress_update", content_id: film, position_seconds: 1, timestamp, device_id: "zz" });
  // The state is folded a little later.
  let snapshot;
  let self;
  while (!snapshot?.progress.length) {
    await self?.close();
    self = device(t, { url: own.url, userId, since: "earliest", snapshot: true });
    self.on("snapshot", (s) => (snapshot = s));
    await next(self, "resumed");
  }
  assert.deepEqual(self.events, []);
  self.progress(film, 2).catch(() => {});
  const state = new UserState();
  for (const e of [snapshot, ...self.pending]) state.apply(e);
  assert.equal(state.positions.get(film).value.position, 2);
});

test("a page that begins with a snapshot has what its device did last", async (t) => {
  const options = { userId: randomUUID(), deviceId: randomUUID(), since: "earliest", snapshot: true };
  const film = randomUUID();
  const tv = device(t, { userId: options.userId, echo: true });
  const phone = device(t, options);
  await Promise.all([next(tv, "resumed"), next(phone, "resumed")]);
  phone.progress(film, 100);
  await until(tv, "event", () => tv.events.length === 1); // it is in the log
  await phone.close();
  const now = Date.now;
  t.mock.method(Date, "now", () => now() - 3_600_000); // the wall clock is put back
  const again = device(t, options);
  const state = new UserState();
  for (const type of ["snapshot", "event", "update"]) again.on(type, (e) => state.apply(e));
  await next(again, "resumed");
  assert.deepEqual(state.positions.get(film)?.value, { position: 100 });
  again.progress(film, 2).catch(() => {});
  assert.deepEqual(state.positions.get(film).value, { position: 2 }, "what is made now is newer");
});

for (const [name, path] of [["the package's README", "../README.md"], ["the repository's README", "../../../../README.md"]]) {
  test(`what ${name} begins with has its own changes, also when it is loaded again`, async (t) => {
    const text = readFileSync(new URL(path, import.meta.url), "utf8");
    const [code] = text.match(/(?<=```js\nimport [^\n]*\n)[^]*?(?=```)/);
    const userId = randomUUID();
    const [film, contentId] = [randomUUID(), randomUUID()];
    const errors = [];
    class Here extends Reprise {
      constructor(options) {
        super({ ...options, url: relay.url, token: undefined, userId });
        this.on("error", (error) => void errors.push(error.message));
        t.after(() => this.close());
      }
    }
    const deviceId = randomUUID();
    const around = { sessionStorage: { deviceId }, contentId, player: {}, render() {}, refetch: assert.fail, console: { log() {} } };
    if (!code.includes("const deviceId")) around.deviceId = deviceId;
    const AsyncFunction = (async () => {}).constructor;
    const page = () => new AsyncFunction("Reprise", "UserState", ...Object.keys(around), `${code}; return { relay, state };`)(Here, UserState, ...Object.values(around));

    const first = await page();
    const added = first.relay.add(film, "tag");
    assert.deepEqual(first.state.watchlist.values(), [film], "at once");
    await added;
    await first.relay.close();

    const second = await page();
    await until(second.relay, "frame", () => second.state.watchlist.has(film) && second.state.positions.size === 1);
    assert.deepEqual([...second.state.positions.values()].map((r) => r.value), [{ position: 1234, duration: 7200 }]);
    assert.deepEqual(errors, []);
  });
}

test("a dead link is noticed, and left", async (t) => {
  const link = await Link.to(relay.addresses.devices);
  t.after(() => link.close());
  const userId = randomUUID();
  const self = device(t, { url: `ws://${link.address}`, userId, pingInterval: 200, pingTimeout: 200 });
  await next(self, "resumed");
  const gone = next(self, "disconnected");
  const back = next(self, "resumed");
  link.die();
  const { code, reason } = await gone;
  assert.deepEqual([code, reason], [1006, "no sign of life"]);
  await notify(relay, userId, 0);
  await back;
  while (self.events.length < 1) await next(self, "event");
});

test("a quiet link that lives is kept", async (t) => {
  const self = device(t, { userId: randomUUID(), pingInterval: 50, pingTimeout: 500 });
  await next(self, "resumed");
  self.on("disconnected", (end) => assert.fail(JSON.stringify(end)));
  let pongs = 0;
  await next(self, "frame", ({ type }) => type === "pong" && ++pongs === 5);
});

test("a drain is waited out as it asks", async (t) => {
  const own = await Relay.start("--drain", "2s");
  t.after(() => own.kill());
  const self = device(t, { url: own.url, userId: randomUUID() });
  await next(self, "resumed");
  const gone = next(self, "disconnected");
  const back = next(self, "resumed");
  await own.drain();
  const { code, afterMs, retryInMs } = await gone;
  assert.equal(code, 1012);
  assert.ok(afterMs >= 0 && retryInMs === afterMs, `after_ms ${afterMs}, again in ${retryInMs}`);
  await own.run();
  await back;
});

test("the newest connection of a device keeps its place", async (t) => {
  const options = { userId: randomUUID(), deviceId: randomUUID() };
  const first = device(t, options);
  await next(first, "resumed");
  const ended = next(first, "closed");
  await next(device(t, options), "resumed");
  assert.equal((await ended).code, 4509);
  assert.equal(first.state, "closed");
});

test("a full edge is asked again when it said", async (t) => {
  const own = await Relay.start("--max-connections", "1");
  t.after(() => own.kill());
  const first = device(t, { url: own.url, userId: randomUUID() });
  await next(first, "resumed");
  const second = device(t, { url: own.url, userId: randomUUID() });
  const { refusal, retryInMs } = await next(second, "disconnected");
  assert.deepEqual([refusal.status, refusal.code], [429, "too_many_connections"]);
  assert.ok(refusal.retryAfterMs >= 1000 && retryInMs >= refusal.retryAfterMs);
  await first.close();
  await next(second, "resumed");
});

test("a device that was away for longer than retention gets its user's state", async (t) => {
  // An edge serves what it remembers, whatever retention has done: this one forgets.
  const own = await Relay.start("--stream-max-age", "3s", "--tail-linger", "50ms");
  t.after(() => own.kill());
  const userId = randomUUID();
  const options = { url: own.url, userId, deviceId: randomUUID(), store: memoryStore() };
  const old = device(t, options);
  const { hlc: since } = await next(old, "resumed");
  await old.close();
  const [phone, tv] = [device(t, { url: own.url, userId }), device(t, { url: own.url, userId })];
  await next(tv, "resumed");
  const film = randomUUID();
  await phone.add(film, "tag");
  await phone.progress(film, 100);
  await phone.close();
  await until(tv, "event", () => tv.events.length === 2); // they are in the log
  await tv.close();
  const resume = async (more) => {
    const self = device(t, { url: own.url, userId, since, ...more });
    const snapshots = [];
    self.on("snapshot", (s) => void snapshots.push(s));
    const resumed = await next(self, "resumed");
    await self.close();
    return { ...resumed, snapshot: snapshots.at(-1), events: self.events };
  };
  while ((await resume()).events.length > 0) await new Promise((done) => setTimeout(done, 500)); // until retention has cut them
  const without = await resume();
  assert.deepEqual([without.complete, without.reason, without.snapshot], [false, "trimmed", undefined]);
  const { complete, snapshot, replayed, hlc } = await resume({ ...options, since: undefined, snapshot: true });
  assert.deepEqual([complete, replayed], [true, 0]);
  const state = new UserState();
  state.apply(snapshot);
  assert.deepEqual(state.watchlist.values(), [film]);
  assert.deepEqual(state.positions.get(film).value, { position: 100 });
  assert.ok(hlc >= snapshot.hlc);
  assert.equal((await resume({ ...options, since: undefined, snapshot: true })).snapshot, undefined, "its cursor is behind the snapshot now");
});

test("of the positions that were missed the newest is enough", async (t) => {
  const userId = randomUUID();
  const phone = device(t, { userId });
  const film = randomUUID();
  for (let n = 0; n < 20; n++) await phone.progress(film, n);
  await phone.add(film, "tag");
  const whole = device(t, { userId, since: "earliest" });
  while (whole.events.length < 21) await next(whole, "event");
  const tv = device(t, { userId, since: "earliest", coalesce: true });
  const { replayed } = await next(tv, "resumed");
  assert.deepEqual([replayed, tv.events.map((e) => e.position ?? e.action)], [2, [19, "add"]]);
});

test("tokens", async (t) => {
  const secret = "a secret of at least thirty-two bytes";
  const pubnub = await Relay.start("emulator");
  t.after(() => pubnub.kill());
  const keys = ["--pubnub-subscribe-key", "demo", "--pubnub-publish-key", "demo", "--pubnub-origin", pubnub.addresses.emulator, "--pubnub-tls=false"];
  const own = await Relay.start("serve", "--auth-hmac-secret", secret, ...keys);
  t.after(() => own.kill());
  const user = randomUUID();

  await t.test("a fresh one for each connection, and before one runs out", async (t) => {
    let asked = 0;
    const self = device(t, { url: own.url, token: async () => (asked++, token(secret, user, "--expires-in", "31s")) });
    await next(self, "resumed");
    assert.equal(self.userId, user);
    while (asked < 2) await next(self, "frame", ({ type }) => type === "token_expiring");
    const back = next(self, "resumed");
    self.cut();
    await back;
    assert.ok(asked >= 3);
  });

  await t.test("one that is not valid ends it, and says so", async (t) => {
    const self = device(t, { url: own.url, token: token("another secret of at least that many bytes", user) });
    const { refusal } = await next(self, "closed");
    assert.deepEqual([refusal.status, refusal.code], [401, "unauthorized"]);
  });

  await t.test("one that is not valid is replaced by the next", async (t) => {
    const tokens = [token("another secret of at least that many bytes", user), token(secret, user)];
    const self = device(t, { url: own.url, token: () => tokens.shift() });
    const { refusal } = await next(self, "disconnected");
    assert.equal(refusal.status, 401);
    await next(self, "resumed");
  });

  await t.test("one that is not valid at a renewal is replaced by the next", async (t) => {
    const tokens = [token(secret, user, "--expires-in", "31s"), token("another secret of at least that many bytes", user), token(secret, user)];
    const self = device(t, { url: own.url, token: () => tokens.shift() });
    const { opened, code } = await next(self, "disconnected");
    assert.deepEqual([opened, code], [true, 4501]);
    assert.match(self.errors.splice(0).join(), /^reprise: the edge answers bad_token: [^:]*$/);
    await next(self, "resumed");
  });

  await t.test("one of another user ends it", async (t) => {
    const users = [user, randomUUID()];
    const self = device(t, { url: own.url, token: () => token(secret, users.shift()) });
    await next(self, "resumed");
    const ended = next(self, "closed");
    self.cut();
    assert.match((await ended).reason, /another user's/);
  });
});
