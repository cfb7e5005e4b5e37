import { conclude } from "./reduce.js";
import type { JobState, StageSnapshot } from "./snapshot.js";
import { isTerminal } from "./status.js";

/**
 * One state of two that parted when a store lost its log: both were acknowledged, and what is over in
 * either is over. Of what only one of them can have, such as the message, it is the later one's; in
 * doubt, `mine`. SPEC R18.
 */
export function merge(mine: JobState, theirs: JobState): JobState {
  if (mine.run !== theirs.run) return mine.run > theirs.run ? mine : theirs;
  if (mine.done) return mine;
  const theirsCounts = theirs.done || theirs.updatedAt > mine.updatedAt;
  const [first, second] = theirsCounts ? [theirs, mine] : [mine, theirs];
  const draft: JobState = {
    ...first,
    ...(first.status === "pending" && { status: second.status, reason: second.reason }),
    stages: mergeStages(first.stages, second.stages),
    planned: mine.planned || theirs.planned,
    derived: mine.derived && theirs.derived,
    progress: Math.max(mine.progress, theirs.progress),
    createdAt: earlier(mine.createdAt, theirs.createdAt),
    startedAt: earlier(mine.startedAt, theirs.startedAt),
    updatedAt: mine.updatedAt > theirs.updatedAt ? mine.updatedAt : theirs.updatedAt,
  };
  conclude(draft, draft.updatedAt);
  return draft;
}

/** In the order of the first; of what it does not have, what has begun: a plan may have removed the rest. */
function mergeStages(first: StageSnapshot[], second: StageSnapshot[]): StageSnapshot[] {
  const others = new Map(second.map((stage) => [stage.stage, stage]));
  const merged = first.map((stage) => {
    const other = others.get(stage.stage);
    others.delete(stage.stage);
    return other ? further(stage, other) : stage;
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
