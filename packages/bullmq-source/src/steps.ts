import type { StageEvent, Status } from "@org/workflow-monitor";
import { timeOf } from "./keys.js";
import type { Told, Tracked } from "./tracked.js";

/** One thing to be said of a BullMQ job: attempt n is now this. */
export interface Step {
  attempt: number;
  status: Status;
  reason: string | null;
  /** Milliseconds since 1970; undefined: nobody knows. */
  at: number | undefined;
  error?: string;
  /** Of an end: the same in every process, so that a late echo cannot end a later run. */
  id?: string;
}

/** How many failed tries are told at most; a monitor keeps as many. */
const MOST_FAILURES = 10;

/**
 * The way that BullMQ's record proves, oldest first; the last step is what is now. A look may come
 * late: what must have been before is said before, so that every process tells the same.
 */
export function stepsOf(tracked: Tracked): Step[] {
  const { facts, gone, told, attemptsBefore } = tracked;
  const made = (facts?.made ?? 0) + attemptsBefore;
  if (gone) return lastSteps(tracked, Math.max(told.ran, made, 1));
  if (!facts) return [];

  const { state, processedAt, finishedAt, createdAt, failedReason, paused } = facts;
  if (state === "completed" || state === "failed") {
    const attempt = Math.max(made, 1);
    const end = { attempt, status: state, reason: null, at: finishedAt, id: `${finishedAt}` };
    return [
      ...failures(tracked, attempt - 1),
      running(attempt, processedAt),
      state === "failed" ? { ...end, error: failedReason ?? "failed" } : end,
    ];
  }

  const attempt = made + 1;
  const before = failures(tracked, made);
  if (state === "active") return [...before, running(attempt, processedAt)];
  const blockedBy = { delayed: "delayed", "waiting-children": "waiting_children", waiting: null };
  const reason = blockedBy[state] ?? (paused ? "paused" : null);
  // Of a retry the record does not say whether it has been active and come back: who saw it knows.
  const begun = made === 0 && attemptsBefore === 0 ? facts.started > 0 : told.ran === attempt;
  const at = tracked.changedAt;
  if (begun) {
    const why = tracked.stalled ? "stalled" : (reason ?? "requeued");
    const waiting = { attempt, status: "waiting", reason: why, at } as const;
    return [...before, running(attempt, processedAt), waiting];
  }
  if (made > 0) return [...before, { attempt, status: "pending", reason: RETRYING, at }];
  return [{ attempt, status: "pending", reason, at: createdAt }];
}

export const RETRYING = "retrying";

/** The tries that failed before, up to this one. Only the last one's reason and time are known. */
function failures({ facts, told, changedAt }: Tracked, last: number): Step[] {
  const { failedReason, processedAt, state } = facts ?? {};
  // BullMQ keeps it until a job is retried by hand: what was before is of no concern then.
  if (failedReason === undefined) return [];
  const steps: Step[] = [];
  for (
    let attempt = Math.max(1, told.failed + 1, last - MOST_FAILURES + 1);
    attempt <= last;
    attempt++
  ) {
    const isLatest = attempt === last && state !== "failed";
    const isNow = isLatest && state !== "active" && state !== "completed";
    const at = isNow ? changedAt : processedAt;
    const failed = { attempt, status: "failed", reason: null, at } as const;
    steps.push(
      running(attempt, processedAt),
      isLatest ? { ...failed, error: failedReason } : failed,
    );
  }
  return steps;
}

/** Of a job whose record is gone: what events or its parent tell, else that it was removed. */
function lastSteps(tracked: Tracked, attempt: number): Step[] {
  const { ending, verdict, facts } = tracked;
  const status = ending?.status ?? verdict ?? "cancelled";
  const at = ending ? timeOf(ending.id) : undefined;
  const end: Step = {
    ...{ attempt, status, at },
    reason: status === "cancelled" ? "removed" : null,
    ...(ending && { id: ending.id }),
    ...(status === "failed" && { error: ending?.error ?? "failed" }),
  };
  return status === "cancelled" ? [end] : [running(attempt, facts?.processedAt ?? at), end];
}

function running(attempt: number, at: number | undefined): Step {
  return { attempt, status: "running", reason: null, at };
}

/** Those of the steps that were not told yet; they count as told from here on. */
export function untold(steps: readonly Step[], told: Told): Step[] {
  return steps.filter((step, index) => {
    const { attempt, status, reason } = step;
    if (index < steps.length - 1) {
      if (attempt <= (status === "running" ? told.ran : told.failed)) return false;
    } else {
      const last = `${attempt} ${status} ${reason}`;
      if (last === told.last) return false;
      told.last = last;
    }
    if (status === "running") told.ran = Math.max(told.ran, attempt);
    if (status === "failed") told.failed = Math.max(told.failed, attempt);
    return true;
  });
}

/** A step as a stage event's fields. */
export function stageFields({ attempt, status, reason, at, error }: Step) {
  return {
    ...{ attempt, status, reason },
    ...(at !== undefined && { timestamp: at }),
    ...(error !== undefined && { error }),
  } satisfies Omit<StageEvent, "jobId" | "stage">;
}
