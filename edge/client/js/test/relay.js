// The real relay, as a process, and a link to it that can be broken.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const directory = mkdtempSync(join(tmpdir(), "reprise-js-"));
const program = join(directory, "reprise");
execFileSync("go", ["build", "-o", program, "../../../../cmd/reprise"], { cwd: import.meta.dirname, stdio: "inherit" });
const relays = new Set();
process.on("exit", () => {
  for (const relay of relays) relay.kill();
  rmSync(directory, { recursive: true, force: true });
});

/** A run of `reprise`, ready for devices. */
export class Relay {
  addresses = {}; // what listens where
  #args;
  #process;
  #ended;

  /** Starts `reprise dev`, or another command with these flags. */
  static async start(...args) {
    const relay = new Relay();
    const command = args[0] && !args[0].startsWith("-") ? args.shift() : "dev";
    relay.#args = [command, ...(args.includes("--data-dir") || command === "emulator" ? args : ["--data-dir", mkdtempSync(join(directory, "data-")), ...args])];
    await relay.run();
    return relay;
  }

  /** Starts it, again at the addresses that it had. */
  async run() {
    const listen = { devices: "--listen", admin: "--admin-listen", emulator: "--emulator-listen" };
    const wanted = { emulator: ["emulator"], serve: ["devices", "admin"] }[this.#args[0]] ?? Object.keys(listen);
    const args = [...this.#args, "--log-format", "json"];
    for (const what of wanted) if (!args.includes(listen[what])) args.push(listen[what], this.addresses[what] ?? "127.0.0.1:0");
    this.#process = spawn(program, args, { stdio: ["ignore", "ignore", "pipe"] });
    this.#ended = once(this.#process, "exit");
    relays.add(this);
    const said = [];
    for await (const line of createInterface({ input: this.#process.stderr })) {
      said.push(line);
      if (!line.startsWith("{")) continue;
      const { msg, what, addr } = JSON.parse(line);
      if (msg === "listening") this.addresses[what] = addr;
      if (msg === "running" || (msg === "listening" && wanted.length === 1)) {
        this.#process.stderr.resume();
        return;
      }
    }
    throw new Error(`reprise ${args.join(" ")}:\n${said.join("\n")}`);
  }

  get url() {
    return `ws://${this.addresses.devices}/ws`;
  }

  /** Publishes to PubNub. */
  async publish(channel, message) {
    const path = `/publish/demo/demo/0/${channel}/0/${encodeURIComponent(JSON.stringify(message))}`;
    const answer = await fetch(`http://${this.addresses.emulator}${path}`);
    if (!answer.ok) throw new Error(`publish: ${answer.status}`);
  }

  async kill() {
    this.#process.kill("SIGKILL");
    await this.#ended;
    relays.delete(this);
  }

  async drain() {
    this.#process.kill("SIGTERM");
    await this.#ended;
    relays.delete(this);
  }
}

/** A token for a user, signed with a secret. */
export function token(secret, user, ...args) {
  return execFileSync(program, ["token", "--auth-hmac-secret", secret, "--user", user, ...args], { encoding: "utf8" }).trim();
}

/** A TCP link to an address that can be made to swallow everything. */
export class Link {
  #server;
  #pairs = new Set();

  static async to(address) {
    const link = new Link();
    const [host, port] = address.split(":");
    link.#server = net.createServer((near) => {
      const far = net.connect(port, host);
      const pair = [near, far];
      link.#pairs.add(pair);
      near.pipe(far).pipe(near);
      for (const end of pair) end.on("error", () => {}).on("close", () => pair.forEach((e) => e.destroy()));
    });
    link.#server.listen(0, "127.0.0.1");
    await once(link.#server, "listening");
    link.address = `127.0.0.1:${link.#server.address().port}`;
    return link;
  }

  /** From now on nothing comes through what is open, and nobody is told. */
  die() {
    for (const [near, far] of this.#pairs) {
      near.unpipe(far);
      far.unpipe(near);
      near.resume();
      far.resume();
    }
  }

  close() {
    this.#server.close();
    for (const pair of this.#pairs) pair.forEach((end) => end.destroy());
  }
}
