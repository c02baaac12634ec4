// The console page: simulated devices beside a developer's relay, counters for
// an operator's node.
import { ask, byId, copyOf, notice } from "./dom.js";
import { showFigures } from "./figures.js";

const about = await ask("/console/about").catch(() => undefined);
if (about === undefined) notice("The relay does not answer. Reload when it runs.");
else {
  byId("node").textContent = `${about.node} · ${about.version}`;
  byId("page").append(copyOf(about.devices ? "dev" : "operator"));
  if (about.devices) {
    const { showDevices } = await import("./devices.js");
    showDevices(about);
    showFigures();
  } else {
    const { showOperator } = await import("./operator.js");
    showOperator(showFigures);
  }
}
