import {
  allowAll,
  applyPatch,
  createWorkflowMonitor,
  isActive,
  isTerminal,
  type JobSnapshot,
  type JobState,
  memoryStore,
  type PublishedEvent,
  STATUSES,
  type UpdateEvent,
  type WorkflowEvent,
} from "@org/workflow-monitor";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type Base, type Folded, fold, type Stamped } from "../../packages/core/src/fold.js";
import { reduce } from "../../packages/core/src/reduce.js";
import { diff } from "../../packages/core/src/revision.js";
import { emptyJob } from "../../packages/core/src/snapshot.js";
import { anyCut, anyEvent, anyEvents, reports } from "./arbitraries.js";
import { at, EMPTY, from, job, plan, play, stage, stageOf } from "./given.js";

const RUNS = { seed: 20_260_101, numRuns: 300 };

const holds = <T>(arbitrary: fc.Arbitrary<T>, law: (value: T) => void) =>
  fc.assert(fc.property(arbitrary, law), RUNS);

/** Every state on the way, the empty one first. */
function states(events: readonly WorkflowEvent[]): JobState[] {
  const all = [EMPTY];
  for (const event of events) all.push(reduce(all.at(-1)!, event));
  return all;
}

/** Every two states that follow each other. */
function steps(events: readonly WorkflowEvent[]): [JobState, JobState][] {
  const all = states(events);
  return all.slice(1).map((state, index) => [all[index]!, state]);
}

test("[R2] an event said again at once changes nothing", () => {
  holds(anyEvents, (events) => {
    for (const state of states(events).slice(-3)) {
      for (const event of events) {
        const once = reduce(state, event);
        expect(reduce(once, event)).toBe(once);
      }
    }
  });
});

test("[R2] what an event changed differs, and what it did not is the same", () => {
  holds(anyEvents, (events) => {
    for (const [before, after] of steps(events)) {
      if (before === after) continue;
      expect({ ...after, updatedAt: "" }).not.toEqual({ ...before, updatedAt: "" });
    }
  });
});

test("[R3] a done job does not change inside its run, a terminal stage not inside its attempt", () => {
  holds(anyEvents, (events) => {
    for (const [before, after] of steps(events)) {
      expect(after.run).toBeGreaterThanOrEqual(before.run);
      if (after.run > before.run) continue;
      if (before.done) expect(after).toBe(before);
      for (const old of before.stages) {
        const now = after.stages.find((each) => each.stage === old.stage);
        if (!now) {
          expect(old.status).toBe("pending");
          continue;
        }
        expect(now.attempt).toBeGreaterThanOrEqual(old.attempt);
        if (now.attempt > old.attempt) continue;
        if (isTerminal(old.status)) {
          // A plan may still say how the job is to count it (R5).
          const { status, reason, progress, message, error, metadata, startedAt, finishedAt } = old;
          expect(now).toMatchObject({ status, reason, progress, startedAt, finishedAt });
          expect([now.message, now.error, now.metadata]).toEqual([message, error, metadata]);
        }
      }
    }
  });
});

test("[R4] what has begun is not pending again inside its run and attempt", () => {
  holds(anyEvents, (events) => {
    for (const [before, after] of steps(events)) {
      if (after.run > before.run) continue;
      if (before.status !== "pending") expect(after.status).not.toBe("pending");
      for (const old of before.stages) {
        const now = after.stages.find((each) => each.stage === old.stage);
        if (now?.attempt === old.attempt && old.status !== "pending") {
          expect(now.status).not.toBe("pending");
        }
      }
    }
  });
});

