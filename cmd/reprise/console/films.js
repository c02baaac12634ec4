// What the simulated devices watch.
import { clock } from "./dom.js";

export const films = [
  { id: "f11a0000-0000-4000-8000-000000000001", title: "The Long Way Back", seconds: 6720 },
  { id: "f11a0000-0000-4000-8000-000000000002", title: "Second Harbour", seconds: 5940 },
  { id: "f11a0000-0000-4000-8000-000000000003", title: "Night Ferry", seconds: 7980 },
];

export const filmOf = (id) => films.find((f) => f.id === id);

const title = (id) => filmOf(id)?.title ?? id;

/** An event in words. */
export function sentence(event) {
  switch (event.type) {
    case "watchlist_update":
      return `${title(event.content_id)}: ${event.action === "add" ? "on the watchlist" : "off the watchlist"}`;
    case "progress_update":
      return `${title(event.content_id)} at ${clock(event.position)}`;
    case "device_command":
      return event.command.startsWith("handoff:") ? `hand over ${title(event.command.slice(8))}` : `command ${event.command}`;
    case "notification":
    case "announcement":
      return `${event.type}: ${event.data.text ?? JSON.stringify(event.data)}`;
  }
  return event.type;
}
