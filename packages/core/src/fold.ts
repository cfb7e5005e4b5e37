import { toMonitorError, type WorkflowMonitorError } from "./errors.js";
import type { WorkflowEvent } from "./events.js";
import { reduce } from "./reduce.js";
import { diff, type Revision } from "./revision.js";
import { emptyJob, type JobState } from "./snapshot.js";

/** A normalised event and its JSON. */
export interface Stamped {
  event: WorkflowEvent;
  text: string;
}

/** What became of one event of a fold. */
interface Outcome {
  /** How many of the fold's revisions contain it, the last of them being its own; 0: those before did. */
  revisions: number;
  refused?: WorkflowMonitorError;
}

export interface Folded {
  /** Undefined: there was no job, and nothing made one. */
  job: JobState | undefined;
  revisions: Revision[];
  /** The events that became revisions, with the state after each. */
  steps: Step[];
  /** One for each event, in order. */
  outcomes: Outcome[];
}

export interface Step extends Stamped {
  job: JobState;
}

export interface Base {
  /** Undefined: no such job. */
  job: JobState | undefined;
  /** Done and past its time to read: only a higher run brings it back. SPEC R15. */
  expired: boolean;
  /** Ids of the events in history. SPEC R2. */
  ids: ReadonlySet<string>;
}

/**
 * Folds a run of events into a job: the revisions that they make, without those that change nothing
 * (SPEC R2) and without progress that the same run overtakes (SPEC R11). Pure.
 */
export function fold(
  jobId: string,
  base: Base,
  events: readonly Stamped[],
  maxStages: number,
): Folded {
  const ids = new Set<string>();
  const steps: Step[] = [];
  const refusals = new Map<number, WorkflowMonitorError>();
  const reached: number[] = []; // for each event, how many steps there are after it
  let job = base.job;

  for (const [at, { event, text }] of events.entries()) {
    try {
      const seen = event.id !== undefined && (ids.has(event.id) || base.ids.has(event.id));
      const late = base.expired && job === base.job && (event.run ?? 1) <= (job?.run ?? 0);
      if (!seen && !late) {
        const before = job ?? emptyJob(jobId, event.timestamp);
        const after = reduce(before, event, maxStages);
        if (after !== job) {
          steps.push({ ...complete(event, text, before, after), job: after });
          if (event.id !== undefined) ids.add(event.id);
          job = after;
        }
      }
    } catch (thrown) {
      refusals.set(at, toMonitorError(thrown, "internal", "The event could not be applied."));
    }
    reached.push(steps.length);
  }

  const kept = coalesce(base.job, steps);
  let before = base.job;
  const revisions = kept.map(({ text, job: after }) => {
    const patch = before ? diff(before, after) : { ...after };
    before = after;
    return { event: text, patch };
  });
  const contained = containment(steps, kept);
  const outcomes = reached.map((count, at): Outcome => {
    const refused = refusals.get(at);
    return { revisions: contained[count] ?? 0, ...(refused && { refused }) };
  });
  return { job, revisions, steps: kept, outcomes };
}

/** For the first n steps: how many kept steps it takes to contain them. */
function containment(steps: Step[], kept: Step[]): number[] {
  const counts = [0];
  let done = 0;
  for (const step of steps) {
    // A dropped step is contained in the next kept one.
    counts.push(done + 1);
    if (step === kept[done]) done += 1;
  }
  return counts;
}

/** An update of a transition always says the status, also when the engine only implied it. */
function complete(event: WorkflowEvent, text: string, before: JobState, after: JobState): Stamped {
  if (event.type !== "stage" || event.status !== undefined) return { event, text };
  const find = (job: JobState) => job.stages.find(({ stage }) => stage === event.stage)?.status;
  const status = find(after);
  if (status === undefined || status === (find(before) ?? "pending")) return { event, text };
  const { type, timestamp, stage, ...rest } = event;
  const told: WorkflowEvent = Object.freeze({ type, timestamp, stage, status, ...rest });
  return { event: told, text: JSON.stringify(told) };
}

/** R11: without the steps that changed only a stage's progress, when a later one did so again. */
function coalesce(base: JobState | undefined, steps: Step[]): Step[] {
  if (steps.length < 2) return steps;
  const overtaken = new Set<string>();
  const kept: Step[] = [];
  for (let at = steps.length - 1; at >= 0; at--) {
    const step = steps[at] as Step;
    const { event } = step;
    if (event.type !== "stage") kept.push(step);
    else if (!changesOnlyProgress(steps[at - 1]?.job ?? base, step.job, event.stage)) {
      overtaken.delete(event.stage);
      kept.push(step);
    } else if (!overtaken.has(event.stage)) {
      overtaken.add(event.stage);
      kept.push(step);
    }
  }
  return kept.reverse();
}

function changesOnlyProgress(before: JobState | undefined, after: JobState, name: string): boolean {
  if (!before || before.stages.length !== after.stages.length) return false;
  const at = after.stages.findIndex(({ stage }) => stage === name);
  const was = before.stages[at];
  const is = after.stages[at];
  return (
    was !== undefined &&
    is !== undefined &&
    equalBut(["progress", "updatedAt"], was, is) &&
    equalBut(["progress", "updatedAt", "stages"], before, after)
  );
}

function equalBut<T extends object>(keys: readonly (keyof T)[], one: T, other: T): boolean {
  for (const key in one) if (one[key] !== other[key] && !keys.includes(key)) return false;
  return true;
}
