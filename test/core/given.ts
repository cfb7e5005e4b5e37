import type { JobState, StageSnapshot, Status } from "@org/workflow-monitor";
import type {
  NormalJobEvent,
  NormalPlanEvent,
  NormalPlannedStage,
  NormalStageEvent,
  WorkflowEvent,
} from "../../packages/core/src/events.js";
import { reduce } from "../../packages/core/src/reduce.js";
import { emptyJob } from "../../packages/core/src/snapshot.js";

/** `at(3)`: three seconds after the first event. */
export const at = (second: number): string =>
  new Date(1_767_225_600_000 + second * 1_000).toISOString();

const plannedStage = (stage: string, more: Partial<NormalPlannedStage> = {}) => ({
  stage,
  name: stage,
  weight: 1,
  dependsOn: [],
  allowFailure: false,
  maxAttempts: null,
  ...more,
});

/** A plan of stages, each an id or `[id, more]`. */
export function plan(
  stages: (string | readonly [string, Partial<NormalPlannedStage>])[],
  more: Partial<NormalPlanEvent> = {},
): NormalPlanEvent {
  return {
    type: "plan",
    timestamp: at(0),
    stages: stages.map((each) =>
      typeof each === "string" ? plannedStage(each) : plannedStage(each[0], each[1]),
    ),
    ...more,
  };
}

export const stage = (id: string, more: Partial<NormalStageEvent> = {}): NormalStageEvent => ({
  type: "stage",
  timestamp: at(1),
  stage: id,
  ...more,
});

export const job = (more: Partial<NormalJobEvent> = {}): NormalJobEvent => ({
  type: "job",
  timestamp: at(1),
  ...more,
});

export const EMPTY: JobState = emptyJob("job", at(0));

/** The state after some events, from nothing or from a state. */
export const play = (...events: WorkflowEvent[]): JobState => from(EMPTY, ...events);

export const from = (state: JobState, ...events: WorkflowEvent[]): JobState =>
  events.reduce((before, event) => reduce(before, event), state);

/** A stage of a job; fails when there is none. */
export function stageOf(state: JobState, id: string): StageSnapshot {
  const found = state.stages.find((each) => each.stage === id);
  if (!found) throw new Error(`no stage ${id}`);
  return found;
}

/** `{ a: "running", b: "pending" }` */
export const statuses = (state: JobState): Record<string, Status> =>
  Object.fromEntries(state.stages.map((each) => [each.stage, each.status]));

export const ids = (state: JobState): string[] => state.stages.map((each) => each.stage);
