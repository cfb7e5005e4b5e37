import { allowAll, createWorkflowMonitor, type WorkflowMonitor } from "@org/workflow-monitor";
import { redisStore } from "@org/workflow-monitor-redis";
import { answer } from "../child.js";
import { now } from "../clock.js";
import type { Cpu } from "../messages.js";
import { beginning, updateEvent } from "../payload.js";

export type ScalingPublisherCalls = {
  /** Begins so many jobs: `0`, `1` and so on. */
  begin(redis: string, jobs: number): Promise<void>;
  /** So many updates a second, of each job in turn; resolves when the last is stored, to the seconds that it took. */
  publish(updates: number, perSecond: number): Promise<number>;
  cpu(): Promise<Cpu>;
};

/** A process that publishes to many jobs, and that nobody watches. */

let monitor: WorkflowMonitor;
let jobs = 0;
let sent = 1; // the 0th says what was said at the beginning

answer<ScalingPublisherCalls>({
  async begin(redis, count) {
    monitor = createWorkflowMonitor({ authorize: allowAll, store: redisStore({ url: redis }) });
    jobs = count;
    for (let job = 0; job < jobs; job++) {
      for (const event of beginning(`${job}`)) await monitor.publish(event);
    }
  },
  async publish(updates, perSecond) {
    const from = now();
    const stored: Promise<unknown>[] = [];
    while (stored.length < updates) {
      const due = Math.min(updates, ((now() - from) / 1_000) * perSecond);
      for (; stored.length < due; sent++) {
        stored.push(monitor.publish({ ...updateEvent(sent), jobId: `${sent % jobs}` }));
      }
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await Promise.all(stored);
    return (now() - from) / 1_000;
  },
  async cpu() {
    return process.cpuUsage();
  },
});
