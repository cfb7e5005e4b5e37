import { conclude, reduce } from "./reduce.js";
import type { JobState, StageSnapshot } from "./snapshot.js";
import { isTerminal } from "./status.js";

/**
 * One state of two that parted when a store lost its log: both were acknowledged, and what is over in
 * either is over. Of what only one of them can have, such as the message, it is the later one's; in
 * doubt, `mine`. SPEC R18.
 */
export function merge(mine: JobState, theirs: JobState): JobState {
  if (mine.run !== theirs.run) {
    const run = Math.max(mine.run, theirs.run);
    return merge(inRun(mine, run), inRun(theirs, run));
  }
  if (mine.done) return mine;
  const theirsCount = theirs.done || theirs.updatedAt > mine.updatedAt;
  const [later, sooner] = theirsCount ? [theirs, mine] : [mine, theirs];
  // Who was first after a loss may never have heard of the plan.
  const [plan, rest] = sooner.planned && !later.planned ? [sooner, later] : [later, sooner];
  const draft: JobState = {
    ...later,
    ...(later.status === "pending" && { status: sooner.status, reason: sooner.reason }),
    ...(plan !== later && described(later, plan)),
    stages: mergeStages(plan.stages, rest.stages),
    planned: plan.planned,
    derived: mine.derived && theirs.derived,
    progress: Math.max(mine.progress, theirs.progress),
    createdAt: earlier(mine.createdAt, theirs.createdAt),
    startedAt: earlier(mine.startedAt, theirs.startedAt),
    updatedAt: mine.updatedAt > theirs.updatedAt ? mine.updatedAt : theirs.updatedAt,
  };
  conclude(draft, draft.updatedAt);
  return draft;
}

/** What one says of the job as a whole, and where it says nothing, the other. */
const described = (one: JobState, other: JobState): Partial<JobState> => ({
  name: one.name ?? other.name,
  labels: Object.keys(one.labels).length > 0 ? one.labels : other.labels,
  metadata: one.metadata ?? other.metadata,
});

/** The state when that run begins; itself when it has. */
const inRun = (job: JobState, run: number): JobState =>
  job.run < run ? reduce(job, { type: "job", timestamp: job.updatedAt, run }) : job;

/** In the order of the plan; of what is not in it, what has begun: the plan may have removed the rest. */
function mergeStages(plan: StageSnapshot[], rest: StageSnapshot[]): StageSnapshot[] {
  const others = new Map(rest.map((stage) => [stage.stage, stage]));
  const merged = plan.map((stage) => {
    const other = others.get(stage.stage);
    others.delete(stage.stage);
    const now = other ? further(stage, other) : stage;
    if (now === stage) return now;
    const { name, weight, dependsOn, maxAttempts, allowFailure, planned } = stage;
    return { ...now, name, weight, dependsOn, maxAttempts, allowFailure, planned };
  });
  const begun = [...others.values()].filter(({ status }) => status !== "pending");
  return [...merged, ...begun];
}

function further(first: StageSnapshot, second: StageSnapshot): StageSnapshot {
  if (first.attempt !== second.attempt) return first.attempt > second.attempt ? first : second;
  const [one, other] = [rank(first), rank(second)];
  if (one !== other) return one > other ? first : second;
  const later = second.updatedAt > first.updatedAt && one < ENDED ? second : first;
  const progress = Math.max(first.progress, second.progress);
  return progress === later.progress ? later : { ...later, progress };
}

const ENDED = 2;

/** How far a stage is in its attempt. What only the job's end has ended may have got further elsewhere. */
function rank({ status, reason }: StageSnapshot): number {
  if (status === "pending") return 0;
  if (!isTerminal(status)) return 1;
  return reason === "not_run" || reason === "implied" || reason?.startsWith("job_")
    ? ENDED
    : ENDED + 1;
}

/** Null: it has not happened there. */
function earlier<T extends string | null>(one: T, other: T): T {
  if (one === null || other === null) return one ?? other;
  return one < other ? one : other;
}