test("[R7] progress does not fall inside a run, and is 100 exactly when the job is completed", () => {
  holds(anyEvents, (events) => {
    for (const [before, after] of steps(events)) {
      expect(Number.isInteger(after.progress)).toBe(true);
      expect(after.progress === 100).toBe(after.status === "completed");
      expect(after.progress).toBeGreaterThanOrEqual(0);
      expect(after.progress).toBeLessThanOrEqual(100);
      if (after.run === before.run) {
        expect(after.progress).toBeGreaterThanOrEqual(before.progress);
      }
      for (const now of after.stages) {
        const old = before.stages.find((each) => each.stage === now.stage);
        if (after.run === before.run && old?.attempt === now.attempt) {
          expect(now.progress).toBeGreaterThanOrEqual(old.progress);
        }
        if (now.indeterminate) expect(isActive(now.status)).toBe(true);
      }
    }
  });
});

test("[R9] a done job has no stage that is pending or active", () => {
  holds(anyEvents, (events) => {
    for (const state of states(events)) {
      expect(state.done).toBe(isTerminal(state.status));
      if (state.done) expect(state.stages.filter(({ status }) => !isTerminal(status))).toEqual([]);
      expect(state.finishedAt !== null).toBe(state.done);
    }
  });
});

test("[R8] while it is derived, the status is what the stages say", () => {
  holds(anyEvents, (events) => {
    for (const { derived, status, planned, stages } of states(events)) {
      if (!derived) {
        expect(status).not.toBe("pending");
        continue;
      }
      const ended =
        planned &&
        stages.length > 0 &&
        stages.every(
          (each) =>
            isTerminal(each.status) &&
            !(each.status === "failed" && each.attempt < (each.maxAttempts ?? 0)),
        );
      const has = (wanted: string) => stages.some((each) => each.status === wanted);
      if (ended) {
        const failed = stages.some((each) => each.status === "failed" && !each.allowFailure);
        expect(status).toBe(failed ? "failed" : has("cancelled") ? "cancelled" : "completed");
      } else if (stages.some((each) => each.status !== "pending" && each.status !== "skipped")) {
        expect(status).toBe("running");
      } else {
        expect(["pending", "running"]).toContain(status); // running: what made it run may be gone
      }
    }
  });
});

test("[R6] counts, activeStages and currentStage are what the stages say", () => {
  holds(anyEvents, (events) => {
    for (const state of states(events)) {
      const { stages, counts } = state;
      expect(counts.total).toBe(stages.length);
      for (const status of STATUSES) {
        expect(counts[status]).toBe(stages.filter((each) => each.status === status).length);
      }
      const active = stages.filter(({ status }) => isActive(status)).map((each) => each.stage);
      expect(state.activeStages).toEqual(active);
      const failed = stages.find(({ status }) => status === "failed")?.stage ?? null;
      expect(state.currentStage).toBe(state.status === "failed" ? failed : (active[0] ?? null));
      expect(new Set(stages.map((each) => each.stage)).size).toBe(stages.length);
    }
  });
});

test("[R10] the archive is in order, over, and no longer than 10", () => {
  holds(anyEvents, (events) => {
    for (const state of states(events)) {
      for (const { attempt, attempts } of state.stages) {
        const numbers = attempts.map((each) => each.attempt);
        expect(numbers).toEqual([...new Set(numbers)].sort((one, other) => one - other));
        expect(numbers.length).toBeLessThanOrEqual(10);
        for (const each of attempts) {
          expect(each.attempt).toBeLessThan(attempt);
          expect(isTerminal(each.status)).toBe(true);
        }
      }
    }
  });
});

test("[R17] updatedAt does not go back, and is not before what it dates", () => {
  holds(anyEvents, (events) => {
    for (const [before, after] of steps(events)) {
      expect(after.updatedAt >= before.updatedAt).toBe(true);
      for (const each of after.stages) expect(each.updatedAt <= after.updatedAt).toBe(true);
    }
  });
});

test("[R1] applying what a step changed gives the step, to the letter", () => {
  holds(anyEvents, (events) => {
    for (const [before, after] of steps(events)) {
      const patch = JSON.parse(JSON.stringify(diff(before, after))) as ReturnType<typeof diff>;
      expect(JSON.stringify(applyPatch(before, patch))).toBe(JSON.stringify(after));
    }
  });
});

