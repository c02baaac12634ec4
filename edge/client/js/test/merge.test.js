import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { instant, LWWRegister, ORSet, stamp, UserState } from "../src/index.js";

test("timestamps of three kinds compare", () => {
  const at = 1795437339530;
  assert.equal(instant(at), BigInt(at) << 16n);
  assert.equal(instant(String(at)), instant(stamp(at)));
  assert.equal(instant(`${at}000`), instant(at));
  assert.equal(instant(`${at}999`) > instant(at) && instant(`${at}999`) < instant(at + 1), true);
  assert.equal(instant(String(BigInt(at) << 16n)), instant(at));
  assert.equal(instant("99999999999999"), 99999999999999n << 16n); // the last that is milliseconds
  assert.equal(instant("100000000000000"), (100000000000000n << 16n) / 1000n);
  assert.equal(instant("100000000000000000"), 100000000000000000n);
  assert.equal(instant("0000000000000001"), 1n); // 16 characters that begin with 0: hex
  assert.equal(instant("1000000000000000"), (1000000000000000n << 16n) / 1000n); // 16 digits: microseconds
  assert.equal(instant("1a00000000000000"), 0x1a00000000000000n);
  for (const text of [undefined, "", "-1", "1.5", "tomorrow", "123456789012345678901"]) assert.equal(instant(text), 0n, String(text));
});

test("the newest wins, ties go by device and then by value", () => {
  const register = new LWWRegister();
  assert.ok(register.set("a", 5, "tv"));
  assert.ok(!register.set("b", 4, "zz"));
  assert.ok(register.set("c", 5, "tz"));
  assert.ok(!register.set("c", 5, "tz"));
  assert.ok(register.set("d", 5, "tz"));
  assert.equal(register.value, "d");
  assert.ok(register.set("astral", 6, "\u{1f4fa}"));
  assert.ok(!register.set("basic", 6, "\uffe0")); // below it by code point, above it by UTF-16
});

test("an addition that a removal has not seen survives it", () => {
  const set = new ORSet();
  set.add("film", "1");
  set.add("film", "2");
  set.remove("film", "1");
  assert.deepEqual([set.has("film"), set.tags("film"), set.size], [true, ["2"], 1]);
  assert.ok(set.remove("film", "2"));
  assert.ok(!set.add("film", "2"), "a removal holds for an addition that comes late");
  assert.deepEqual([...set], []);
});

const content = fc.constantFrom("c1", "c2", "c3");
const origin = { timestamp: fc.integer({ min: 1, max: 4 }).map(String), device_id: fc.constantFrom("d1", "d2") };
const event = fc.oneof(
  fc.record({ type: fc.constant("watchlist_update"), action: fc.constantFrom("add", "remove"), content_id: content, unique_tag: fc.constantFrom("t1", "t2"), ...origin }),
  fc.record({ type: fc.constant("progress_update"), content_id: content, position: fc.nat(3), duration: fc.option(fc.nat(2), { nil: undefined }), ...origin }),
);
const stateOf = (events) => {
  const state = new UserState();
  for (const e of events) state.apply(e);
  return state;
};
const written = (state) => JSON.parse(JSON.stringify(state));
const history = fc.array(event, { maxLength: 40 });

test("order and repetition do not matter", () => {
  const shuffled = history.chain((events) =>
    fc.record({
      events: fc.constant(events),
      again: fc.array(fc.integer({ min: 0, max: Math.max(0, events.length - 1) })).chain((repeats) => {
        const all = [...events.keys(), ...repeats.filter((i) => i < events.length)];
        return fc.shuffledSubarray(all, { minLength: all.length });
      }),
    }),
  );
  fc.assert(
    fc.property(shuffled, ({ events, again }) => {
      assert.deepEqual(written(stateOf(again.map((i) => events[i]))), written(stateOf(events)));
    }),
    { numRuns: 1000 },
  );
});

test("merging is the same as applying everything", () => {
  fc.assert(
    fc.property(history, history, (a, b) => {
      const left = stateOf(a);
      left.merge(stateOf(b));
      const right = stateOf(b);
      right.merge(stateOf(a));
      const all = stateOf([...a, ...b]);
      assert.deepEqual(written(left), written(all));
      assert.deepEqual(written(right), written(all));
    }),
  );
});

test("a state comes back from its text, also to be merged further", () => {
  fc.assert(
    fc.property(history, history, (a, b) => {
      const back = UserState.from(written(stateOf(a)));
      assert.deepEqual(written(back), written(stateOf(a)));
      for (const e of b) back.apply(e);
      assert.deepEqual(written(back), written(stateOf([...a, ...b])));
    }),
  );
});

test("a snapshot takes the place of everything, updates of one's own go on top", () => {
  const state = stateOf([{ type: "watchlist_update", action: "add", content_id: "old", unique_tag: "1" }]);
  state.apply({
    type: "snapshot",
    hlc: stamp(9),
    watchlist: [{ content_id: "film", unique_tags: ["1", "2"] }],
    progress: [{ content_id: "film", position: 7, duration: 9, device_id: "tv", timestamp: "5" }],
  });
  state.apply({ type: "progress_update", content_id: "film", position_seconds: 8, duration_seconds: 9, timestamp: "6" });
  state.apply({ type: "watchlist_update", operation: "remove", content_id: "film", unique_tag: "1" });
  assert.deepEqual(state.watchlist.tags("film"), ["2"]);
  assert.equal(state.watchlist.has("old"), false);
  assert.deepEqual(state.positions.get("film").value, { position: 8, duration: 9 });
  assert.equal(state.apply({ type: "notification", data: {} }), false);
});
