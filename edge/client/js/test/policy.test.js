import assert from "node:assert/strict";
import { test } from "node:test";
import "fake-indexeddb/auto";
import fc from "fast-check";
import { indexedDBStore, localStore, memoryStore, Reprise, stamp, UpdateError } from "../src/index.js";
import { Backoff } from "../src/backoff.js";
import { Outbox } from "../src/outbox.js";
import { askWhy } from "../src/refusal.js";
import { Keeper } from "../src/store.js";

test("attempts spread between the bounds, ever further", () => {
  for (const [random, want] of [
    [() => 0, [500, 500, 500, 500, 500, 500, 500]],
    [() => 1, [1000, 2000, 4000, 8000, 16000, 20000, 20000]],
  ]) {
    const backoff = new Backoff({ min: 500, max: 20000, random });
    assert.deepEqual(want.map(() => backoff.wait({ code: 1006 }).wait), want);
    backoff.caughtUp();
    assert.equal(backoff.wait({ code: 1006 }).wait, want[0]);
  }
});

test("what the edge asks for is waited out", () => {
  const backoff = new Backoff({ min: 500, max: 20000, random: () => 1 });
  assert.deepEqual(backoff.wait({ code: 1012, afterMs: 0 }), { wait: 0, asked: true });
  assert.deepEqual(backoff.wait({ code: 1006, refusal: { status: 503, retryAfterMs: 3000 } }), { wait: 3500, asked: true });
  assert.deepEqual(backoff.wait({ code: 4029 }), { wait: 8000, asked: false }); // too fast: slowly
  for (const end of [{ code: 1006, refusal: { status: 401 } }, { code: 4501 }]) {
    backoff.caughtUp();
    assert.deepEqual(backoff.wait(end), { wait: 20000, asked: false }); // a fresh token did not help
  }
});

test("no edge is waited for longer than an hour", async () => {
  const backoff = new Backoff({ min: 500, max: 20000, random: () => 1 });
  const far = new Date(Date.now() + 400 * 86_400_000).toUTCString();
  for (const [value, atLeast] of [["2592000", 2_592_000_000], ["99999999999999999999", 1e22], [far, 1e10]]) {
    const answer = new Response('{"error":{"code":"draining"}}', { status: 503, headers: { "Retry-After": value } });
    const refusal = await askWhy("ws://h/ws", undefined, { fetch: async () => answer, timeout: 1000, signal: new AbortController().signal });
    assert.ok(refusal.retryAfterMs >= atLeast, `${value} is ${refusal.retryAfterMs} ms`);
    backoff.caughtUp();
    assert.deepEqual(backoff.wait({ code: 1006, refusal }), { wait: 3_600_500, asked: true }, value);
  }
  assert.deepEqual(backoff.wait({ code: 1012, afterMs: 2 ** 40 }), { wait: 3_600_000, asked: true });
});

const stores = {
  memory: () => memoryStore(),
  localStorage: () => {
    const kept = new Map();
    return localStore({ getItem: (k) => kept.get(k) ?? null, setItem: (k, v) => kept.set(k, String(v)) });
  },
  IndexedDB: () => indexedDBStore(`test-${Math.random()}`),
};
for (const [name, open] of Object.entries(stores)) {
  test(`${name} keeps`, async () => {
    const store = open();
    assert.equal((await store.get("a")) ?? null, null);
    await store.set("a", "1");
    await store.set("a", "2");
    await store.set("b", "3");
    assert.deepEqual([await store.get("a"), await store.get("b")], ["2", "3"]);
  });
}

test("of many texts the newest is kept, one write at a time", async () => {
  const writes = [];
  let underWay = 0;
  const store = {
    ...memoryStore(),
    async set(key, text) {
      assert.equal(++underWay, 1);
      await new Promise(setImmediate);
      underWay--;
      writes.push(text);
    },
  };
  const keeper = new Keeper(store, "k", { report: assert.fail });
  for (let i = 0; i < 100; i++) keeper.save(String(i));
  await keeper.flush();
  assert.deepEqual(writes, ["0", "99"]);
});