test("[R1] the difference of any two states of a job leads from one to the other", () => {
  holds(fc.tuple(anyEvents, anyEvents), ([some, others]) => {
    const one = play(...some);
    const other = play(...others);
    expect(applyPatch(one, diff(one, other))).toEqual(other);
    expect(applyPatch(one, diff(one, one))).toEqual(one);
  });
});

test("[R1] a patch has no stage that did not change", () => {
  holds(anyEvents, (events) => {
    for (const [before, after] of steps(events)) {
      if (after.run > before.run) continue; // every stage is made anew
      const { stages = [], stageOrder } = diff(before, after);
      for (const each of stages) {
        expect(before.stages.find((old) => old.stage === each.stage)).not.toEqual(each);
      }
      const order = (state: JobState) => state.stages.map((each) => each.stage);
      const moved = JSON.stringify(order(before)) !== JSON.stringify(order(after));
      expect(stageOrder).toEqual(moved ? order(after) : undefined);
    }
  });
});

const stamped = (event: WorkflowEvent): Stamped => ({ event, text: JSON.stringify(event) });
const NEW: Base = { job: undefined, expired: false, ids: new Set() };

const foldOf = (events: readonly WorkflowEvent[], base: Base = NEW): Folded =>
  fold("job", base, events.map(stamped), 5_000);

const idsOf = (events: readonly WorkflowEvent[]) =>
  events.flatMap(({ id }) => (id === undefined ? [] : [id]));

/** What the log has after several batches: the state, the revisions, and the ids in it. */
function log(batches: readonly (readonly WorkflowEvent[])[]) {
  let base = NEW;
  const folds: Folded[] = [];
  for (const batch of batches) {
    const folded = foldOf(batch, base);
    folds.push(folded);
    const ids = new Set([...base.ids, ...idsOf(folded.steps.map(({ event }) => event))]);
    base = { job: folded.job, expired: false, ids };
  }
  return { job: base.job, folds };
}

/** What the first event of a log stands on. */
const ground = (state: JobState) => emptyJob(state.jobId, state.createdAt);

/** The same events, each with an id of its own. */
const named = (events: readonly WorkflowEvent[]) =>
  events.map((event, index): WorkflowEvent => ({ ...event, id: `n${index}` }));
const unnamed = (events: readonly WorkflowEvent[]) =>
  events.map(({ id, ...event }) => event as WorkflowEvent);

test("[R1] the patches of a fold lead from its base to its end, to the letter", () => {
  holds(fc.tuple(anyEvents, fc.oneof(anyEvents, reports)), ([first, second]) => {
    const { folds } = log([first, second]);
    let state: JobState | undefined;
    for (const { job, revisions, steps } of folds) {
      expect(revisions).toHaveLength(steps.length);
      revisions.forEach(({ event, patch }, index) => {
        // Where there is no job yet, the patch is the whole of it.
        state = state ? applyPatch(state, patch) : (patch as JobState);
        expect(state).toEqual(steps[index]!.job);
        expect(event).toBe(steps[index]!.text);
      });
      expect(JSON.stringify(state)).toBe(JSON.stringify(job));
    }
  });
});

test.each([
  ["at the same time", at(2), at(2)],
  ["later", at(3), at(2)],
])(
  "[R1] progress that a batch begins with and drops, said %s, is in no revision",
  (_, dropped, kept) => {
    const base = play(stage("a", { progress: 0 }));
    const events = [
      stage("a", { timestamp: dropped, progress: 10 }),
      stage("a", { timestamp: kept, progress: 20 }),
    ];
    const { job, revisions } = foldOf(events, { ...NEW, job: base });
    expect(revisions).toHaveLength(1);
    expect(job).toEqual(from(base, events[1]!));
    expect(applyPatch(base, revisions[0]!.patch)).toEqual(job);
  },
);

