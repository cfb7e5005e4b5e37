import type { JobSnapshot, PublishedEvent } from "@org/workflow-monitor";
import { createHistory } from "@org/workflow-monitor/testing";
import type { ClientTransport, JobWatch } from "@org/workflow-monitor-client";
import { expect, test } from "vitest";
import { record, startClient } from "../support/client.js";
import { observeWatch } from "../support/client-history.js";
import { turns } from "../support/clock.js";
import { type FaultProxy, startFaultProxy } from "../support/fault-proxy.js";
import { range } from "../support/frames.js";
import { hastyHost } from "../support/hasty-host.js";
import { type Random, seededRandom } from "../support/random.js";
import { startServer } from "../support/server.js";
import { inTime, until } from "../support/wait.js";
import { inProcess, startWatcher } from "../support/watchers.js";

const JOBS = ["one", "two", "three"];
const STAGES = ["fetch", "build", "test", "ship"];
const STEPS = 120;

const WAYS: Record<string, ClientTransport[]> = {
  WebSocket: ["ws"],
  "event streams": ["sse"],
  polls: ["poll"],
  "the whole ladder": ["ws", "sse", "poll"],
};
const CASES = Object.keys(WAYS).flatMap((way) => [1, 2].map((seed) => ({ way, seed })));

/** Some event; some of them change nothing. */
function anyEvent(random: Random, jobId: string, step: number): PublishedEvent {
  const stage = random.pick(STAGES) as string;
  const kind = random.below(4);
  if (kind === 0) return { type: "job", jobId, message: `step ${step} "\\ é` };
  if (kind === 1) return { type: "stage", jobId, stage, status: "running" };
  if (kind === 2) return { type: "stage", jobId, stage, progress: step / 2 };
  return { type: "stage", jobId, stage, message: `step ${step}`, metadata: { step } };
}

/** One thing that happens to a connection, or to the whole network. */
function anyFault(random: Random, proxy: FaultProxy): void {
  const connection = random.pick(proxy.connections);
  const kind = random.below(9);
  if (kind <= 1) connection?.cut();
  else if (kind <= 3) connection?.reset();
  else if (kind === 4) connection?.slice(random.pick([1, 2, 13, 200]));
  else if (kind === 5) connection?.latency(random.below(15));
  else if (kind === 6) proxy.reset();
  else if (kind === 7) proxy.refuse();
  else proxy.restore();
}

/** The loop over a watch: its last state, told when it is over. */
async function loop(watch: JobWatch, over: () => void): Promise<JobSnapshot | undefined> {
  let last: JobSnapshot | undefined;
  for await (const job of watch) last = job;
  over();
  return last;
}

test.each(CASES)(
  "over a network that cuts, resets, refuses, slices and delays, a client over $way misses nothing (seed $seed)",
  { timeout: 60_000 },
  async ({ way, seed }) => {
    const random = seededRandom(seed);
    const { monitor, port } = await startServer();
    const proxy = await startFaultProxy(port);
    const history = createHistory();
    const publish = async (event: PublishedEvent) =>
      history.published(event.jobId, await monitor.publish(event), event);
    for (const jobId of JOBS) {
      await publish({ type: "plan", jobId, stages: STAGES.map((stage) => ({ stage })) });
    }
    const host = hastyHost();
    const client = startClient(proxy.port, { transports: WAYS[way] as ClientTransport[] }, host);
    const witnesses = JOBS.map((jobId) =>
      startWatcher({ history, viewer: "witness", jobId, over: inProcess(monitor) }),
    );
    // Two for each job.
    const watches = [...JOBS, ...JOBS].map((jobId, n) => {
      const watch = client.watch(jobId);
      const seen = record(watch);
      observeWatch(history, `viewer ${n}`, watch);
      return { watch, seen, last: loop(watch, () => seen.calls.push("over")) };
    });
    await until("everybody watches", () => watches.every(({ watch }) => watch.snapshot !== null));

    for (const step of range(1, STEPS)) {
      const batch = range(0, random.below(4)).map(() =>
        publish(anyEvent(random, random.pick(JOBS) as string, step)),
      );
      await Promise.all(batch);
      if (step % 2) anyFault(random, proxy);
      await turns(random.below(40));
    }
    for (const jobId of JOBS) await publish({ type: "job", jobId, status: "completed" });
    proxy.restore();
    for (const { ended } of witnesses) await ended;

    let events = 0;
    for (const jobId of JOBS) {
      const job = (await monitor.get(jobId)) as JobSnapshot;
      history.head(jobId, job, job);
      events += 3 * (job.revision - 1);
    }
    for (const { watch, seen, last } of watches) {
      const job = await inTime(`the end of ${watch.jobId}`, watch.finished(), 20_000);
      expect(job).toEqual(await monitor.get(watch.jobId));
      expect(await last).toBe(job);
      expect(seen).toMatchObject({ done: 1, gaps: [1] });
      expect(seen.revisions).toEqual(range(2, job.revision));
      expect(seen.calls.slice(-2)).toEqual(["done", "over"]);
    }
    history.check();
    expect(history.summary).toMatchObject({ jobs: 3, viewers: 7, events, skipped: 0, ends: 9 });
    expect(proxy.accepted - proxy.refused).toBeGreaterThan(4);
    await until("nothing is left behind", () => {
      const { ws, sse, longPoll } = monitor.stats().viewers;
      return ws + sse + longPoll + host.timers === 0;
    });
  },
);
