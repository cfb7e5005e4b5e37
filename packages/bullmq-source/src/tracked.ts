import type { JobSnapshot, PlannedStage } from "@org/workflow-monitor";
import type { Facts } from "./facts.js";
import type { JobRef } from "./keys.js";
import type { Reported } from "./progress.js";
import type { QueueEvent } from "./queue-watch.js";

/** How a job ended, as an event told it: all that is left of one that was removed at its end. */
interface Ending {
  status: "completed" | "failed" | "cancelled";
  /** The event's place in its stream. */
  id: string;
  error?: string;
}

/** What the monitor was told of a job or stage in this run; the rest would be repetition. */
export interface Told {
  /** The last attempt that was said to run, and to have failed. */
  ran: number;
  failed: number;
  /** The last statement. */
  last: string;
}

const nothingTold = (): Told => ({ ran: 0, failed: 0, last: "" });

/** A BullMQ job that is followed: a watched job's root, a stage of one, or not yet known which. */
export interface Tracked extends JobRef {
  /** Its id as a stage; undefined: it was not asked for yet; null: it is none. */
  stage: string | null | undefined;
  /** Whether its own queue is watched; if not, it only matters as somebody's descendant or ancestor. */
  wanted: boolean;
  /** Undefined until it is known whose it is. */
  job: WatchedJob | undefined;
  parent: Tracked | undefined;
  children: Map<string, Tracked>;
  kidCount: number;
  /** As last read. Kept when the job is gone. */
  facts: Facts | undefined;
  name: string;
  /** Where its queue's stream stood when it was last looked at; undefined: it was not yet. */
  seenAt: string | undefined;
  gone: boolean;
  /** Events since the last look. */
  inbox: QueueEvent[];
  /** When the last event was written. */
  changedAt: number | undefined;
  /** It came back from a worker that did not finish it. */
  stalled: boolean;
  ending: Ending | undefined;
  /** Its parent was asked for that. */
  verdictAsked: boolean;
  /** What became of it in the eyes of its parent, when nothing else tells. */
  verdict: "completed" | "failed" | undefined;
  /**
   * What its attempts are more than BullMQ counts. A root begins each run with attempt 1: less than 0.
   * A child's go on within the run, also where BullMQ counts anew (`resetAttemptsMade`): more than 0.
   */
  attemptsBefore: number;
  /** Said in progress, not yet told. */
  reports: Reported[];
  told: Told;
  /** Descendants that led to it, and wait until it is known whose it is. */
  below: Tracked[];
  /** The ancestor that it waits for. */
  above: Tracked | undefined;
  /** What the monitor has of a job whose record was gone before it was seen. */
  recalled: JobSnapshot | undefined;
}

/** The descendants of a job's root. */
export interface Flow {
  /** In run order, leaves first. */
  order: Tracked[];
  stages: PlannedStage[];
  /** The same for the same plan in every process. */
  fingerprint: string;
}

/** A job of the monitor. */
export interface WatchedJob {
  readonly root: Tracked;
  readonly jobId: string;
  /** Undefined: the first, or whichever it is in. */
  run: number | undefined;
  /** It was over, and a further run is to begin. */
  isAgain: boolean;
  /** Its tracked jobs that are to be looked at before anything is said. */
  readonly unread: Set<Tracked>;
  /** Those whose statements may have changed. */
  readonly touched: Set<Tracked>;
  /** How many descendants it has. */
  size: number;
  /** Which of them has which id as a stage. */
  readonly stageIds: Map<string, string>;
  /** Its descendants and its plan; undefined: to be made anew. */
  flow: Flow | undefined;
  planTold: string;
  /** Something of it has begun in this run, and when. */
  begun: boolean;
  begunAt: number | undefined;
  /** Its root is over: everything is looked at once more, then its end is said. */
  ending: boolean;
  /** Stages that its root reported as running in this attempt. */
  readonly open: Map<string, number>;
}

export function createTracked(ref: JobRef, wanted: boolean): Tracked {
  return {
    ...ref,
    stage: undefined,
    wanted,
    job: undefined,
    parent: undefined,
    children: new Map(),
    kidCount: 0,
    facts: undefined,
    name: "",
    seenAt: undefined,
    gone: false,
    inbox: [],
    changedAt: undefined,
    stalled: false,
    ending: undefined,
    verdict: undefined,
    verdictAsked: false,
    attemptsBefore: 0,
    reports: [],
    told: nothingTold(),
    below: [],
    above: undefined,
    recalled: undefined,
  };
}

/** `formerRun`: the one in which it ended before. */
export function createWatchedJob(
  root: Tracked,
  jobId: string,
  formerRun: number | undefined,
): WatchedJob {
  return {
    root,
    jobId,
    run: formerRun,
    isAgain: formerRun !== undefined,
    unread: new Set(),
    touched: new Set(),
    size: 0,
    stageIds: new Map(),
    flow: undefined,
    planTold: "",
    begun: false,
    begunAt: undefined,
    ending: false,
    open: new Map(),
  };
}

/** A job whose record is gone has the stages open that the monitor has, the one that was reported last at the end. */
export function reopen({ root, open }: WatchedJob): void {
  const stages = root.recalled?.stages ?? [];
  const active = stages.filter(({ status }) => status === "running" || status === "waiting");
  active.sort((one, other) => one.updatedAt.localeCompare(other.updatedAt));
  for (const { stage, attempt } of active) open.set(stage, attempt);
}

/** A job and its descendants, children before their parents: in the order in which they run. */
export function leavesFirst(tracked: Tracked, into: Tracked[] = []): Tracked[] {
  for (const child of childrenOf(tracked)) leavesFirst(child, into);
  into.push(tracked);
  return into;
}

const numeric = new Intl.Collator("en", { numeric: true });

/** Children as they were added; those of the same millisecond by name, then by id. */
export function childrenOf({ children }: Tracked): Tracked[] {
  return [...children.values()].sort(
    (one, other) =>
      (one.facts?.createdAt ?? 0) - (other.facts?.createdAt ?? 0) ||
      numeric.compare(one.name, other.name) ||
      numeric.compare(one.key, other.key),
  );
}

/** Whether BullMQ is done with it. */
export const isOver = ({ gone, verdict, facts }: Tracked): boolean =>
  gone || (facts ? facts.state === "completed" || facts.state === "failed" : verdict !== undefined);

/** Whether a worker has taken it, in this run. */
export function hasBegun(tracked: Tracked): boolean {
  const { facts, gone, ending, verdict, told, attemptsBefore } = tracked;
  if (gone && (ending ? ending.status !== "cancelled" : verdict !== undefined)) return true;
  if (!facts) return false;
  // `started` is not counted anew with a run.
  if (attemptsBefore === 0) return facts.started > 0 || facts.made > 0;
  return told.ran > 0 || facts.state === "active" || facts.made + attemptsBefore > 0;
}

/** Everything is to be said once more, from the beginning. */
export function forgetTold(job: WatchedJob): void {
  job.planTold = "";
  for (const tracked of leavesFirst(job.root)) {
    tracked.told = nothingTold();
    job.touched.add(tracked);
  }
}
