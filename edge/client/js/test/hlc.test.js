import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Clock, instant, isStamp, millisecondsOf, stamp } from "../src/index.js";

const wall = fc.integer({ min: 0, max: 2 ** 42 });

test("stamps have one form", () => {
  assert.equal(stamp(0x019a3f2c8e41, 3), "019a3f2c8e410003");
  for (const text of ["019a3f2c8e410003", "0000000000000000"]) assert.ok(isStamp(text), text);
  for (const text of ["019A3F2C8E410003", "19a3f2c8e410003", "019a3f2c8e410003 ", "", undefined, 7]) assert.ok(!isStamp(text), String(text));
  fc.assert(fc.property(wall, fc.integer({ min: 0, max: 65535 }), (ms, n) => isStamp(stamp(ms, n)) && millisecondsOf(stamp(ms, n)) === ms));
});

test("a clock rises whatever the wall clock does", () => {
  fc.assert(
    fc.property(fc.array(wall, { minLength: 1 }), fc.array(wall), (walls, foreign) => {
      let now = 0;
      const clock = new Clock({ now: () => now });
      let last = "";
      walls.forEach((w, i) => {
        now = w;
        const told = foreign[i] === undefined ? "" : stamp(foreign[i], 65535);
        const taken = clock.update(told);
        const got = clock.tick();
        assert.ok(isStamp(got));
        assert.ok(got > last, `${got} after ${last}`);
        if (taken) assert.ok(got > told, `${got} after being told ${told}`);
        last = got;
      });
    }),
  );
});

test("a full counter carries", () => {
  const clock = new Clock({ now: () => 5 });
  assert.ok(clock.update(stamp(5, 65535)));
  assert.equal(clock.tick(), stamp(6, 0));
});

test("a clock that is far ahead is not followed", () => {
  const clock = new Clock({ now: () => 1000, maxDrift: 50 });
  assert.ok(clock.update(stamp(1050)));
  assert.ok(!clock.update(stamp(1051)));
  assert.ok(!clock.update("yesterday"));
  assert.equal(clock.tick(), stamp(1050, 1));
});

test("what was made before is followed further, and what is near to that", () => {
  const now = 1795437339530;
  const day = 86_400_000;
  const clock = new Clock({ now: () => now });
  const hour = stamp(now + 3_600_000, 7);
  assert.ok(!clock.update(hour));
  for (const told of [stamp(now + day + 1), "ffff000000000000", "yesterday", undefined]) assert.ok(!clock.resume(told), told);
  assert.ok(clock.resume(hour));
  assert.equal(clock.tick(), stamp(now + 3_600_000, 8));
  assert.ok(clock.update(stamp(now + 3_660_000)));
  assert.ok(!clock.update(stamp(now + 3_660_001)), "one that is told of carries no other");
});

test("a clock follows timestamps of every form", () => {
  const now = 1795437339530;
  const ahead = now + 30_000;
  for (const told of [stamp(ahead, 7), String(ahead), ahead, `${ahead}999`, String((BigInt(ahead) << 16n) + 7n)]) {
    const clock = new Clock({ now: () => now });
    assert.ok(clock.update(told), told);
    const got = clock.tick();
    assert.ok(instant(got) > instant(told), `${got} after being told ${told}`);
    assert.ok(!clock.update(String(now + 60_001)));
    assert.equal(millisecondsOf(clock.tick()), ahead);
  }
  for (const told of [undefined, "", "-1", "yesterday", "99999999999999999999"]) assert.ok(!new Clock().update(told), told);
});
