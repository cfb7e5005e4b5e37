import fc from "fast-check";
import { expect, test } from "vitest";
import { merge } from "../../packages/core/src/merge.js";
import { isTerminal } from "../../packages/core/src/status.js";
import { anyEvents } from "./arbitraries.js";
import { at, from, job, plan, play, stage } from "./given.js";

const RUNS = { seed: 20_260_101, numRuns: 300 };
const PARTED = play(plan(["a", "b"]), stage("a", { status: "running" }));

test("[R18] a state that is merged with one of its own past is itself", () => {
  fc.assert(
    fc.property(anyEvents, fc.nat(), (events, cut) => {
      const past = play(...events.slice(0, cut % (events.length + 1)));
      const state = from(past, ...events.slice(cut % (events.length + 1)));
      expect(merge(state, past)).toEqual(state);
    }),
    RUNS,
  );
});

test("[R18] what is over in either of two states is over, whoever merges", () => {
  fc.assert(
    fc.property(anyEvents, anyEvents, anyEvents, (events, more, other) => {
      const parted = play(...events);
      const [mine, theirs] = [from(parted, ...more), from(parted, ...other)];
      const both = merge(mine, theirs);
      for (const one of [mine, theirs]) {
        expect(both.run).toBeGreaterThanOrEqual(one.run);
        if (both.run === one.run && one.done) expect(both.done).toBe(true);
        for (const { stage, status, attempt } of one.stages) {
          const now = both.stages.find((each) => each.stage === stage);
          if (both.run > one.run || mine.done || status === "pending") continue;
          expect(now?.attempt).toBeGreaterThanOrEqual(attempt);
          if (now?.attempt === attempt && isTerminal(status))
            expect(isTerminal(now.status)).toBe(true);
        }
      }
    }),
    RUNS,
  );
});

test("[R18] each of two who parted keeps what it did", () => {
  const mine = from(PARTED, stage("a", { status: "completed", timestamp: at(2) }));
  const theirs = from(PARTED, stage("b", { progress: 40, message: "half", timestamp: at(3) }));
  for (const both of [merge(mine, theirs), merge(theirs, mine)]) {
    expect(both).toMatchObject({
      status: "running",
      progress: 70,
      currentStage: "b",
      counts: { completed: 1, running: 1 },
      stages: [{ status: "completed", finishedAt: at(2) }, { message: "half" }],
      updatedAt: at(3),
    });
  }
});

test("[R18] what only the end of the job has ended may have come to an end of its own", () => {
  const mine = from(PARTED, stage("a", { status: "completed", timestamp: at(3) }));
  const theirs = from(PARTED, job({ status: "failed", message: "no", timestamp: at(2) }));
  const both = merge(mine, theirs);
  expect(both).toMatchObject({ status: "failed", done: true, message: "no", finishedAt: at(2) });
  expect(both.stages.map(({ status }) => status)).toEqual(["completed", "skipped"]);
});

test("[R18] a state that is over takes nothing more, and a higher run takes all", () => {
  const over = from(PARTED, job({ status: "completed", timestamp: at(2) }));
  expect(merge(over, PARTED)).toBe(over);
  const again = from(over, job({ run: 2, timestamp: at(3) }));
  expect(merge(over, again)).toEqual(again);
  expect(merge(again, over)).toEqual(again);
});

test("[R8] [R18] who knew nothing of the plan does not end it", () => {
  const told = { maxAttempts: 2, weight: 3 };
  const labels = { team: "x" };
  const mine = play(plan([["a", told], "b"], { name: "Job", labels }));
  // Somebody else was first after the loss, with an event and nothing to add it to.
  const theirs = play(stage("a", { status: "completed", timestamp: at(4) }));
  for (const both of [merge(mine, theirs), merge(theirs, mine)]) {
    expect(both).toMatchObject({ status: "running", done: false, planned: true, progress: 75 });
    expect(both).toMatchObject({ name: "Job", labels });
    expect(both.stages).toMatchObject([
      { stage: "a", status: "completed", planned: true, ...told },
      { stage: "b", status: "pending", planned: true },
    ]);
  }
});

test("[R3] [R18] nor does who knew only of the next run", () => {
  const mine = from(play(plan(["a", "b"])), job({ status: "failed", timestamp: at(2) }));
  const theirs = play(stage("a", { run: 2, status: "completed", timestamp: at(4) }));
  for (const both of [merge(mine, theirs), merge(theirs, mine)]) {
    expect(both).toMatchObject({ run: 2, status: "running", planned: true });
    expect(both.stages.map(({ status }) => status)).toEqual(["completed", "pending"]);
  }
});

test("[R18] two halves of a plan that are over make an end", () => {
  const mine = from(PARTED, stage("a", { status: "completed", timestamp: at(2) }));
  const theirs = from(PARTED, stage("b", { status: "completed", timestamp: at(3) }));
  expect(merge(mine, theirs)).toMatchObject({ status: "completed", done: true, progress: 100 });
});

test("[R5] [R18] a stage that a later plan removed does not come back, unless it had begun", () => {
  const old = play(plan(["a", "b", "c"]), stage("c", { status: "running" }));
  const replanned = from(play(plan(["a", "b"])), plan(["b"], { timestamp: at(5) }));
  const names = merge(old, replanned).stages.map(({ stage }) => stage);
  expect(names).toEqual(["b", "c"]);
});
