import { fileURLToPath } from "node:url";
import type { PublishedEvent } from "@org/workflow-monitor";
import { createHistory } from "@org/workflow-monitor/testing";
import { expect, onTestFinished, test } from "vitest";
import { start } from "../../bench/child.js";
import { startFaultProxy } from "../support/fault-proxy.js";
import { overEventPoll, overEventStream } from "../support/http-watchers.js";
import { seededRandom } from "../support/random.js";
import {
  overSubscription,
  overWebSocket,
  startWatcher,
  type Watcher,
} from "../support/watchers.js";
import type { SoakCalls, Usage } from "./server.js";
import { startStalledViewer } from "./stalled.js";

const SECONDS = Number(process.env.SOAK_SECONDS ?? 600);
const SEED = Number(process.env.SOAK_SEED ?? 1);
/** Jobs at a time, and viewers of each. */
const JOBS = 4;
const VIEWERS = 8;
const SAMPLE_MS = 2_000;
/** What a process may have grown by between the middle and the end: what garbage collection is late with. */
const MOST_GROWTH = { heap: 4 * 2 ** 20, rss: 24 * 2 ** 20 };

const random = seededRandom(SEED);
const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

test(`${SECONDS} s of churn, cuts, stalls, bursts and restarts lose nothing and leave nothing`, {
  timeout: (SECONDS + 120) * 1_000,
}, async () => {
  const server = start<SoakCalls>(fileURLToPath(new URL("server.ts", import.meta.url)), [
    "--import",
    "tsx",
  ]);
  onTestFinished(() => server.stop());
  const ports = await server.call("open");
  const proxies = await Promise.all(ports.map((port) => startFaultProxy(port)));
  const history = createHistory();
  const watchers = new Set<Watcher>();
  const running = new Set<string>();
  const counts = { jobs: 0, restarts: 0, losses: 0, faults: 0, stalled: 0 };
  let going = true;

  const transport = () => {
    const { port } = random.pick(proxies)!;
    const mode = random.pick(["full", "delta"] as const)!;
    return random.pick([
      overWebSocket(port, mode),
      overSubscription(port, mode),
      overEventStream(port, mode),
      overEventPoll(port),
      overEventPoll(port, 2),
    ])!;
  };

  async function publish(events: PublishedEvent[]): Promise<void> {
    const cursors = await server.call("publish", events);
    events.forEach((event, at) => {
      const cursor = cursors[at];
      if (cursor) history.published(event.jobId, cursor, event);
      else history.indeterminate(event.jobId);
    });
  }

  /** One job from its plan to its end, and all who watch it. */
  async function runJob(): Promise<void> {
    counts.jobs += 1;
    const jobId = `job ${counts.jobs}`;
    const stages = Array.from({ length: random.pick([3, 10, 600])! }, (_, at) => `stage ${at}`);
    await publish([{ type: "plan", jobId, stages: stages.map((stage) => ({ stage })) }]);
    running.add(jobId);
    const viewers = Array.from({ length: VIEWERS }, (_, at) =>
      startWatcher({ history, viewer: `${jobId} ${at}`, jobId, over: transport, stubborn: true }),
    );
    for (const viewer of viewers) watchers.add(viewer);
    if (stages.length > 100 && random.below(2) === 0) {
      counts.stalled += 1;
      startStalledViewer(random.pick(ports)!, jobId);
    }
    const steps = 20 + random.below(80);
    for (let step = 0; step < steps && going; step++) {
      const burst = random.below(25) === 0 ? 300 : 1 + random.below(3);
      await publish(
        Array.from({ length: burst }, (_, n) => ({
          type: "stage" as const,
          jobId,
          stage: random.pick(stages)!,
          message: `${step}.${n} ${"x".repeat(random.below(300))}`,
        })),
      );
      await sleep(random.below(80));
    }
    running.delete(jobId);
    await publish([{ type: "job", jobId, status: random.pick(["completed", "failed"] as const)! }]);
    await Promise.all(viewers.map(({ ended }) => ended));
    for (const viewer of viewers) watchers.delete(viewer);
    const job = await server.call("get", jobId);
    if (job) history.head(jobId, job, job);
    history.forget(jobId);
  }

  async function runJobs(): Promise<void> {
    while (going) await runJob();
  }

  /** What networks do, ten times a second. */
  async function disturb(): Promise<void> {
    while (going) {
      await sleep(100);
      const connection = random.pick(proxies.flatMap(({ connections }) => connections));
      if (!connection) continue;
      counts.faults += 1;
      const faults = [
        () => connection.cut(),
        () => connection.reset(),
        () => connection.slice(),
        () => connection.latency(50),
        () => connection.trickle(20_000),
        () => connection.stopReading(),
        () => random.pick([...watchers])?.cut(),
      ];
      random.pick(faults)!();
      // What lasts does not last for ever.
      void sleep(1_000).then(() => connection.restore());
    }
  }

  async function restart(): Promise<void> {
    while (going) {
      await sleep(4_000 + random.below(6_000));
      if (random.below(3) > 0) {
        counts.restarts += 1;
        await server.call("restart", random.below(ports.length));
      } else if (running.size === JOBS) {
        // Nobody waits for the end of a job that would be lost for good.
        counts.losses += 1;
        await server.call("loseLogs", [...running]);
      }
    }
  }

  const samples: { at: number; usage: Usage }[] = [];
  async function sample(): Promise<void> {
    const from = performance.now();
    while (going) {
      await sleep(SAMPLE_MS);
      samples.push({ at: (performance.now() - from) / 1_000, usage: await server.call("usage") });
    }
  }

  // What there is when nothing is going on, after everything has been used once.
  going = false;
  await runJob();
  const base = await rested(() => server.call("usage"));
  going = true;
  const all = Promise.all([
    ...Array.from({ length: JOBS }, runJobs),
    disturb(),
    restart(),
    sample(),
  ]);
  await Promise.race([sleep(SECONDS * 1_000), all]);
  going = false;
  for (const proxy of proxies) proxy.restore();
  await all;

  history.check();
  const rest = await rested(() => server.call("usage"));
  const late = samples.filter(({ at }) => at > SECONDS / 2);
  const growth = {
    heap: grown(late.map(({ at, usage }) => [at, usage.heap])),
    rss: grown(late.map(({ at, usage }) => [at, usage.rss])),
  };
  const most = Math.max(
    ...samples.flatMap(({ usage }) => usage.nodes.map((node) => node.pinnedBytes)),
  );
  console.log({ seed: SEED, ...counts, ...history.summary, growth, mostPinnedBytes: most });

  for (const node of rest.nodes) {
    expect(node).toMatchObject({ rooms: 0, parked: 0, pinnedBytes: 0, jobs: 0 });
    expect(node.viewers).toEqual({ ws: 0, sse: 0, longPoll: 0, watch: 0 });
  }
  expect(rest.resources).toEqual(base.resources);
  expect(growth.heap).toBeLessThan(MOST_GROWTH.heap);
  expect(growth.rss).toBeLessThan(MOST_GROWTH.rss);
  expect(counts.jobs).toBeGreaterThan(JOBS);
  expect(history.summary.resumed).toBeGreaterThan(0);
});

/** Asks until nothing is watched and no socket is open any more; gives up after 20 s, with what there is then. */
async function rested(usage: () => Promise<Usage>): Promise<Usage> {
  for (let tries = 0; ; tries++) {
    const now = await usage();
    const busy = now.nodes.some(({ rooms, viewers }) => rooms + viewers.ws + viewers.sse > 0);
    if ((!busy && !now.resources.TCPSocketWrap) || tries === 40) return now;
    await sleep(500);
  }
}

/** By how much the line through these points rises from the first to the last. */
function grown(points: [x: number, y: number][]): number {
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const [x, y] = [mean(points.map(([x]) => x)), mean(points.map(([, y]) => y))];
  const slope =
    points.reduce((sum, [px, py]) => sum + (px - x) * (py - y), 0) /
    points.reduce((sum, [px]) => sum + (px - x) ** 2, 0);
  return Math.round(slope * ((points.at(-1)?.[0] ?? 0) - (points[0]?.[0] ?? 0)));
}
