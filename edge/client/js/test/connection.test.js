// One connection in fake time.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Connection } from "../src/connection.js";

/** A socket that notes what is sent. */
class Socket extends EventTarget {
  sent = [];
  send(text) {
    this.sent.push(text);
  }
  close() {}
  hear(text) {
    this.dispatchEvent(Object.assign(new Event("message"), { data: text }));
  }
}

/** An open connection, and a clock: sleep moves it without the timers, pass with them. */
function connected(t) {
  let now = 1000;
  t.mock.timers.enable({ apis: ["setTimeout"] });
  t.mock.method(performance, "now", () => now);
  const wall = t.mock.method(Date, "now", () => now);
  let socket;
  const connection = new Connection({
    WebSocket: class extends Socket {
      constructor() {
        super();
        socket = this;
      }
    },
    dialTimeout: 5000,
    pingInterval: 25_000,
    pingTimeout: 10_000,
    onFrame() {},
  });
  socket.dispatchEvent(new Event("open"));
  let end;
  connection.ended.then((e) => (end = e));
  return {
    socket,
    wall,
    sleep: (ms) => (now += ms),
    async pass(ms) {
      for (; ms > 0; ms -= 100) {
        now += 100;
        t.mock.timers.tick(100);
      }
      await null;
      return end;
    },
  };
}

test("silence is answered by a ping, and then by the end", async (t) => {
  const { socket, pass } = connected(t);
  await pass(24_900);
  assert.deepEqual(socket.sent, []);
  await pass(200);
  assert.deepEqual(socket.sent, ['{"type":"ping"}']);
  assert.equal(await pass(9_800), undefined);
  assert.deepEqual(await pass(200), { opened: true, code: 1006, reason: "no sign of life" });
});

test("a wall clock that is put back or forward is no silence, and no sign of life", async (t) => {
  for (const step of [-3_600_000, 3_600_000]) {
    const { socket, wall, pass } = connected(t);
    await pass(10_000);
    wall.mock.mockImplementation(() => performance.now() + step);
    await pass(14_900);
    assert.deepEqual(socket.sent, [], `${step} ms`);
    await pass(200);
    assert.deepEqual(socket.sent, ['{"type":"ping"}'], `${step} ms`);
    wall.mock.mockImplementation(() => performance.now());
    assert.equal((await pass(10_000))?.reason, "no sign of life", `${step} ms`);
    t.mock.reset();
    t.mock.timers.reset();
  }
});

test("who was asleep asks once more", async (t) => {
  const { socket, sleep, pass } = connected(t);
  await pass(26_000);
  sleep(3_600_000);
  assert.equal(await pass(10_000), undefined);
  assert.equal(socket.sent.length, 2);
  socket.hear('{"type":"pong"}');
  assert.equal(await pass(20_000), undefined, "the answer was waiting");
});

test("who is late each time leaves a dead link all the same", async (t) => {
  const { socket, sleep, pass } = connected(t);
  await pass(26_000);
  sleep(60_000);
  await pass(10_000);
  sleep(60_000);
  assert.equal((await pass(10_000))?.reason, "no sign of life");
  assert.equal(socket.sent.length, 2);
});
