import type { JobSnapshot, PublishedEvent, WorkflowMonitor } from "@org/workflow-monitor";
import { createHistory, type History } from "@org/workflow-monitor/testing";
import { expect, test } from "vitest";
import { turns } from "../support/clock.js";
import { type FaultProxy, startFaultProxy } from "../support/fault-proxy.js";
import { range } from "../support/frames.js";
import { overEventPoll, overEventStream } from "../support/http-watchers.js";
import { type Random, seededRandom } from "../support/random.js";
import { startServer } from "../support/server.js";
import { until } from "../support/wait.js";
import {
  inProcess,
  overSubscription,
  overWebSocket,
  startWatcher,
  type Watcher,
  type WatcherTransport,
} from "../support/watchers.js";

const JOBS = ["one", "two", "three"];
const STAGES = ["fetch", "build", "test", "ship"];
const VIEWERS = 5;
const STEPS = 150;

/** Publishes, and tells the history what was acknowledged. */
const publisher = (monitor: WorkflowMonitor, history: History) => async (event: PublishedEvent) =>
  history.published(event.jobId, await monitor.publish(event), event);

/** Some event; some of them change nothing, and some overtake each other in a batch. */
function anyEvent(random: Random, jobId: string, step: number): PublishedEvent {
  const stage = random.pick(STAGES) as string;
  const kind = random.below(4);
  if (kind === 0) return { type: "job", jobId, message: `step ${step} "\\ é` };
  if (kind === 1) return { type: "stage", jobId, stage, status: "running" };
  if (kind === 2) return { type: "stage", jobId, stage, progress: step / 2 };
  return { type: "stage", jobId, stage, message: `step ${step}`, metadata: { step } };
}

/** One thing that happens to a connection, or to the whole network. */
function anyFault(random: Random, proxy: FaultProxy, watchers: readonly Watcher[]): void {
  const connection = random.pick(proxy.connections);
  const kind = random.below(9);
  if (kind <= 1) connection?.cut();
  else if (kind <= 3) connection?.reset();
  else if (kind === 4) connection?.slice(random.pick([1, 2, 13, 200]));
  else if (kind === 5) connection?.latency(random.below(15));
  else if (kind === 6) random.pick(watchers)?.cut();
  else if (kind === 7) random.pick([proxy, proxy, connection])?.restore();
  else if (random.below(4) === 0) proxy.reset();
  else proxy.refuse();
}

/** The ways of some viewers; each of them takes the next one whenever it comes back. */
const WAYS: Record<string, (port: number) => WatcherTransport[]> = {
  sockets: (port) => [overWebSocket(port), overWebSocket(port, "delta"), overSubscription(port)],
  "event streams": (port) => [overEventStream(port), overEventStream(port, "delta")],
  polls: (port) => [overEventPoll(port, 5), overEventPoll(port)],
  "all of them, in turn,": (port) => [
    overWebSocket(port),
    overEventPoll(port),
    overEventStream(port, "delta"),
    overEventPoll(port, 5),
    overSubscription(port, "delta"),
  ],
};

const CASES = Object.keys(WAYS).flatMap((way) => [1, 2].map((seed) => ({ way, seed })));

test.each(CASES)(
  "over a network that cuts, resets, slices and delays, $way miss nothing (seed $seed)",
  { timeout: 60_000 },
  async ({ way, seed }) => {
    const random = seededRandom(seed);
    const { monitor, port } = await startServer();
    const proxy = await startFaultProxy(port);
    const history = createHistory();
    const publish = publisher(monitor, history);
    for (const jobId of JOBS) {
      await publish({ type: "plan", jobId, stages: STAGES.map((stage) => ({ stage })) });
    }
    const ways = (WAYS[way] as (typeof WAYS)[string])(proxy.port);
    const witness = inProcess(monitor);
    const watchers = JOBS.flatMap((jobId) => [
      startWatcher({ history, viewer: "witness", jobId, over: witness }),
      ...range(1, VIEWERS).map((n) => {
        const over = (turn: number) => ways[(n + turn) % ways.length] as WatcherTransport;
        return startWatcher({ history, viewer: `viewer ${n}`, jobId, over });
      }),
    ]);
    await until("everybody watches", () => watchers.every(({ cursor }) => cursor !== undefined));

    for (const step of range(1, STEPS)) {
      const batch = range(0, random.below(4)).map(() =>
        publish(anyEvent(random, random.pick(JOBS) as string, step)),
      );
      await Promise.all(batch);
      if (step % 2) anyFault(random, proxy, watchers);
      await turns(random.below(20));
    }
    for (const jobId of JOBS) await publish({ type: "job", jobId, status: "completed" });
    proxy.restore();
    for (const { ended } of watchers) await ended;

    let events = 0;
    for (const jobId of JOBS) {
      const job = (await monitor.get(jobId)) as JobSnapshot;
      history.head(jobId, job, job);
      events += (VIEWERS + 1) * (job.revision - 1);
    }
    history.check();
    expect(history.summary).toMatchObject({ jobs: 3, viewers: 6, events, skipped: 0 });
    expect(history.summary.published).toBeGreaterThan(300);
    expect(history.summary.resumed).toBeGreaterThan(watchers.length);
    expect(proxy.accepted - proxy.refused).toBeGreaterThan(2 * watchers.length);
    await until("nobody is left behind", () => {
      const { ws, sse, longPoll } = monitor.stats().viewers;
      return ws + sse + longPoll === 0;
    });
  },
);
