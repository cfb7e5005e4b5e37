import { endingOf } from "./digest.js";
import { type JobRef, jobRef, type QueueRef } from "./keys.js";
import type { QueueEvent } from "./queue-watch.js";
import type { Reader } from "./reader.js";

/** A job that ended and left no record, and what its queue's event stream still tells of it. */
export interface Gone extends JobRef {
  /** Its name, if the stream still tells; else empty. */
  name: string;
  /** At most: that it was added, its last progress, how it ended. */
  events: QueueEvent[];
}

/**
 * Reads a queue's stream after one place and up to another, and returns the jobs in it that ended and
 * left no record: the last `limit`, in the order in which they ended.
 */
export async function readBacklog(
  reader: Pick<Reader, "eventsOfGone">,
  queue: QueueRef,
  { after, upTo, limit }: { after: string; upTo: string; limit: number },
): Promise<Gone[]> {
  const jobs = new Map<string, QueueEvent[]>();
  for (let from: string | undefined = after; from !== undefined; ) {
    const page = await reader.eventsOfGone(queue, from, upTo);
    for (const event of page.events) note(jobs, event);
    while (jobs.size > limit) jobs.delete(jobs.keys().next().value as string);
    from = page.next;
  }
  return [...jobs].flatMap(([id, events]) => {
    if (!endingOf(events)) return [];
    const name = events.find(({ name }) => name === "added")?.jobName ?? "";
    return [{ ...jobRef(queue, id), name, events }];
  });
}

const ENDS = new Set(["completed", "failed", "removed"]);

function note(jobs: Map<string, QueueEvent[]>, event: QueueEvent): void {
  const { jobId, name } = event;
  if (jobId === undefined) return;
  const events = jobs.get(jobId) ?? [];
  const added = events.filter((former) => former.name === "added");
  if (name === "added") jobs.set(jobId, [event]);
  else if (name === "waiting")
    jobs.set(jobId, added); // an end before it was not the last one
  else if (name === "progress") jobs.set(jobId, [...added, event]);
  else if (ENDS.has(name)) {
    jobs.delete(jobId);
    jobs.set(jobId, [...events, event].slice(-4));
  }
}
