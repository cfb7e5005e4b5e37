import { once } from "node:events";
import { allowAll, createWorkflowMonitor, type PublishedEvent } from "@org/workflow-monitor";
import { redisStore } from "@org/workflow-monitor-redis";
import { Redis } from "ioredis";
import { answer } from "./child.js";
import { now } from "./clock.js";
import type { RedisPeerCalls } from "./messages.js";
import { beginning, JOB_ID, updateEvent } from "./payload.js";

/** A process that speaks to Redis: bare, with the client that our store uses, and through a monitor. */

const JOBS = 500;
const SENDERS = 4;
const CHANNEL = "bare";
let url = "";
let bare: Redis;
let subscriber: Redis;
let monitor: ReturnType<typeof createWorkflowMonitor>;
let messages = 0;

const jobOf = (jobs: "one" | "many", n: number): string =>
  jobs === "one" ? JOB_ID : `${JOB_ID}-${n % JOBS}`;

answer<RedisPeerCalls>({
  async open(to) {
    url = to;
    bare = new Redis(url);
    subscriber = new Redis(url);
    await subscriber.subscribe(CHANNEL);
    monitor = createWorkflowMonitor({ authorize: allowAll, store: redisStore({ url }) });
    const all = [JOB_ID, ...Array.from({ length: JOBS }, (_, n) => jobOf("many", n))];
    for (const jobId of all)
      await Promise.all(beginning(jobId).map((event) => monitor.publish(event)));
  },

  async echo(count, everyMs) {
    const times: number[] = [];
    for (let n = 0; n < count; n++) {
      await new Promise((resolve) => setTimeout(resolve, everyMs));
      const heard = once(subscriber, "message");
      const from = now();
      void bare.publish(CHANNEL, "x".repeat(500));
      await heard;
      times.push(now() - from);
    }
    return times;
  },

  async throughput(way, jobs, count, inFlight) {
    const events = Array.from({ length: count }, (_, n): PublishedEvent => {
      messages += 1;
      return { ...updateEvent(messages), jobId: jobOf(jobs, n) };
    });
    const from = now();
    let next = 0;
    // Several at a time, so that neither side waits for the other to be done with all.
    const sender = async () => {
      while (next < count) {
        const some = events.slice(next, next + inFlight / SENDERS);
        next += some.length;
        if (way === "publish") await Promise.all(some.map((event) => monitor.publish(event)));
        else {
          const pipeline = bare.pipeline();
          for (const event of some)
            pipeline.xadd(`bare:${event.jobId}`, "*", "event", JSON.stringify(event));
          await pipeline.exec();
        }
      }
    };
    await Promise.all(Array.from({ length: SENDERS }, sender));
    const perSecond = (count / (now() - from)) * 1_000;
    const { refused } = monitor.stats();
    if (refused > 0) throw new Error(`${refused} events were refused.`);
    const streams = new Set(events.map(({ jobId }) => `bare:${jobId}`));
    if (way === "xadd") await bare.unlink([...streams]);
    return perSecond;
  },
});
