import type { StageEvent } from "@org/workflow-monitor";
import { fingerprint } from "./keys.js";
import { type Step, stageFields, stepsOf, untold } from "./steps.js";
import {
  childrenOf,
  type Flow,
  hasBegun,
  isOver,
  leavesFirst,
  type Tracked,
  type WatchedJob,
} from "./tracked.js";

/** The descendants of a flow's root are the stages of its job. */
export function flowOf(job: WatchedJob): Flow {
  if (job.flow) return job.flow;
  const order = leavesFirst(job.root).filter((tracked) => tracked !== job.root);
  const stages = order.flatMap((tracked) => {
    const { stage, name, facts } = tracked;
    if (!stage) return [];
    const dependsOn = childrenOf(tracked).flatMap((child) => child.stage ?? []);
    const { mayFail = false, attempts = 1 } = facts ?? {};
    return { stage, name: name || stage, dependsOn, allowFailure: mayFail, maxAttempts: attempts };
  });
  job.flow = { order, stages, fingerprint: fingerprint(JSON.stringify(stages)) };
  return job.flow;
}

/** What is new of the stages, in run order. */
export function* stageStatements(job: WatchedJob): Generator<Omit<StageEvent, "jobId">> {
  const { order } = flowOf(job);
  const touched =
    job.touched.size > 10
      ? order.filter((tracked) => job.touched.has(tracked))
      : [...job.touched].sort((one, other) => order.indexOf(one) - order.indexOf(other));
  for (const tracked of touched) {
    const { stage } = tracked;
    if (tracked === job.root || !stage) continue;
    const isNew = tracked.told.last === "";
    const steps = untold(stepsOf(tracked), tracked.told);
    const end = isOver(tracked) ? steps.pop() : undefined;
    for (const step of steps) {
      const { status, attempt, reason } = step;
      // That a new stage is pending, the plan says.
      if (isNew && status === "pending" && attempt === 1 && reason === null) continue;
      yield { stage, ...stageFields(step) };
    }
    // Progress makes a stage running: of one that has not begun it is not told.
    for (const report of hasBegun(tracked) ? tracked.reports : []) {
      const { attempt, at, progress, message, metadata } = report;
      yield {
        ...{ stage, attempt },
        ...(at !== undefined && { timestamp: at }),
        ...(progress !== undefined && { progress }),
        ...(message !== undefined && { message }),
        ...(metadata !== undefined && { metadata }),
      };
    }
    tracked.reports = [];
    if (!end) continue;
    const { attempt, ...fields } = stageFields(end);
    yield {
      ...{ stage, ...fields },
      ...(end.id !== undefined && { id: stageEndId(tracked.key, end.id) }),
      // Without a record nobody knows in which attempt it was: in the current one.
      ...(tracked.facts && { attempt }),
    };
  }
}

/** The id of a stage's end, the same in every process. `place`: the event's, or when the job ended. */
export const stageEndId = (key: string, place: string): string =>
  `end:${fingerprint(key)}:${place}`;

/** What makes a root's job wait, whatever its children do. */
const OWN_REASONS = new Set<string | null>(["retrying", "delayed", "stalled"]);

/**
 * What a whole flow is while its root has not had its turn: pending until something of it begins,
 * then running; waiting when nothing can go on, since a child failed and nothing says that it may.
 */
export function flowStep(job: WatchedJob, own: Step): Step {
  if (own.status !== "pending" && own.status !== "waiting") return own;
  const { root } = job;
  if (OWN_REASONS.has(own.reason)) return job.begun ? { ...own, status: "waiting" } : own;
  if (!job.begun) return own.reason === "paused" ? own : { ...own, reason: null };
  const isStuck =
    root.facts?.state === "waiting-children" &&
    flowOf(job).order.every(isOver) &&
    [...root.children.values()].some(blocks);
  return isStuck
    ? { ...own, status: "waiting", reason: "child_failed", at: root.changedAt }
    : { ...own, status: "running", reason: null, at: job.begunAt };
}

const blocks = ({ facts }: Tracked): boolean => facts?.state === "failed" && !facts.mayFail;
