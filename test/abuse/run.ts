import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { buildChildren } from "../../bench/build.js";
import { start } from "../../bench/child.js";
import type { AttackerCalls } from "./attackers.js";
import { type Attack, attacks } from "./attacks.js";
import { type Load, loads } from "./loads.js";
import { median } from "./quantile.js";
import type { ServerCalls } from "./server.js";
import type { ViewerCalls } from "./viewers.js";

/**
 * `npm run abuse [-- --short] [-- --only pongs]`: what 200 healthy viewers at 20 updates a second notice of an attack from
 * ten connections, and of heavy loads, as a ratio to quiet times of the same run. Fails when they notice
 * too much, when one of them is sent away, or when an attack leaves something behind.
 */

const { values } = parseArgs({
  options: { short: { type: "boolean" }, only: { type: "string", multiple: true } },
});
const { short = false, only } = values;

const HEALTHY_VIEWERS = 200;
const ATTACKERS = 10;
const ROUNDS = short ? 1 : 3;
const WINDOW_MS = short ? 2_000 : 5_000;
/** Of p99 to p99 without the attack. A short window has few values: it finds what is far off. */
const MOST_RATIO = short ? 6 : 2;
const MOST_STALL_MS = short ? 150 : 50;
/** What an attack may leave: allocators keep some of what they had. */
const MOST_LEFT_BYTES = 150 * 1024 * 1024;
const SETTLE_MS = 500;

const folder = fileURLToPath(new URL(".", import.meta.url));
const built = join(folder, "dist");
const program = (name: string) => join(built, `${name}.js`);

interface Row {
  name: string;
  quietMs: number;
  underMs: number;
  stallMs: number;
  ended: number;
  leftBytes: number;
  faults: string[];
}

async function measure(name: string, attack: Attack | undefined, load: Load | undefined) {
  const server = start<ServerCalls>(program("server"), []);
  const viewers = start<ViewerCalls>(program("viewers"), []);
  const attackers = start<AttackerCalls>(program("attackers"), []);
  const crowd = start<ViewerCalls>(program("viewers"), []);
  try {
    const port = await server.call("port");
    const jobs = attack?.jobs ?? load?.jobs;
    if (jobs) await server.call("jobs", jobs);
    await viewers.call("open", port, "healthy", HEALTHY_VIEWERS);
    if (load?.viewersOfBig) await crowd.call("open", port, "big", load.viewersOfBig);
    await sleep(2 * SETTLE_MS);
    const look = async () => {
      await Promise.all([viewers.call("begin"), server.call("begin")]);
      await sleep(WINDOW_MS);
      const [seen, told] = await Promise.all([viewers.call("end"), server.call("end")]);
      return { ...seen, ...told };
    };
    const quiet: Awaited<ReturnType<typeof look>>[] = [];
    const under: typeof quiet = [];
    let ended = 0;
    await look(); // what is compiled first is slow
    const before = await server.call("memory");
    quiet.push(await look());
    for (let round = 0; round < ROUNDS; round++) {
      if (attack) await attackers.call("begin", port, attack.name, ATTACKERS);
      if (load?.updates) await server.call("updateBig", load.updates, load.everyMs ?? 1_000);
      if (load?.attack) await attackers.call("begin", port, load.attack, ATTACKERS);
      await sleep(SETTLE_MS);
      under.push(await look());
      await server.call("quiet");
      ended += (await attackers.call("end")).ended;
      await sleep(1_000 + SETTLE_MS);
      quiet.push(await look());
    }
    const faults: string[] = [];
    const last = quiet.at(-1) as (typeof quiet)[number];
    const quietMs = median(quiet.map(({ p99 }) => p99));
    const underMs = median(under.map(({ p99 }) => p99));
    const stallMs = Math.max(...under.map((each) => each.stallMs));
    const leftBytes = (await server.call("memory")) - before;
    if (last.lost > 0) faults.push(`${last.lost} healthy viewers were sent away`);
    if (last.viewers.longPoll > 0) faults.push(`${last.viewers.longPoll} polls still wait`);
    if (last.viewers.sse > 0) faults.push(`${last.viewers.sse} streams live on`);
    if (leftBytes > MOST_LEFT_BYTES) faults.push("it keeps memory");
    if (attack && underMs > MOST_RATIO * quietMs) faults.push("others feel it");
    if (load && stallMs > MOST_STALL_MS) faults.push("it stalls the event loop");
    return { name, quietMs, underMs, stallMs, ended, leftBytes, faults };
  } finally {
    for (const each of [server, viewers, attackers, crowd]) each.kill();
  }
}

await buildChildren(["server", "viewers", "attackers"], built, folder);
const wanted = ({ name }: { name: string }) => !only || only.some((part) => name.includes(part));
const rows: Row[] = [];
const columns = ["", "p99 quiet", "p99 under it", "ratio", "longest stall", "ended", "RSS left"];
console.log(`| ${columns.join(" | ")} | |\n|${" --- |".repeat(columns.length + 1)}`);

async function tell(row: Promise<Row>): Promise<void> {
  const { name, quietMs, underMs, stallMs, ended, leftBytes, faults } = await row;
  rows.push(await row);
  const cells = [
    name,
    `${quietMs.toFixed(1)} ms`,
    `${underMs.toFixed(1)} ms`,
    `× ${(underMs / quietMs).toFixed(2)}`,
    `${stallMs.toFixed(0)} ms`,
    `${ended}`,
    `${(leftBytes / 1e6).toFixed(0)} MB`,
    faults.join("; "),
  ];
  console.log(`| ${cells.join(" | ")} |`);
}

for (const attack of attacks.filter(wanted)) await tell(measure(attack.name, attack, undefined));
for (const load of loads.filter(wanted)) await tell(measure(load.name, undefined, load));
const failed = rows.filter(({ faults }) => faults.length > 0).length;
console.log(`\n${rows.length - failed} passed, ${failed} failed`);
process.exit(failed > 0 ? 1 : 0);
