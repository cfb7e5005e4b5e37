import { digest, endingOf, isRetryByHand } from "./digest.js";
import type { Look } from "./facts.js";
import { compareStreamIds } from "./keys.js";
import type { Report } from "./progress.js";
import type { Registry } from "./registry.js";
import { startRun } from "./say.js";
import { isOver, type Tracked, type WatchedJob } from "./tracked.js";

export interface IntakeOptions {
  registry: Registry;
  /** What a job's progress says; JSON values in, never throws. */
  parse(progress: unknown, of: Tracked): Report | undefined;
  /** Something is to be looked at before more is said of its job. */
  lookNext(tracked: Tracked): void;
  /** Says what is new of a job at once. */
  speak(job: WatchedJob): void;
}

/** Takes in what a look at a job found, with the events that it covers. Returns the watched job that it belongs to. */
export function takeIn(one: Tracked, look: Look, options: IntakeOptions): WatchedJob | undefined {
  const { registry, parse, lookNext } = options;
  const isCovered = ({ id }: { id: string }) => compareStreamIds(id, look.at) <= 0;
  const events = one.inbox.filter(isCovered);
  if (one.looked && events.some(({ name }) => name === "added")) return bury(one, options);
  one.inbox = one.inbox.filter((event) => !isCovered(event));

  const { facts } = look;
  const isFirst = !one.looked;
  one.looked = true;
  one.gone = facts === undefined;
  one.ending = facts ? undefined : (endingOf(events) ?? one.ending);
  if (facts) {
    one.facts = facts;
    one.name = facts.name;
  }
  digest(one, events, (progress) => parse(progress, one));
  if (isFirst && one.reports.length === 0) recall(one, options);

  if (!one.job) {
    const ancestor = registry.place(one);
    if (ancestor) lookNext(ancestor);
  }
  const { job, parent } = one;
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
  if (events.some(isRetryByHand) || job.isAgain) beginAnew(one, job);
  return job;
}

/** What its record has of its progress. A retry does not reset that: then nobody knows of which attempt it is. */
function recall(one: Tracked, { parse }: IntakeOptions): void {
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

/** Its id was given to a new job: the former one is over, the new one is looked at anew. */
function bury(one: Tracked, { registry, lookNext, speak }: IntakeOptions): undefined {
  const { job } = one;
  const birth = one.inbox.findIndex(({ name }) => name === "added");
  const anew = one.inbox.slice(birth);
  const id = one.inbox[birth]?.id ?? "0-0";
  one.ending = endingOf(one.inbox.slice(0, birth)) ?? { status: "cancelled", id };
  one.gone = true;
  one.inbox = [];
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
