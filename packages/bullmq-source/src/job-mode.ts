import type { JobEvent, PlanEvent, StageEvent } from "@org/workflow-monitor";
import { isEnd, type Reported } from "./progress.js";
import type { Step } from "./steps.js";
import type { WatchedJob } from "./tracked.js";

/** Something to be said of a job: an event without its job, with its name as `type`. */
export type Saying =
  | ({ type: "plan" } & Omit<PlanEvent, "jobId">)
  | ({ type: "job" } & Omit<JobEvent, "jobId">)
  | ({ type: "stage" } & Omit<StageEvent, "jobId">);

/** What a job reports of itself: the stages to come, a stage, or how far the whole is. Remembers which stages are open. */
export function sayingsOf(job: WatchedJob, report: Reported): Saying[] {
  const { stages, stage, status, attempt, at, progress, reason, message, error, metadata } = report;
  const sayings: Saying[] = [];
  if (stages && job.root.children.size === 0) sayings.push({ type: "plan", stages });
  const more = {
    ...(at !== undefined && { timestamp: at }),
    ...(progress !== undefined && { progress }),
    ...(message !== undefined && { message }),
    ...(metadata !== undefined && { metadata }),
  };
  if (stage !== undefined) {
    job.open.delete(stage);
    if (!isEnd(status)) job.open.set(stage, attempt);
    sayings.push({
      ...{ type: "stage", stage, attempt, status: status ?? "running" },
      ...(reason !== undefined && { reason }),
      ...(error !== undefined && { error }),
      ...more,
    });
  } else if ([progress, message, metadata].some((each) => each !== undefined))
    sayings.push({ type: "job", ...more });
  return sayings;
}

/** A try is over without success: the stage that was reported last has failed, other open ones were left. */
export function closeOpen(job: WatchedJob, { error = "failed", at }: Step): Saying[] {
  const open = [...job.open].reverse();
  job.open.clear();
  const when = at === undefined ? {} : { timestamp: at };
  return open.map(([stage, attempt], index) =>
    index === 0
      ? { type: "stage", stage, attempt, status: "failed", error, ...when }
      : { type: "stage", stage, attempt, status: "cancelled", reason: "job_failed", ...when },
  );
}