test.each([
  ["any events", anyEvents],
  ["much progress", reports],
])("[R1] every revision of %s is its base and the events so far", (_, arbitrary) => {
  holds(arbitrary, (events) => {
    const { job, steps } = foldOf(events);
    let state = ground(job!);
    steps.forEach(({ event, job }, index) => {
      const next = reduce(state, event);
      if (index > 0) expect(next).not.toBe(state);
      state = next;
      expect(timeless(state)).toEqual(timeless(job));
    });
  });
});

test("[R2] an id in the history, or before in the batch, changes nothing", () => {
  holds(fc.tuple(anyEvents, anyEvent), ([events, event]) => {
    const once = { ...event, id: "once" };
    const others = unnamed(events);
    const { job, steps } = foldOf([once, ...others, once]);
    expect(job).toEqual(foldOf([once, ...others]).job);
    expect(steps.filter((step) => step.event.id === "once").length).toBeLessThanOrEqual(1);
    const known = foldOf([once], { job, expired: false, ids: new Set(["once"]) });
    expect(known.revisions).toEqual([]);
    expect(known.outcomes).toEqual([{ revisions: 0 }]);
  });
});

/** Leaves out what a batch may coalesce: nothing but the time of the last change may depend on it. */
const timeless = (state: JobState | undefined) =>
  state && {
    ...state,
    updatedAt: "",
    stages: state.stages.map((each) => ({ ...each, updatedAt: "" })),
  };

test.each([
  ["any events", anyEvents],
  ["much progress", reports],
])("[R11] %s in other batches lead to the same state", (_, arbitrary) => {
  const cut = arbitrary.chain((events) => anyCut(unnamed(events)));
  holds(cut, (batches) => {
    const whole = foldOf(batches.flat());
    const parts = log(batches);
    const singly = log(batches.flat().map((event) => [event]));
    expect(timeless(parts.job)).toEqual(timeless(singly.job));
    expect(timeless(whole.job)).toEqual(timeless(singly.job));
  });
});

/** Whether a step changed only the progress of that stage, and what follows from it. */
function onlyProgress(before: JobState, after: JobState, id: string): boolean {
  const old = before.stages.find((each) => each.stage === id);
  const now = after.stages.find((each) => each.stage === id);
  if (!old || !now) return false;
  const plain = { progress: 0, indeterminate: false, updatedAt: "" };
  const like = (state: JobState, stages: JobState["stages"]) => ({ ...state, ...plain, stages });
  const same = (one: unknown, other: unknown) => JSON.stringify(one) === JSON.stringify(other);
  return (
    old.progress !== now.progress &&
    same({ ...old, ...plain }, { ...now, ...plain }) &&
    same(
      like(before, before.stages),
      like(
        after,
        after.stages.map((each) => (each === now ? old : each)),
      ),
    )
  );
}

test.each([
  ["any events", anyEvents],
  ["much progress", reports],
])(
  "[R11] of %s only progress is dropped that the same stage reports again later",
  (_, arbitrary) => {
    holds(arbitrary, (all) => {
      const events = named(all);
      const { steps, outcomes, job } = foldOf(events);
      const kept = new Map(steps.map(({ event }, index) => [event.id, index + 1]));
      // What every event would do if nothing were dropped.
      let state = ground(job!);
      const effects = events.map((event) => {
        const before = state;
        state = reduce(state, event);
        const id = event.type === "stage" ? event.stage : "";
        return { event, id, changes: before !== state, pure: onlyProgress(before, state, id) };
      });
      effects.forEach(({ event, id, changes, pure }, index) => {
        if (!changes || kept.has(event.id)) return;
        const later = effects.slice(index + 1).some((each) => each.pure && each.id === id);
        expect({ pure, later }).toEqual({ pure: true, later: true });
      });
      // An event is contained in its own revision, or else in one before which nothing of it is missing.
      let last = 0;
      outcomes.forEach(({ revisions }, index) => {
        expect(revisions).toBeLessThanOrEqual(steps.length);
        const own = kept.get(events[index]!.id);
        if (own !== undefined) expect(revisions).toBe(own);
        last = Math.max(last, revisions);
      });
      expect(last).toBe(steps.length);
    });
  },
);

