// Compiled, not run: what the declarations must let through, and what not.
import { Clock, localStore, Reprise, UpdateError, UserState } from "reprise-client";

const relay = new Reprise({
  url: "wss://relay.example/ws",
  token: async () => "fresh",
  deviceId: "0b6d5c1e-4c0e-4f0a-9f57-3f6f0c0b7a11",
  store: localStore(),
});
const state = new UserState();
relay.follow(UserState.from({}));
relay.on("update", (u) => state.apply(u));
relay.on("event", (e) => state.apply(e));
relay.on("snapshot", (s) => [s, ...relay.pending].forEach((e) => state.apply(e)));
relay.on("progress_update", (e) => e.position + (e.duration ?? 0));
relay.on("resumed", ({ complete, replayed, reason }) => complete || reason === "trimmed" || replayed > 0);
relay.on("rejected", (e: UpdateError) => e.update.type);
const off: () => void = relay.on("state", (s) => s === "live");
off();
const accepted: Promise<{ id: string }> = relay.progress("c", 1);
accepted.then(() => relay.close());

relay.on("welcome", (w) => new Clock().update(String(w.server_time)));

// @ts-expect-error: there is no such event
relay.on("progress", () => {});
// @ts-expect-error: a position is a number
relay.progress("c", "1");
// @ts-expect-error: no such operation
relay.send({ type: "watchlist_update", operation: "toggle", content_id: "c", unique_tag: "t" });
// @ts-expect-error: a device is told from others by its id
new Reprise({ url: "wss://relay.example", deviceId: 7 });