test("a store that fails is reported, and asked again", async () => {
  const reports = [];
  const memory = memoryStore();
  let broken = true;
  const store = { ...memory, set: (key, text) => (broken ? Promise.reject(new Error("full")) : memory.set(key, text)) };
  const keeper = new Keeper(store, "k", { report: (e) => reports.push(e.message) });
  keeper.save("1");
  await keeper.flush();
  broken = false;
  keeper.save("2");
  await keeper.flush();
  assert.deepEqual([reports, memory.get("k")], [["full"], "2"]);
});

const position = (id, content_id = id) => ({ id, type: "progress_update", content_id, position_seconds: 1 });
const outbox = (options = {}) => new Outbox({ limit: 1000, rate: 1e9, burst: 1e9, backoff: { min: 500, max: 20000 }, ...options });

test("the queue is bounded, and newer positions replace those that wait", async () => {
  const box = outbox({ limit: 2 });
  const first = box.add(position("1", "film"));
  box.add(position("2", "other")).catch(() => {});
  await assert.rejects(box.add(position("3", "third")), { code: "queue_full" });
  box.add(position("4", "film")).catch(() => {});
  assert.deepEqual(await first, { id: "1", supersededBy: "4" });
  assert.deepEqual(box.pending.map(({ id }) => id), ["2", "4"]);
});

test("a position that is under way is not replaced", () => {
  const box = outbox();
  box.add(position("1", "film")).catch(() => {});
  box.pump(() => {});
  box.add(position("2", "film")).catch(() => {});
  assert.deepEqual(box.pending.map(({ id }) => id), ["1", "2"]);
});

test("an older position takes the place of no newer one", async () => {
  const at = (id, timestamp, position_seconds = 1) => ({ ...position(id, "film"), timestamp, position_seconds });
  const box = outbox();
  const first = box.add(at("1", "1795437339531"));
  assert.deepEqual(await box.add(at("2", "1795437339530")), { id: "2", supersededBy: "1" });
  assert.deepEqual(await box.add(at("3", stamp(1795437339530, 7))), { id: "3", supersededBy: "1" }, "in whatever form");
  assert.deepEqual(box.pending.map(({ id }) => id), ["1"]);
  box.add(at("4", "1795437339531", 2)).catch(() => {}); // a tie, which the value decides
  assert.deepEqual(await first, { id: "1", supersededBy: "4" });
  assert.deepEqual(await box.add(at("5", "1795437339531", 1)), { id: "5", supersededBy: "4" });
  assert.deepEqual(box.pending.map(({ id }) => id), ["4"]);
});

test("refusals", async () => {
  const box = outbox();
  const lasting = box.add(position("1"));
  box.add(position("2")).catch(() => {});
  box.pump(() => {});
  assert.equal(box.refused("2", "outbox_full", "later", true), undefined);
  const error = box.refused("1", "bad_field", "position_seconds: …", false);
  assert.ok(error instanceof UpdateError);
  await assert.rejects(lasting, { code: "bad_field", update: position("1") });
  assert.deepEqual(box.pending.map(({ id }) => id), ["2"]);
  const sent = [];
  const next = box.pump((text) => sent.push(text));
  assert.ok(sent.length === 0 && next > 0 && next <= 1000, `again in ${next} ms`);
});

test("what is refused for the moment waits as connections do", () => {
  const box = outbox({ backoff: { min: 10, max: 20 } });
  box.add(position("1")).catch(() => {});
  for (let i = 0; i < 10; i++) {
    box.refused("1", "outbox_full", "later", true);
    const next = box.pump(assert.fail);
    assert.ok(next > 0 && next <= 20, `again in ${next} ms`);
  }
});

test("of what is under way the largest is too large", async () => {
  const box = outbox();
  const text = (id, text) => box.add({ id, type: "device_command", payload: { text } });
  text("long", "x".repeat(100)).catch(() => {});
  const longer = text("longer", "\u{1f4fa}".repeat(40)); // in bytes, not in characters
  box.pump(() => {});
  text("waits", "x".repeat(1000)).catch(() => {});
  assert.equal(box.tooLarge().code, "too_large");
  await assert.rejects(longer, ({ code, update }) => code === "too_large" && update.id === "longer");
  assert.deepEqual(box.pending.map(({ id }) => id), ["long", "waits"]);
  box.disconnected();
  assert.equal(box.tooLarge(), undefined);
});

