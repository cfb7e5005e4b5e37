import type { PublishedEvent } from "@org/workflow-monitor";
import { answer } from "./child.js";
import type { PublisherCalls } from "./messages.js";
import { beginning, JOB_ID, monitorWithJob, progressEvent, updateEvent } from "./payload.js";
import { profile } from "./profiler.js";

/** A process that publishes, and that nobody watches. */

const monitor = await monitorWithJob();
let messages = 0;
let lastRevision = beginning().length;
let jobs = 0;

answer<PublisherCalls>({
  async publish(kind, count, inFlight) {
    const events = kind === "message" ? messagesOfJob(count) : await progressOfJobs(count);
    const cost = await cpuOf(async () => {
      for (let from = 0; from < count; from += inFlight) {
        const batch = events.slice(from, from + inFlight);
        await Promise.all(batch.map((event) => monitor.publish(event)));
      }
    });
    const { refused } = monitor.stats();
    if (refused > 0) throw new Error(`${refused} events were refused.`);
    if (kind === "message") await assertRevisions(count);
    else await endJobs(new Set(events.map(({ jobId }) => jobId)));
    return cost / count;
  },

  async stringify(count) {
    const job = await monitor.get(JOB_ID);
    if (!job) throw new Error("There is no job.");
    let bytes = 0;
    const cost = await cpuOf(async () => {
      for (let n = 0; n < count; n++) bytes += JSON.stringify(job).length;
    });
    return { cost: cost / count, bytes: bytes / count };
  },

  profile,
});

/** Each message became one. */
async function assertRevisions(count: number): Promise<void> {
  const { revision = 0 } = (await monitor.get(JOB_ID)) ?? {};
  if (revision !== lastRevision + count) throw new Error(`${count} events, but ${revision} now.`);
  lastRevision = revision;
}

function messagesOfJob(count: number): PublishedEvent[] {
  return Array.from({ length: count }, () => {
    messages += 1;
    return updateEvent(messages);
  });
}

/** Each is one percent more: a hundred of a job, which is like the one of the messages. */
async function progressOfJobs(count: number): Promise<PublishedEvent[]> {
  const events: PublishedEvent[] = [];
  let jobId = "";
  for (let n = 0; n < count; n++) {
    if (n % 100 === 0) {
      jobs += 1;
      jobId = `${JOB_ID}-${jobs}`;
      for (const event of beginning(jobId)) await monitor.publish(event);
    }
    events.push(progressEvent(jobId, (n % 100) + 1));
  }
  return events;
}

/** A monitor with ever more running jobs would be another measurement. */
async function endJobs(jobIds: ReadonlySet<string>): Promise<void> {
  for (const jobId of jobIds) await monitor.publish({ type: "job", jobId, status: "completed" });
}

/** Microseconds of this process's CPU. */
async function cpuOf(work: () => Promise<void>): Promise<number> {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return user + system;
}
