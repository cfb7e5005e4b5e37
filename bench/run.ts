import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { measureAcross } from "./across.js";
import { buildChildren } from "./build.js";
import { measureCatchUp } from "./catch-up.js";
import { measureFanOut, SSE, WEB_SOCKETS } from "./fan-out.js";
import { measureNodes } from "./nodes.js";
import { measurePages } from "./pages.js";
import { sampleFrame } from "./payload.js";
import { measurePolls } from "./polls.js";
import { measurePublish } from "./publish.js";
import { measureRecovery } from "./recovery.js";
import { page, type Results, tables } from "./report/page.js";
import { CHILDREN, here, type Measurement, readSettings } from "./settings.js";
import { measureStalledLatency } from "./stalled-latency.js";
import { measureStalledMemory } from "./stalled-memory.js";
import { measureThroughput } from "./throughput.js";

/**
 * `npm run bench [-- --quick] [-- --only fan-out] [-- --write] [-- --profile]`: prints what a delivered
 * update, an idle viewer and a poll cost, beside their peers. `--only` may be given several times;
 * `--write` writes docs/benchmarks.md.
 */

const settings = readSettings(process.argv.slice(2));
const log = (line: string) => console.error(`… ${line}`);

await buildChildren(CHILDREN, join(here, "dist"));

const frame = await sampleFrame();
const results: Results = { settings };
const measure: Record<Measurement, () => Promise<void>> = {
  "fan-out": async () => {
    results.fanOut = await measureFanOut(WEB_SOCKETS, settings, frame, log);
  },
  sse: async () => {
    // Half the rounds: better-sse encodes an update for each viewer, and takes its time.
    const rounds = Math.ceil(settings.rounds / 2);
    results.sse = await measureFanOut(SSE, { ...settings, rounds }, frame, log);
  },
  polls: async () => {
    // Twice the rounds: they are short.
    const rounds = 2 * settings.rounds;
    results.polls = await measurePolls({ ...settings, rounds }, frame, log);
  },
  publish: async () => {
    results.publish = await measurePublish(settings, log);
  },
  "catch-up": async () => {
    results.catchUp = await measureCatchUp(settings, frame, log);
  },
  latency: async () => {
    results.latency = await measureStalledLatency(settings, frame, log);
  },
  memory: async () => {
    results.memory = await measureStalledMemory(settings, frame, log);
  },
  page: async () => {
    results.pages = await measurePages(settings, log);
  },
  nodes: async () => {
    const rounds = Math.ceil(settings.rounds / 2);
    results.nodes = await measureNodes({ ...settings, rounds }, frame, log);
  },
  across: async () => {
    results.across = await measureAcross(settings, frame, log);
  },
  throughput: async () => {
    results.throughput = await measureThroughput(settings, log);
  },
  recovery: async () => {
    results.recovery = await measureRecovery(settings, frame, log);
  },
};
const failed: Measurement[] = [];
for (const name of settings.only) {
  const from = performance.now();
  try {
    await measure[name]();
    log(`${name} took ${Math.round((performance.now() - from) / 1_000)} s`);
  } catch (thrown) {
    log(`${name} failed: ${(thrown as Error).stack}`);
    failed.push(name);
  }
}

console.log(`\n${tables(results)}\n`);
if (failed.length > 0) {
  log(`failed: ${failed.join(", ")}`);
  process.exit(1); // and with it the children that are left
} else if (settings.write) {
  writeFileSync(join(here, "..", "docs", "benchmarks.md"), page(results));
  log("wrote docs/benchmarks.md");
}
