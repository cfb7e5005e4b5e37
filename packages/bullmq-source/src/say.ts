import type { JobEvent, PlanEvent, StageEvent } from "@org/workflow-monitor";
import { flowOf, flowStep, stageStatements } from "./flow-mode.js";
import { closeOpen, type Saying, sayingsOf } from "./job-mode.js";
import { timeOf } from "./keys.js";
import { RETRYING, type Step, stepsOf, untold } from "./steps.js";
import { forgetTold, hasBegun, isOver, type Tracked, type WatchedJob } from "./tracked.js";

/** Where statements go: as `type`, and the event of that type. */
type Utter = (saying: Saying) => void;

/**
 * Says what is new of a job, in an order that the monitor keeps: the plan, that it runs, its stages,
 * and its end after everything else. Returns whether it has ended.
 */
export function say(job: WatchedJob, emit: Emit): boolean {
  const { root } = job;
  for (const tracked of job.touched) begin(job, tracked);
  const steps = stepsOf(root);
  const last = steps.at(-1);
  if (!last) return false;

  const common = { jobId: job.jobId, ...(job.run !== undefined && { run: job.run }) };
  const utter = ({ type, ...fields }: Saying) => {
    const event = { ...common, ...fields };
    if (type === "plan") emit("plan", event as PlanEvent);
    else if (type === "stage") emit("stage", event as StageEvent);
    else emit("job", event);
  };
  const report = (upToAttempt: number) => {
    const due = root.reports.filter(({ attempt }) => attempt <= upToAttempt);
    root.reports = root.reports.filter(({ attempt }) => attempt > upToAttempt);
    for (const each of due) sayingsOf(job, each).forEach(utter);
  };

  const isFlow = root.children.size > 0;
  const isEnd = isOver(root);
  const now = isFlow && !isEnd ? flowStep(job, last) : last;
  const isNew = root.told.last === "";
  introduce(job, now, utter);
  for (const step of untold([...steps.slice(0, -1), now], root.told)) {
    if (step === last && isEnd) break;
    if (isNew && isFirstWord(step) && (!isFlow || step.reason === null)) continue; // introduced
    if (step.status === "failed") {
      report(step.attempt);
      closeOpen(job, step).forEach(utter);
    }
    const isSaid = step.reason === RETRYING && steps.at(-2)?.status === "failed";
    if (!isSaid) utter(jobStatement(job, step, now));
  }
  // Of a job that never began the end comes first: its stages would imply another.
  const saysStages = isFlow && (!isEnd || root.told.ran > 0);
  if (saysStages) for (const fields of stageStatements(job)) utter({ type: "stage", ...fields });
  job.touched.clear();
  if (job.begun) report(Number.POSITIVE_INFINITY);
  if (!isEnd) return false;
  if (last.status === "failed") closeOpen(job, last).forEach(utter);
  utter(jobStatement(job, last, now));
  return true;
}

export interface Emit {
  (name: "plan", event: PlanEvent): void;
  (name: "job", event: JobEvent): void;
  (name: "stage", event: StageEvent): void;
}

const isFirstWord = ({ status, attempt }: Step) => status === "pending" && attempt === 1;

/** A job's name as a label of the monitor's. */
export const labelOf = (name: string): string => name.slice(0, 256);

/** The first word of a job: its plan, or that it is pending. */
function introduce(job: WatchedJob, now: Step, utter: Utter): void {
  const { root } = job;
  const createdAt = root.facts?.createdAt ?? (root.ending && timeOf(root.ending.id));
  const labels = {
    queue: root.queue.name,
    ...(root.name && { name: labelOf(root.name) }),
  };
  const common = { labels, ...(createdAt !== undefined && { timestamp: createdAt }) };
  if (root.children.size > 0) {
    const { stages, fingerprint } = flowOf(job);
    if (fingerprint === job.planTold) return;
    job.planTold = fingerprint;
    utter({ type: "plan", ...common, id: `plan:${fingerprint}`, name: root.name || null, stages });
  } else if (root.told.last === "") {
    const reason = isFirstWord(now) ? now.reason : null;
    utter({ type: "job", ...common, status: "pending", reason });
  }
}

/** A step of the root, as the job's own. A job has no attempts: after each of its root's that failed it waits. */
function jobStatement(job: WatchedJob, step: Step, now: Step): Saying {
  const { attempt, status, reason, error, at, id } = step;
  const isRetry = reason === RETRYING || (status === "failed" && step !== now);
  const begunAt = status === "running" && attempt === 1 ? (job.begunAt ?? at) : at;
  const common = { type: "job", ...(begunAt !== undefined && { timestamp: begunAt }) } as const;
  if (isRetry) {
    const failed = status === "failed" ? attempt : attempt - 1;
    const again = { ...common, status: "waiting", reason: RETRYING, error: error ?? null } as const;
    return { ...again, ...inOrder(job, `retry:${failed}`) };
  }
  const isRun = status === "running" && reason === null;
  return {
    ...{ ...common, status, reason },
    ...(attempt > 1 && (isRun || status === "completed") && { error: null }),
    ...(error !== undefined && { error }),
    ...(isRun && inOrder(job, `run:${attempt}`)),
    ...(id !== undefined && { id: `end:${id}` }),
  };
}

/**
 * A job runs, waits and runs again: the monitor cannot know which word is older, unless each has an
 * id, the same in every process. A root that was taken more often than it was tried has been put
 * back: such words may come again.
 */
function inOrder({ root, run = 1 }: WatchedJob, what: string): { id?: string } {
  const { started = 0, made = 0, state } = root.facts ?? {};
  const tries = state === "active" ? made + 1 : made;
  return root.children.size === 0 && started <= tries ? { id: `${what}:${run}` } : {};
}

/** A job runs from the moment that something of it does. */
function begin(job: WatchedJob, tracked: Tracked): void {
  if (!hasBegun(tracked)) return;
  job.begun = true;
  // In a later run, children that are over since a former one say nothing of when it began.
  if (job.run !== undefined && tracked !== job.root && isOver(tracked)) return;
  const { processedAt } = tracked.facts ?? {};
  if (processedAt === undefined) return;
  job.begunAt = Math.min(job.begunAt ?? processedAt, processedAt);
}

/**
 * BullMQ counts tries, not runs. More tries than a job may have were begun by hand: such a run is
 * called by the number of its first try, so that every process calls it the same.
 */
export function learnRun(job: WatchedJob): void {
  const { facts } = job.root;
  if (!facts) return;
  const before = isOver(job.root) ? facts.made - 1 : facts.made;
  if (before >= facts.attempts) startRun(job, before + 1, before);
}

/** Begins this run, unless it has begun already; `before`: how many tries there had been. */
export function startRun(job: WatchedJob, run: number, before: number): void {
  if (run <= (job.run ?? 1)) return;
  job.run = run;
  job.root.attemptsBefore = -before;
  job.begun = false;
  job.begunAt = undefined;
  job.open.clear();
  forgetTold(job);
}
