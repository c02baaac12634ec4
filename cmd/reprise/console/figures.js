// The figures on top, once a second.
import { ask, byId, notice, unanswered } from "./dom.js";

const kept = 60; // medians
const medians = [];
const whole = new Intl.NumberFormat("en");
let turn = 0; // counts calls of showFigures: the last one's goes on
let said = "";

/**
 * Begins to show the figures. each is called with what the node said, and may ask it for
 * more; refused when it wants another token.
 */
export function showFigures({ token, each = () => {}, refused = () => {} } = {}) {
  const mine = ++turn;
  const tick = async () => {
    try {
      const stats = await ask("/v1/stats", { token });
      if (mine !== turn) return;
      show(stats);
      await each(stats);
      say("");
    } catch (error) {
      if (mine !== turn) return;
      if (error.status === undefined) throw error; // a mistake of this page
      if (error.status === 401) return refused();
      say(unanswered(error, "The page goes on when it is back."));
      if (error.status >= 400 && error.status < 500) return; // the same question has the same answer
    }
    setTimeout(tick, 1000);
  };
  tick();
}

/** Says something, and takes back only what was said here. */
function say(text) {
  if (text !== said) notice(text);
  said = text;
}

function show({ active_connections, active_users, messages_relayed, broadcast_latency_ms: latency = { samples: 0 } }) {
  byId("connections").textContent = whole.format(active_connections);
  byId("users").textContent = whole.format(active_users);
  byId("relayed").textContent = whole.format(messages_relayed);
  for (const p of ["p50", "p95", "p99"]) byId(p).textContent = latency.samples > 0 ? milliseconds(latency[p]) : "–";
  if (latency.samples > 0) draw(latency.p50);
}

/** Draws the medians, the newest at the right. */
function draw(median) {
  medians.push(median);
  if (medians.length > kept) medians.shift();
  const most = Math.max(...medians, 0.001);
  const x = (i) => 120 - ((medians.length - 1 - i) / (kept - 1)) * 120;
  const points = medians.map((m, i) => `${x(i).toFixed(1)},${(31 - (m / most) * 25).toFixed(1)}`);
  if (points.length < 2) return; // one is no line
  const [area, line] = byId("spark").children;
  line.setAttribute("points", points.join(" "));
  area.setAttribute("points", `${x(0).toFixed(1)},32 ${points.join(" ")} 120,32`);
  byId("spark").setAttribute("aria-label", `Median latency over the last minute, at most ${milliseconds(most)}`);
}

export function milliseconds(n) {
  return n < 10 ? `${n.toFixed(2)} ms` : `${Math.round(n)} ms`;
}
