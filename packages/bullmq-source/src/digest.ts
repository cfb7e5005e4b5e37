import { timeOf } from "./keys.js";
import { coalesce, type Report, type Reported } from "./progress.js";
import type { QueueEvent } from "./queue-watch.js";
import type { Tracked } from "./tracked.js";

const FINISHED = new Set<string | undefined>(["completed", "failed"]);

/** Whether an event says that a job which was over waits again: somebody retried it by hand. */
export const isRetryByHand = ({ name, prev }: QueueEvent): boolean =>
  name === "waiting" && FINISHED.has(prev);

/** Whether it ends an activation without ending the job: perhaps a try failed. */
const isSetback = ({ name, prev }: QueueEvent): boolean =>
  name === "delayed" || (name === "waiting" && prev === "active");

/**
 * Takes in what a job's events tell beyond its record; `events` are those that the record covers.
 * The events do not say in which attempt they happened: counted backwards from the record, they do.
 */
export function digest(
  tracked: Tracked,
  events: readonly QueueEvent[],
  parse: (progress: unknown) => Report | undefined,
): void {
  const { facts } = tracked;
  const over = facts?.state === "completed" || facts?.state === "failed";
  const made = (facts?.made ?? 0) + tracked.attemptsBefore;
  const attempt = Math.max(1, over ? made : made + 1, tracked.told.ran);
  let setbacks = events.filter(isSetback).length;
  const reports: Reported[] = [];
  for (const event of events) {
    tracked.changedAt = timeOf(event.id);
    if (isSetback(event)) setbacks -= 1;
    if (event.name === "stalled") tracked.stalled = true;
    else if (event.name === "active") tracked.stalled = false;
    else if (event.name === "progress") {
      const report = parse(event.data);
      const of = Math.max(1, tracked.told.ran, attempt - setbacks);
      if (report) reports.push({ ...report, attempt: of, at: timeOf(event.id) });
    }
  }
  tracked.reports = coalesce([...tracked.reports, ...reports]);
}

/** How the events say that a job ended; undefined when they do not, or when it began again since. */
export function endingOf(events: readonly QueueEvent[]): Tracked["ending"] {
  let ending: Tracked["ending"];
  for (const { name, id, failedReason, prev } of events) {
    if (name === "completed") ending = { status: "completed", id };
    else if (name === "failed") ending = { status: "failed", id, error: failedReason || "failed" };
    else if (name === "removed") {
      // What is over can be removed, too: it stays what it was.
      if (!FINISHED.has(prev)) ending = { status: "cancelled", id };
    } else if (name === "waiting" || name === "added") ending = undefined;
  }
  return ending;
}