test("[R11] the cursor of progress that was dropped is that of a revision that has it", () => {
  holds(reports, (all) => {
    const events = named(all);
    const { steps, outcomes } = foldOf(events);
    events.forEach((event, index) => {
      if (event.type !== "stage" || typeof event.progress !== "number") return;
      const at = steps[(outcomes[index]?.revisions ?? 0) - 1]?.job;
      const there = at?.stages.find((each) => each.stage === event.stage);
      // The run, the attempt or the stage that it spoke of may be over.
      if (!there || isTerminal(there.status) || at?.done || at?.run !== 1) return;
      if (there.attempt !== (event.attempt ?? there.attempt)) return;
      if (there.attempts.length > 0) return;
      expect(there.progress).toBeGreaterThanOrEqual(event.progress);
    });
  });
});

test.each([
  ["a plan that weighs anew", plan(["a", "b", "c"])],
  ["a message of the stage", stage("a", { message: "m" })],
  ["another stage that begins", stage("c", { status: "running" })],
  ["a message of the job", job({ message: "m" })],
])(
  "[R1] [R11] %s between two reports of progress is what the events so far make it",
  (_, between) => {
    const base = play(plan(["a", "b"]), stage("a", { progress: 0 }));
    const { job: end, steps } = foldOf(
      [stage("a", { progress: 50 }), between, stage("a", { progress: 60 })],
      { ...NEW, job: base },
    );
    let state = base;
    for (const { event, job } of steps) {
      state = reduce(state, event);
      expect(state).toEqual(job);
    }
    expect(state).toEqual(end);
  },
);

test("[R11] of three reports of progress the last one is left", () => {
  const { revisions, outcomes, job } = foldOf([
    stage("a", { progress: 0 }),
    stage("a", { progress: 10 }),
    stage("a", { progress: 20 }),
    stage("a", { progress: 30 }),
  ]);
  expect(revisions).toHaveLength(2);
  expect(outcomes).toEqual([
    { revisions: 1 },
    { revisions: 2 },
    { revisions: 2 },
    { revisions: 2 },
  ]);
  expect(stageOf(job!, "a").progress).toBe(30);
});

test("[R11] two stages that report in turn leave one report each", () => {
  const { steps, outcomes } = foldOf([
    plan(["a", "b"]),
    stage("a", { progress: 0 }),
    stage("b", { progress: 0 }),
    stage("a", { progress: 10 }),
    stage("b", { progress: 11 }),
    stage("a", { progress: 20 }),
    stage("b", { progress: 21 }),
  ]);
  expect(steps.slice(3).map(({ event }) => event)).toMatchObject([
    { stage: "a", progress: 20 },
    { stage: "b", progress: 21 },
  ]);
  const own = outcomes.map(({ revisions }) => revisions);
  expect(own.slice(0, 4)).toEqual([1, 2, 3, 4]);
  expect(own.slice(5)).toEqual([4, 5]);
});

test.each([
  ["begins a stage", stage("a", { progress: 10 })],
  ["brings a message", stage("a", { status: "running", progress: 10, message: "m" })],
  ["is of the job", job({ progress: 10 })],
])("[R11] progress that %s is not dropped", (_, event) => {
  const { steps } = foldOf([event, stage("a", { progress: 20 }), job({ progress: 20 })]);
  expect(steps[0]?.event).toMatchObject(event);
  expect(steps).toHaveLength(3);
});

test("[R11] the last progress before a stage ends is not dropped", () => {
  const { steps } = foldOf([
    stage("a", { status: "running" }),
    stage("a", { progress: 10 }),
    stage("a", { status: "failed" }),
  ]);
  expect(steps).toHaveLength(3);
});

