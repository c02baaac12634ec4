// The devices of one user, the log that they share, and what comes from outside.
import { Reprise } from "./client/index.js";
import { Device, replaced } from "./device.js";
import { ask, byId, notice } from "./dom.js";
import { Log } from "./log.js";

const kinds = [
  ["TV", "tv"],
  ["Phone", "phone"],
  ["Laptop", "laptop"],
  ["Tablet", "tablet"],
];
const most = 8;

/** A value that stays the same for as long as this tab lives, also over a reload. */
function lasting(name, make) {
  const key = `reprise-console:${name}`;
  const value = sessionStorage.getItem(key) ?? make();
  sessionStorage.setItem(key, value);
  return value;
}

export function showDevices({ user }) {
  const devices = [];
  const log = new Log({ nameOf: (id) => devices.find((d) => d.id === id)?.name });

  // One more device, that is always there and hears everything: it fills the
  // log, and knows what a device that is cut misses.
  const observe = (deviceId, since) => {
    const observer = new Reprise({ userId: user, deviceId, since, echo: true });
    observer.on("event", (e) => {
      log.add(e);
      for (const d of devices) d.happened(e);
    });
    observer.on("announcement", (e) => log.add(e));
    observer.on("closed", ({ code, refusal }) => {
      // A copy of this tab has the same devices, but it need not have this one.
      if (code === replaced) observe(crypto.randomUUID(), observer.cursor);
      else notice(`This page's own connection was closed: ${refusal?.message ?? `code ${code}`}. Reload the page.`);
    });
  };
  observe(lasting("observer", () => crypto.randomUUID()), "earliest");

  const add = () => {
    const n = devices.length;
    const [kind, icon] = kinds[n % kinds.length];
    const name = n < kinds.length ? kind : `${kind} ${Math.floor(n / kinds.length) + 1}`;
    const id = lasting(`device ${n}`, () => crypto.randomUUID());
    const device = new Device({ id, name, icon, user, others: () => devices.filter((d) => d.id !== id), got: (e) => log.received(e, name) });
    devices.push(device);
    byId("devices").append(device.element);
    for (const d of devices) d.listOthers();
    byId("add-device").disabled = devices.length >= most;
    sessionStorage.setItem("reprise-console:devices", devices.length);
    return device;
  };
  const before = Math.min(most, Number(sessionStorage.getItem("reprise-console:devices")) || 2);
  for (let n = 0; n < before; n++) add();
  byId("add-device").addEventListener("click", () => add().focus());

  byId("publish").addEventListener("submit", async (submitted) => {
    submitted.preventDefault();
    const { kind, text } = Object.fromEntries(new FormData(submitted.target));
    const channel = kind === "announcement" ? "global.announcements" : `user.${user}.notifications`;
    try {
      await ask("/console/publish", { method: "POST", body: JSON.stringify({ channel, message: { text } }) });
      notice("");
    } catch (error) {
      notice(`Not published: ${error.message}`);
    }
  });
}
