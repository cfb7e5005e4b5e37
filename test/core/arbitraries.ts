import { STATUSES } from "@org/workflow-monitor";
import fc from "fast-check";
import type { NormalPlannedStage, WorkflowEvent } from "../../packages/core/src/events.js";
import { at, plan, stage } from "./given.js";

/** Few names, so that events meet; the timestamps are in no order. */
const STAGES = ["a", "b", "c", "d"];

const maybe = <T>(value: fc.Arbitrary<T>, freq = 2) => fc.option(value, { nil: undefined, freq });
const base = {
  timestamp: fc.integer({ min: 0, max: 9 }).map(at),
  id: maybe(fc.constantFrom("e1", "e2", "e3"), 1),
  run: fc.oneof(
    { weight: 8, arbitrary: fc.constant(undefined) },
    { weight: 1, arbitrary: fc.integer({ min: 1, max: 3 }) },
  ),
};
const told = {
  status: maybe(fc.constantFrom(...STATUSES), 3),
  reason: maybe(fc.constantFrom("x", "y", null), 1),
  progress: maybe(fc.oneof(fc.integer({ min: 0, max: 100 }), fc.constant(null))),
  message: maybe(fc.constantFrom("m", "n", null), 1),
  error: maybe(fc.constantFrom({ code: "C", message: "e" }, null), 1),
};

/** Without the fields that are undefined, as `normalise` leaves them out. */
const tidy = (event: Record<string, unknown>): WorkflowEvent =>
  Object.fromEntries(
    Object.entries(event).filter(([, value]) => value !== undefined),
  ) as unknown as WorkflowEvent;

const plannedStage: fc.Arbitrary<NormalPlannedStage> = fc.record({
  stage: fc.constantFrom(...STAGES),
  name: fc.constantFrom("n", "o"),
  weight: fc.constantFrom(0, 0.1, 1, 3),
  dependsOn: fc.subarray(STAGES, { maxLength: 2 }),
  allowFailure: fc.boolean(),
  maxAttempts: fc.constantFrom(null, 1, 2, 3),
});

const stageEvent = fc.record({
  type: fc.constant("stage"),
  stage: fc.constantFrom(...STAGES),
  attempt: maybe(fc.integer({ min: 1, max: 3 }), 1),
  metadata: maybe(fc.constantFrom(null, { x: 1 }, [1]), 1),
  ...base,
  ...told,
});

const jobEvent = fc.record({
  type: fc.constant("job"),
  labels: maybe(fc.constantFrom(null, { k: "v" }, { k: "w", l: "x" }), 1),
  metadata: maybe(fc.constantFrom(null, { x: 1 }), 1),
  ...base,
  ...told,
});

const planEvent = fc.record({
  type: fc.constant("plan"),
  stages: fc.uniqueArray(plannedStage, { selector: ({ stage }) => stage, maxLength: 4 }),
  name: maybe(fc.constantFrom("job", null), 1),
  ...base,
});

const progressEvent = fc.record({
  type: fc.constant("stage"),
  stage: fc.constantFrom("a", "b"),
  timestamp: base.timestamp,
  progress: fc.integer({ min: 0, max: 100 }),
});

/** Any event, valid after normalisation. */
export const anyEvent: fc.Arbitrary<WorkflowEvent> = fc
  .oneof(
    { weight: 6, arbitrary: stageEvent },
    { weight: 4, arbitrary: progressEvent },
    { weight: 2, arbitrary: jobEvent },
    { weight: 2, arbitrary: planEvent },
  )
  .map((event) => tidy(event));

/** Events in any order, some of them said again. */
export const anyEvents: fc.Arbitrary<WorkflowEvent[]> = fc
  .tuple(
    fc.array(anyEvent, { minLength: 1, maxLength: 25 }),
    fc.array(fc.tuple(fc.nat(), fc.nat()), { maxLength: 8 }),
  )
  .map(([events, again]) => {
    const all = [...events];
    for (const [which, where] of again) {
      all.splice(where % (all.length + 1), 0, events[which % events.length]!);
    }
    return all;
  });

/** Cuts a list into parts, in any way. */
export const anyCut = <T>(list: readonly T[]): fc.Arbitrary<T[][]> =>
  fc.array(fc.boolean(), { minLength: list.length, maxLength: list.length }).map((cuts) => {
    const parts: T[][] = [[]];
    list.forEach((each, index) => {
      if (index > 0 && cuts[index]) parts.push([]);
      parts.at(-1)!.push(each);
    });
    return parts;
  });

/** Two running stages that report much, and now and then something else. */
export const reports: fc.Arbitrary<WorkflowEvent[]> = fc
  .array(
    fc.oneof(
      { weight: 8, arbitrary: progressEvent },
      { weight: 1, arbitrary: planEvent },
      { weight: 1, arbitrary: stageEvent },
      { weight: 1, arbitrary: jobEvent },
    ),
    { minLength: 1, maxLength: 25 },
  )
  .map((events) => [
    plan(["a", "b"]),
    stage("a", { progress: 0 }),
    stage("b", { progress: 0 }),
    ...events.map((event) => tidy(event)),
  ]);
