import { digest, endingOf, isRetryByHand } from "./digest.js";
import type { Look } from "./facts.js";
import { compareStreamIds, STREAM_START } from "./keys.js";
import type { Report } from "./progress.js";
import type { QueueEvent } from "./queue-watch.js";
import type { Recall } from "./recall.js";
import type { Registry } from "./registry.js";
import { learnRun, startRun } from "./say.js";
import { isOver, type Tracked, type WatchedJob } from "./tracked.js";

export interface IntakeOptions {
  registry: Registry;
  recall: Pick<Recall, "eventsOf" | "found" | "missed">;
  /** What a job's progress says; JSON values in, never throws. */
  parse(progress: unknown, of: Tracked): Report | undefined;
  /** Something is to be looked at before more is said of its job. */
  lookNext(tracked: Tracked): void;
  /** Says what is new of a job at once. */
  speak(job: WatchedJob): void;
}

/** Takes in what a look at a job found, with the events that it covers. Returns the watched job that it belongs to. */
export function takeIn(one: Tracked, look: Look, options: IntakeOptions): WatchedJob | undefined {
  const { registry, recall, parse, lookNext } = options;
  const isCovered = ({ id }: { id: string }) => compareStreamIds(id, look.at) <= 0;
  const events = one.inbox.filter(isCovered);
  if (events.some((event) => isRebirth(event, one))) return bury(one, options);
  one.inbox = one.inbox.filter((event) => !isCovered(event));

  const { facts } = look;
  const isFirst = one.seenAt === undefined;
  // A child that was gone before it was seen: its parent still knows it.
  if (isFirst && !facts && one.parent) events.unshift(...recall.eventsOf(one.key));
  one.seenAt = look.at;
  one.gone = facts === undefined;
  one.ending = facts ? undefined : (endingOf(events) ?? one.ending);
  if (facts) {
    one.facts = facts;
    one.name = facts.name;
  } else one.name ||= events.find(({ name }) => name === "added")?.jobName ?? "";

  if (!one.job) {
    const ancestor = registry.place(one);
    if (ancestor) lookNext(ancestor);
  }
  const { job, parent } = one;
  // It is older than this source: monitors may know more of it.
  if (isFirst && !events.some(({ name }) => name === "added")) {
    if (job?.root === one) recall.found(job);
    else if (!job && one.ending) recall.missed(one, events);
  }
  if (job && (events.some(isRetryByHand) || job.isAgain)) beginAnew(one, job);
  if (job?.root === one) learnRun(job);
  digest(one, events, (progress) => parse(progress, one));
  if (isFirst && one.reports.length === 0) readProgressOf(one, options);

  if (!job) return undefined;
  job.unread.delete(one);
  job.touched.add(one);
  if (parent && facts && facts.parentKey !== parent.key) {
    registry.detach(one);
    lookNext(registry.add(one, true));
    return job;
  }
  if (parent && one.stage === undefined) registry.nameStage(one);
  if (parent && one.gone && !one.ending) askForVerdict(one, options);
  if (look.kidCount !== undefined) one.kidCount = look.kidCount;
  if (look.kids) for (const child of registry.grow(one, look.kids)) lookNext(child);
  return job;
}

/** What its record has of its progress. A retry does not reset that: then nobody knows of which attempt it is. */
function readProgressOf(one: Tracked, { parse }: IntakeOptions): void {
  const { progress, processedAt: at, started = 2, made = 0 } = one.facts ?? {};
  if (progress === undefined || started > 1 || made > 1) return;
  try {
    const report = parse(JSON.parse(progress), one);
    if (report) one.reports.push({ ...report, attempt: 1, at });
  } catch {
    // No JSON: `updateProgress(undefined)` leaves that.
  }
}

/** The record of a child is gone and no event says why: its parent's may. */
function askForVerdict(one: Tracked, { lookNext }: IntakeOptions): void {
  const { parent } = one;
  if (one.verdictAsked || !parent || parent.gone) return;
  one.verdictAsked = true;
  parent.kidCount = 0; // so that all are listed
  lookNext(parent);
}

/** It was over, and works again. */
function beginAnew(one: Tracked, job: WatchedJob): void {
  const made = one.facts?.made ?? 0;
  if (one === job.root) {
    job.isAgain = false;
    const before = isOver(one) ? made - 1 : made;
    startRun(job, Math.max(before, job.run ?? 1) + 1, before);
  } else if (made + one.attemptsBefore + 1 <= one.told.ran) {
    one.attemptsBefore = one.told.ran - made;
  }
}

/** Whether a life begins: after the last look a job was added under its id, or a root was retried by hand. */
const isRebirth = (event: QueueEvent, { seenAt, parent }: Tracked): boolean =>
  (event.name === "added" || (!parent && isRetryByHand(event))) &&
  seenAt !== undefined && // and an event of what was seen may come late
  compareStreamIds(event.id, seenAt) > 0;

/** One life is over and another has begun since the last look: the end of the first is told, the other one is looked at anew. */
function bury(one: Tracked, { registry, parse, lookNext, speak }: IntakeOptions): undefined {
  const { job } = one;
  const birth = one.inbox.findIndex((event) => isRebirth(event, one));
  const former = one.inbox.slice(0, birth);
  const anew = one.inbox.slice(birth);
  one.inbox = [];
  digest(one, former, (progress) => parse(progress, one));
  const ending = endingOf(former) ?? one.ending;
  if (ending || !isOver(one)) {
    one.gone = true;
    one.ending = ending ?? { status: "cancelled", id: anew[0]?.id ?? STREAM_START };
  }
  if (job?.root === one) {
    job.unread.clear();
    job.ending = true;
    job.touched.add(one);
    speak(job);
  } else if (job) registry.detach(one);
  const next = registry.add(one, true);
  next.inbox.push(...anew);
  lookNext(next);
}
