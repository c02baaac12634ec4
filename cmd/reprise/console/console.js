// The console page: simulated devices beside a developer's relay, counters for
// an operator's node.
import { ask, byId, copyOf, notice, unanswered } from "./dom.js";
import { showFigures } from "./figures.js";

const about = await ask("/console/about").catch((error) => notice(unanswered(error, "Reload when it runs.")));
if (about !== undefined) {
  byId("page").append(copyOf(about.devices ? "dev" : "operator"));
  if (about.devices) {
    byId("node").textContent = `${about.node} · ${about.version}`;
    const { showDevices } = await import("./devices.js");
    showDevices(about);
    showFigures();
  } else {
    const { showOperator } = await import("./operator.js");
    showOperator(showFigures);
  }
}
