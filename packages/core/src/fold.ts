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
  before: JobState;
  /** The state after it. */
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
  const effects: { step?: Step; refused?: WorkflowMonitorError }[] = [];
  let job = base.job;

  for (const { event, text } of events) {
    try {
      const seen = event.id !== undefined && (ids.has(event.id) || base.ids.has(event.id));
      const late = base.expired && job === base.job && (event.run ?? 1) <= (job?.run ?? 0);
      const before = job ?? emptyJob(jobId, event.timestamp);
      const after = seen || late ? job : reduce(before, event, maxStages);
      if (!after || after === job) {
        effects.push({});
        continue;
      }
      const step = { ...complete(event, text, before, after), before, job: after };
      steps.push(step);
      effects.push({ step });
      if (event.id !== undefined) ids.add(event.id);
      job = after;
    } catch (thrown) {
      const message = "The event could not be applied.";
      effects.push({ refused: toMonitorError(thrown, "internal", message) });
    }
  }

  const overtakers = steps.length > 1 ? coalesce(steps) : NONE;
  const stay = overtakers.size === 0 ? steps : steps.filter((step) => !overtakers.has(step));
  const kept = stay === steps ? steps : replay(steps[0]?.before as JobState, stay, maxStages);
  const places = new Map<Step, number>();
  stay.forEach((step, at) => {
    places.set(step, at + 1);
  });
  const placeOf = (step: Step): number => places.get(overtakers.get(step) ?? step) ?? 0;
  let reached = 0;
  const outcomes = effects.map(({ step, refused }): Outcome => {
    const place = step ? placeOf(step) : reached;
    reached = Math.max(reached, place);
    return { revisions: place, ...(refused && { refused }) };
  });

  const revisions = kept.map(({ text, before, job: after }, at) => {
    const patch = at > 0 || base.job ? diff(before, after) : { ...after };
    return { event: text, patch };
  });
  return { job: kept.at(-1)?.job ?? base.job, revisions, steps: kept, outcomes };
}

const NONE: ReadonlyMap<Step, Step> = new Map();

/** An update of a transition always says the status, also when the engine only implied it. */
function complete(event: WorkflowEvent, text: string, before: JobState, after: JobState): Stamped {
  if (event.type !== "stage") return { event, text };
  const find = (job: JobState) => job.stages.find(({ stage }) => stage === event.stage);
  const was = find(before);
  const is = find(after);
  const begun = is?.attempt !== was?.attempt && was !== undefined;
  const changed = is && (begun || is.status !== (was?.status ?? "pending"));
  if (!changed || is.status === event.status) return { event, text };
  const { type, timestamp, stage, status: _, ...rest } = event;
  const told: WorkflowEvent = Object.freeze({ type, timestamp, stage, status: is.status, ...rest });
  return { event: told, text: JSON.stringify(told) };
}

/**
 * R11: the steps that changed only a stage's progress and are followed, with nothing but such steps
 * between, by one that did so again for the same stage: each with its overtaker. What else happens
 * between two reports may depend on the first of them.
 */
function coalesce(steps: readonly Step[]): Map<Step, Step> {
  const overtakers = new Map<Step, Step>();
  const last = new Map<string, Step>();
  for (const step of [...steps].reverse()) {
    const { event } = step;
    if (event.type !== "stage" || !changesOnlyProgress(step, event.stage)) {
      last.clear();
      continue;
    }
    const overtaker = last.get(event.stage);
    if (overtaker) overtakers.set(step, overtaker);
    else last.set(event.stage, step);
  }
  return overtakers;
}

/** The same events without those that were left out: a revision's state is the fold of the events that are there. R1. */
function replay(base: JobState, steps: readonly Step[], maxStages: number): Step[] {
  let job = base;
  return steps.map((step) => {
    const before = job;
    job = reduce(before, step.event, maxStages);
    return { ...step, before, job };
  });
}

function changesOnlyProgress({ before, job: after }: Step, name: string): boolean {
  if (before.stages.length !== after.stages.length) return false;
  const at = after.stages.findIndex(({ stage }) => stage === name);
  const was = before.stages[at];
  const is = after.stages[at];
  return (
    was !== undefined &&
    is !== undefined &&
    was.progress !== is.progress &&
    equalBut(["progress", "updatedAt"], was, is) &&
    equalBut(["progress", "updatedAt", "stages"], before, after)
  );
}

function equalBut<T extends object>(keys: readonly (keyof T)[], one: T, other: T): boolean {
  for (const key in one) if (one[key] !== other[key] && !keys.includes(key)) return false;
  return true;
}
