import { type PublishedEvent, printCursor, type WorkflowEvent } from "@org/workflow-monitor";
import type { ClientTransport } from "@org/workflow-monitor-client";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { anyEvents } from "../core/arbitraries.js";
import { record, startClient, testHost } from "../support/client.js";
import { ManualClock } from "../support/clock.js";
import { startFaultProxy } from "../support/fault-proxy.js";
import { range } from "../support/frames.js";
import { startServer } from "../support/server.js";
import { until } from "../support/wait.js";

const RUNS = { seed: 20_260_504, numRuns: 8, endOnFailure: true };

const cursorOf = ({ epoch, revision }: { epoch: string; revision: number }) =>
  printCursor({ epoch, revision });

describe.each(["ws", "sse"] as const)("over %s", (transport) => {
  const transports: ClientTransport[] = [transport];

  test("what patches make of a job is what the server answers, byte for byte", async () => {
    const server = await startServer();
    const client = startClient(server.port, { transports });
    let jobs = 0;
    let compared = 0;

    const run = async (events: readonly WorkflowEvent[]): Promise<void> => {
      jobs += 1;
      const jobId = `job-${jobs}`;
      await server.monitor.publish({ type: "job", jobId, status: "pending" });
      const watch = client.watch(jobId);
      /** What was shown, by cursor. */
      const shown = new Map<string, string>();
      watch.on("change", (job) => void shown.set(cursorOf(job), JSON.stringify(job)));
      let over = false;
      watch.on("done", () => {
        over = true;
      });
      await until("it is shown", () => shown.size > 0);
      for (const event of events) {
        const cursor = printCursor(
          await server.monitor.publish({ ...event, jobId } as PublishedEvent),
        );
        const { headers, body } = await server.poll(jobId);
        expect(headers.etag).toBe(`"${cursor}"`);
        await until("it is shown, or was over before", () => over || shown.has(cursor));
        if (!shown.has(cursor)) break;
        expect(shown.get(cursor)).toBe(body.toString());
        compared += 1;
      }
      watch.close();
    };
    await fc.assert(fc.asyncProperty(anyEvents, run), RUNS);
    expect(compared).toBeGreaterThan(RUNS.numRuns);
  });

  test("so it is after a connection that was lost between many of them", async () => {
    const server = await startServer();
    const proxy = await startFaultProxy(server.port);
    const clock = new ManualClock();
    const { now, monotonic: uptime, setTimeout } = clock;
    const host = testHost({ now, uptime, setTimeout, random: () => 0.5 });
    const jobId = "job";
    await server.monitor.publish({ type: "job", jobId, status: "running" });
    const watch = startClient(proxy.port, { transports }, host).watch(jobId);
    const seen = record(watch);
    const shows = (revision: number) =>
      until(`revision ${revision} is shown`, () => {
        const { retryAt } = watch.connection;
        if (retryAt !== null) clock.advance(Math.max(0, retryAt - now()));
        return watch.snapshot?.revision === revision;
      });
    await shows(1);
    for (const part of range(0, 4)) {
      for (const n of range(1, 60)) {
        server.engine.emit("stage", { jobId, stage: `stage-${n % 7}`, message: `${part} ${n}` });
        if (n === 30) proxy.cut();
      }
      const { revision } = await server.settled(jobId);
      await shows(revision);
      expect(JSON.stringify(watch.snapshot)).toBe((await server.poll(jobId)).body.toString());
    }
    expect(seen.gaps).toEqual([1]);
    expect(seen.revisions).toEqual(range(2, watch.snapshot?.revision ?? 0));
    expect(proxy.accepted).toBeGreaterThan(1);
  });
});