test("a wall clock that is put back holds up nothing", async (t) => {
  const box = outbox({ rate: 100, burst: 1 });
  for (const id of ["1", "2"]) box.add(position(id)).catch(() => {});
  let written = 0;
  const keeper = new Keeper({ ...memoryStore(), set: () => void written++ }, "k", { interval: 100, report: assert.fail });
  keeper.save("1");
  box.pump(() => {});
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const now = Date.now();
  t.mock.method(Date, "now", () => now - 3_600_000);
  keeper.save("2");
  t.mock.timers.tick(100);
  assert.equal(written, 2);
  const next = box.pump(() => {});
  assert.ok(next === undefined || next <= 10, `again in ${next} ms`);
});

test("rate, burst and window bound what is sent", () => {
  const box = outbox({ rate: 10, burst: 3 });
  for (let i = 0; i < 30; i++) box.add(position(String(i))).catch(() => {});
  const sent = [];
  const next = box.pump((text) => sent.push(JSON.parse(text).id));
  assert.deepEqual(sent, ["0", "1", "2"]);
  assert.ok(next > 0 && next <= 100, `again in ${next} ms`);

  const fast = outbox();
  for (let i = 0; i < 30; i++) fast.add(position(String(i))).catch(() => {});
  let n = 0;
  assert.equal(fast.pump(() => n++), undefined);
  assert.equal(n, 16);
});

test("whatever happens to connections and pages, each update is stored once, in the order of its content", async () => {
  // The edge's part: it stores by id, and forgets no id.
  const steps = fc.array(fc.constantFrom("add", "pump", "answer", "disconnect", "reload"), { maxLength: 60 });
  await fc.assert(
    fc.asyncProperty(steps, async (steps) => {
      const store = memoryStore();
      const open = async () => {
        const box = outbox();
        await box.open(new Keeper(store, "q", { report: assert.fail }));
        return box;
      };
      let box = await open();
      const stored = [];
      let wire = [];
      let n = 0;
      const pump = () => box.pump((text) => wire.push(JSON.parse(text).id));
      const answer = () => {
        const id = wire.shift();
        if (id === undefined) return;
        if (!stored.includes(id)) stored.push(id);
        box.accepted(id);
      };
      for (const step of steps) {
        if (step === "add") box.add({ id: String(n++), type: "watchlist_update" }).catch(() => {});
        if (step === "pump") pump();
        if (step === "answer") answer();
        if (step === "disconnect") {
          for (const id of wire.slice(0, 2)) if (!stored.includes(id)) stored.push(id); // stored, but the answer is lost
          wire = [];
          box.disconnected();
        }
        if (step === "reload") {
          await box.flush();
          wire = [];
          box = await open();
        }
      }
      while (box.pending.length > 0) {
        pump();
        answer();
      }
      assert.deepEqual(stored, Array.from({ length: n }, (_, i) => String(i)));
    }),
  );
});

test("what is wrong with the options is said at once", () => {
  class WebSocket {}
  const good = { url: "ws://h", userId: "5f0c1f0e-8a52-4a53-9d3b-5e8a4c1f7d10", deviceId: "0b6d5c1e-4c0e-4f0a-9f57-3f6f0c0b7a11", connect: false, WebSocket };
  new Reprise(good);
  for (const [change, want] of [
    [{ url: "ftp://h" }, /scheme ftp: is none of/],
    [{ url: undefined }, /url is missing|not a URL/],
    [{ url: "::" }, /url is not a URL/],
    [{ deviceId: "TV" }, /deviceId "TV" is no lower-case UUID/],
    [{ userId: undefined }, /neither a token nor a userId/],
    [{ since: "yesterday" }, /since "yesterday" is neither/],
    [{ token: "" }, /token is none/],
    [{ token: "a b" }, /token is none/],
    [{ token: 7 }, /token is none/],
    [{ minBackoff: 5, maxBackoff: 1 }, /backoff from 5 to 1/],
    [{ queueLimit: 0 }, /queueLimit is 0/],
    [{ WebSocket: 7 }, /pass a class as WebSocket/],
    [{ url: "ftp://h", deviceId: "TV" }, /scheme.*; deviceId/],
  ]) {
    assert.throws(() => new Reprise({ ...good, ...change }), want);
  }
});
