// The figures on top, once a second.
import { ask, byId, notice } from "./dom.js";

const kept = 60; // medians
const medians = [];
const whole = new Intl.NumberFormat("en");
let timer;

/** Begins to show the figures. each is called with what the node said. */
export function showFigures({ token, each = () => {}, refused = () => {} } = {}) {
  clearTimeout(timer);
  let silent = false;
  const tick = async () => {
    try {
      const stats = await ask("/v1/stats", { token });
      show(stats);
      each(stats);
      if (silent) notice("");
      silent = false;
    } catch (error) {
      if (error.status === 401) return refused();
      silent = true;
      notice("The relay does not answer. The page goes on when it is back.");
    }
    timer = setTimeout(tick, 1000);
  };
  tick();
}

function show({ active_connections, active_users, messages_relayed, broadcast_latency_ms: latency = { samples: 0 } }) {
  byId("connections").textContent = whole.format(active_connections);
  byId("users").textContent = whole.format(active_users);
  byId("relayed").textContent = whole.format(messages_relayed);
  for (const p of ["p50", "p95", "p99"]) byId(p).textContent = latency.samples > 0 ? milliseconds(latency[p]) : "–";
  medians.push(latency.samples > 0 ? latency.p50 : 0);
  if (medians.length > kept) medians.shift();
  const most = Math.max(...medians, 0.001);
  const points = medians.map((m, i) => `${((kept - medians.length + i) / (kept - 1)) * 120},${30 - (m / most) * 28}`);
  byId("spark").firstElementChild.setAttribute("points", points.join(" "));
  byId("spark").setAttribute("aria-label", `Median latency over the last minute, at most ${milliseconds(most)}`);
}

export function milliseconds(n) {
  return n < 10 ? `${n.toFixed(2)} ms` : `${Math.round(n)} ms`;
}
