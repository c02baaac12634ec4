// What an operator's node says of itself. It only reads.
import { ask, byId, make, notice } from "./dom.js";

export function showOperator(showFigures) {
  let token;
  const begin = () => showFigures({ token, each: show, refused: askForToken });
  byId("figures").hidden = true; // until there are some

  function askForToken() {
    byId("told").hidden = byId("figures").hidden = true;
    byId("node").textContent = "";
    byId("token").hidden = false;
    if (token !== undefined) notice("That is not the admin token.");
    byId("admin-token").focus();
  }
  byId("token").addEventListener("submit", (submitted) => {
    submitted.preventDefault();
    token = byId("admin-token").value; // for as long as the page is open, and nowhere else
    byId("admin-token").value = "";
    byId("token").hidden = true;
    byId("main").focus();
    notice("");
    begin();
  });

  byId("user").addEventListener("submit", async (submitted) => {
    submitted.preventDefault();
    const rows = byId("user-connections");
    try {
      const found = await ask(`/v1/users/${byId("user-id").value}/connections`, { token });
      rows.replaceChildren(...found.map((c) => rowOf(make("code", "", c.device_id), c.node, new Date(c.connected_at).toLocaleString(), make("code", "", c.cursor), c.remote)));
      if (found.length === 0) rows.replaceChildren(emptyRow(5, "Nobody of this user is connected to this node."));
      notice("");
    } catch (error) {
      notice(`Not found: ${error.message}`);
    }
  });
  begin();
}

/** What an edge counts, by the member of its stats. */
const ofEdges = { resumes: "resumes", connections_closed: "closed with", updates: "updates", bad_frames: "bad frames" };

/** What a bridge counts. */
const ofBridges = {
  stored: "events stored",
  duplicates: "known already",
  dead: "dead letters",
  announcements: "announcements",
  polls: "polls of PubNub",
  failed_polls: "polls that failed",
  filled: "events filled in from history",
  gaps: "gaps that history did not fill",
  published: "published for devices",
  expired: "expired before that",
};

async function show(stats) {
  const { ready, reasons = [], warnings = [] } = await ask("/readyz");
  const { bridge, active, node } = stats;
  byId("node").textContent = node;
  byId("ready").textContent = ready ? "Ready" : `Not ready: ${reasons.join(", ")}`;
  byId("ready").dataset.ready = ready;
  if (bridge === undefined) byId("role").textContent = "Devices connect to this node.";
  else byId("role").textContent = active ? "A bridge, which carries PubNub into the log." : "A bridge that stands by: others carry PubNub into the log.";
  byId("warnings").replaceChildren(...warnings.map((w) => make("li", "", `warning: ${w}`)));

  const rows = [];
  for (const [name, title] of Object.entries(ofEdges)) {
    for (const [which, n] of Object.entries(stats[name] ?? {}).sort()) rows.push(countRow(title, which, n));
  }
  for (const [which, title] of Object.entries(bridge ? ofBridges : {})) rows.push(countRow("bridge", title, bridge[which]));
  byId("counts").replaceChildren(...(rows.length > 0 ? rows : [emptyRow(3, "Nothing yet.")]));
  // A bridge has no devices.
  byId("figures").hidden = byId("users-section").hidden = bridge !== undefined;
  byId("told").hidden = false;
}

function countRow(what, which, n) {
  const row = rowOf(what, which);
  row.append(make("td", "number", n.toLocaleString("en")));
  return row;
}

/** A row of texts and elements. */
function rowOf(...contents) {
  const row = make("tr");
  for (const content of contents) {
    const cell = make("td");
    cell.append(content);
    row.append(cell);
  }
  return row;
}

function emptyRow(columns, text) {
  const row = make("tr", "empty");
  const cell = make("td", "", text);
  cell.colSpan = columns;
  row.append(cell);
  return row;
}
