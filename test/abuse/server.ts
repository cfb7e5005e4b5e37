// The server under attack: a process of its own, so that its event loop is nobody else's.

import type { AddressInfo } from "node:net";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { allowAll, createWorkflowMonitor } from "@org/workflow-monitor";
import { workflowMonitorHttp } from "@org/workflow-monitor-http";
import { attachWebSocket } from "@org/workflow-monitor-ws";
import Fastify from "fastify";
import { answer } from "../../bench/child.js";

/** The job that the healthy viewers watch, and its updates a second. */
const HEALTHY = "healthy";
const UPDATES_PER_SECOND = 20;
/** A job of about 1.6 MB. */
const BIG = "big";
const BIG_STAGES = 5_000;

const monitor = createWorkflowMonitor({ authorize: allowAll, drainMs: 100 });
const app = Fastify();
await app.register(workflowMonitorHttp, { monitor });
attachWebSocket(app.server, { monitor });
await app.listen({ port: 0, host: "127.0.0.1" });

await monitor.publish({ type: "job", jobId: HEALTHY, status: "running" });
const stages = Array.from({ length: BIG_STAGES }, (_, at) => ({ stage: `stage-${at}` }));
await monitor.publish({ type: "plan", jobId: BIG, stages });

const now = () => process.hrtime.bigint();
const delay = monitorEventLoopDelay({ resolution: 1 });

// By the time that has passed: a process that stood still makes up for it, as an engine would.
const began = performance.now();
let said = 0;
setInterval(() => {
  const due = ((performance.now() - began) / 1_000) * UPDATES_PER_SECOND;
  if (said >= due) return;
  said = Math.ceil(due);
  void monitor.publish({ type: "job", jobId: HEALTHY, message: `${now()}` });
}, 5);

let bigTimer: NodeJS.Timeout | undefined;

const calls = {
  port: async () => (app.server.address() as AddressInfo).port,

  /** Begins a window of time. */
  begin: async () => {
    delay.reset();
    delay.enable();
  },

  /** Ends it: its longest stall, and what is there. */
  end: async () => {
    delay.disable();
    const { viewers } = monitor.stats();
    return { stallMs: delay.max / 1e6, viewers };
  },

  /** What is in memory when nothing is to be collected, in bytes. */
  memory: async () => {
    globalThis.gc?.();
    await sleep(100);
    globalThis.gc?.();
    return process.memoryUsage.rss();
  },

  /** Publishes so many further jobs, for lists. */
  jobs: async (count: number) => {
    for (let at = 0; at < count; at += 1_000) {
      const some = Array.from({ length: Math.min(1_000, count - at) }, (_, n) =>
        monitor.publish({ type: "job", jobId: `job-${at + n}`, status: "running" }),
      );
      await Promise.all(some);
      await sleep(1);
    }
  },

  /** Updates the big job, so many events at once, at this interval. */
  updateBig: async (events: number, everyMs: number) => {
    let round = 0;
    bigTimer = setInterval(() => {
      round += 1;
      for (let n = 0; n < events; n++) {
        const stage = `stage-${(n * 7 + round) % BIG_STAGES}`;
        void monitor.publish({ type: "stage", jobId: BIG, stage, message: `${round} ${n}` });
      }
    }, everyMs);
  },

  quiet: async () => clearInterval(bigTimer),
};

export type ServerCalls = typeof calls;
answer(calls);
