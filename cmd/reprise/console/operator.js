// What an operator's node says of itself. It only reads.
import { ask, byId, make, notice } from "./dom.js";

export function showOperator(showFigures) {
  let token;
  const begin = () => showFigures({ token, each: show, refused: askForToken });

  function askForToken() {
    byId("token").hidden = false;
    if (token !== undefined) notice("That is not the admin token.");
    byId("admin-token").focus();
  }
  byId("token").addEventListener("submit", (submitted) => {
    submitted.preventDefault();
    token = byId("admin-token").value; // for as long as the page is open, and nowhere else
    byId("admin-token").value = "";
    byId("token").hidden = true;
    notice("");
    begin();
  });

  byId("user").addEventListener("submit", async (submitted) => {
    submitted.preventDefault();
    const rows = byId("user-connections");
    try {
      const found = await ask(`/v1/users/${byId("user-id").value}/connections`, { token });
      rows.replaceChildren(...found.map((c) => rowOf(c.device_id, c.node, new Date(c.connected_at).toLocaleString(), c.cursor, c.remote)));
      if (found.length === 0) rows.replaceChildren(emptyRow(5, "Nobody of this user is connected to this node."));
      notice("");
    } catch (error) {
      notice(`Not found: ${error.message}`);
    }
  });
  begin();
}

async function show(stats) {
  const { ready, reasons = [], warnings = [] } = await ask("/readyz");
  byId("ready").textContent = ready ? "Ready: devices may be sent here." : `Not ready: ${reasons.join(", ")}.`;
  byId("warnings").replaceChildren(...warnings.map((w) => make("li", "", `warning: ${w}`)));
  const rows = [];
  const groups = { resumes: "resumes", connections_closed: "closed with", updates: "updates", bad_frames: "bad frames" };
  for (const [name, title] of Object.entries(groups)) {
    for (const [which, n] of Object.entries(stats[name] ?? {}).sort()) {
      const row = rowOf(title, which);
      row.append(make("td", "number", n.toLocaleString("en")));
      rows.push(row);
    }
  }
  byId("counts").replaceChildren(...(rows.length > 0 ? rows : [emptyRow(3, "Nothing yet.")]));
}

function rowOf(...texts) {
  const row = make("tr");
  row.append(...texts.map((text) => make("td", "", String(text))));
  return row;
}

function emptyRow(columns, text) {
  const row = make("tr", "empty");
  const cell = make("td", "", text);
  cell.colSpan = columns;
  row.append(cell);
  return row;
}