test("[R11] an event that changed nothing is contained in what was there", () => {
  const base = { ...NEW, job: play(stage("a", { status: "running", progress: 50 })) };
  const { revisions, outcomes } = foldOf(
    [stage("a", { progress: 10 }), stage("a", { progress: 60 }), stage("a", { progress: 55 })],
    base,
  );
  expect(revisions).toHaveLength(1);
  expect(outcomes).toEqual([{ revisions: 0 }, { revisions: 1 }, { revisions: 1 }]);
});

test("[R13] an event of a batch that is one stage too much is refused, the others are not", () => {
  const events = [stage("a"), stage("b"), stage("c"), stage("a", { status: "running" })];
  const { outcomes, job } = fold("job", NEW, events.map(stamped), 2);
  expect(outcomes.map(({ refused }) => refused?.code)).toEqual([
    undefined,
    undefined,
    "refused",
    undefined,
  ]);
  expect(job?.counts.total).toBe(2);
  expect(job?.currentStage).toBe("a");
});

test("[R13] a first event that is refused makes no job", () => {
  const { job, revisions, outcomes } = fold("job", NEW, [stamped(plan(["a", "b"]))], 1);
  expect(job).toBeUndefined();
  expect(revisions).toEqual([]);
  expect(outcomes[0]?.refused?.code).toBe("refused");
});

test("[R15] late events of a job whose time is over change nothing, a higher run does", () => {
  const done = play(job({ status: "failed", timestamp: at(1) }));
  const over: Base = { job: done, expired: true, ids: new Set() };
  expect(
    foldOf([job({ status: "running" }), job({ run: 1, message: "late" })], over),
  ).toMatchObject({
    revisions: [],
    outcomes: [{ revisions: 0 }, { revisions: 0 }],
  });
  const again = foldOf([job({ run: 2, status: "running", timestamp: at(9) })], over);
  expect(again.revisions).toHaveLength(1);
  expect(again.job).toMatchObject({ run: 2, status: "running", done: false });
});

/** An event as a host would publish it. */
const published = (event: WorkflowEvent) => ({ jobId: "job", ...event }) as PublishedEvent;

test("[R1] the revisions that a monitor tells are 1, 2, 3 …, and each is its events so far", async () => {
  await fc.assert(
    fc.asyncProperty(
      anyEvents.chain((events) => anyCut(events)),
      async (batches) => {
        const store = memoryStore();
        const monitor = createWorkflowMonitor({ authorize: allowAll, store });
        const updates: UpdateEvent[] = [];
        monitor.on("update", (update) => updates.push(update));
        const cursors: { revision: number; epoch: string }[] = [];
        for (const batch of batches) {
          const promises = batch.map((event) => monitor.publish(published(event)));
          cursors.push(...(await Promise.all(promises)));
        }
        const snapshot = await monitor.get("job");
        await monitor.close();
        await store.close();

        expect(updates.map(({ cursor }) => cursor.revision)).toEqual(
          updates.map((_, index) => index + 1),
        );
        let state = ground(updates[0]!.job);
        const { epoch } = updates[0]!.cursor;
        updates.forEach(({ event, job, cursor }, index) => {
          state = from(state, event);
          const expected: JobSnapshot = { ...state, epoch, revision: index + 1 };
          expect(job).toEqual(expected);
          expect(cursor).toEqual({ epoch, revision: index + 1 });
        });
        expect(snapshot).toEqual(updates.at(-1)!.job);
        expect(JSON.stringify(snapshot)).toBe(JSON.stringify(updates.at(-1)!.job));
        // R11: a cursor is never behind one that was given before, and never ahead of the log.
        for (const cursor of cursors) {
          expect(cursor.epoch).toBe(epoch);
          expect(cursor.revision).toBeGreaterThanOrEqual(1);
          expect(cursor.revision).toBeLessThanOrEqual(updates.length);
        }
        expect(Math.max(...cursors.map(({ revision }) => revision))).toBe(updates.length);
      },
    ),
    { seed: RUNS.seed, numRuns: 150 },
  );
});
