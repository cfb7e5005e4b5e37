import { STATUSES, type StageSnapshot, type Status } from "@org/workflow-monitor";
import { expect, test } from "vitest";
import { planProgress } from "../../packages/core/src/progress.js";
import { job, play, stage, stageOf } from "./given.js";

const ONE = stageOf(play(job({ status: "running" }), stage("a")), "a");

/** A stage by status, progress and weight. */
const of = (status: Status, progress = 0, weight = 1): StageSnapshot => ({
  ...ONE,
  status,
  progress,
  weight,
});

test("[R7] no stages: nothing is reached", () => {
  expect(planProgress([])).toBe(0);
});

test.each(STATUSES)("[R7] what a stage that is %s counts", (status) => {
  const whole = status === "completed" || status === "skipped";
  expect(planProgress([of(status, 40)])).toBe(whole ? 100 : 40);
  expect(planProgress([of(status, 0)])).toBe(whole ? 100 : 0);
  expect(planProgress([of(status, 100)])).toBe(100);
});

test.each([
  ["one of two", [of("completed"), of("pending")], 50],
  ["one of three", [of("completed"), of("pending"), of("pending")], 33],
  ["two of three", [of("completed"), of("completed"), of("pending")], 66],
  ["weights 1 and 3", [of("completed", 0, 1), of("pending", 0, 3)], 25],
  ["weights 3 and 1", [of("completed", 0, 3), of("pending", 0, 1)], 75],
  ["weights and percents", [of("running", 50, 2), of("waiting", 20, 3)], 32],
  ["weights below 1", [of("completed", 0, 0.1), of("pending", 0, 0.3)], 25],
  ["a weight of 0 counts nothing", [of("completed", 0, 0), of("running", 10, 5)], 10],
  ["weights that are all 0 count as equal", [of("completed", 0, 0), of("running", 50, 0)], 75],
  ["one stage of weight 0", [of("running", 30, 0)], 30],
  ["one stage of weight 0, not begun", [of("pending", 0, 0)], 0],
  ["weights at their greatest", [of("completed", 0, 1e9), of("pending", 0, 1e9)], 50],
  ["a failed stage has what it reached", [of("failed", 30), of("completed")], 65],
  ["rounded down, not to the nearest", [of("running", 99), of("completed")], 99],
  ["a hair below a whole percent", [of("running", 99, 1e9), of("completed", 0, 1)], 99],
  [
    "the smallest of weights beside the greatest",
    [of("completed", 0, 1e-9), of("pending", 0, 1e9)],
    0,
  ],
])("[R7] %s", (_, stages, percent) => {
  expect(planProgress(stages)).toBe(percent);
});

test("[R7] a whole percent is not lost to the way in which fractions are added", () => {
  // 0.1 + 0.2 > 0.3, so the exact result of each row is reached only within the precision of numbers.
  for (const weight of [0.1, 0.2, 0.3, 0.7, 1 / 3, 1e-3, 1e9]) {
    for (let percent = 0; percent <= 100; percent += 1) {
      const stages = Array.from({ length: 7 }, () => of("running", percent, weight));
      expect(planProgress(stages)).toBe(percent);
    }
  }
  expect(planProgress([of("completed", 0, 0.29), of("pending", 0, 0.71)])).toBe(29);
  expect(planProgress([of("completed", 0, 0.57), of("pending", 0, 0.43)])).toBe(57);
});

test("[R7] what is less than a whole percent by more than that is rounded down", () => {
  expect(planProgress([of("completed", 0, 0.4999999), of("pending", 0, 0.5000001)])).toBe(49);
  expect(planProgress([of("completed", 0, 49_999), of("pending", 0, 50_001)])).toBe(49);
});

test("[R7] it stays between 0 and 100 for 5,000 stages of any weight", () => {
  const stages = Array.from({ length: 5_000 }, (_, index) => of("completed", 0, (index % 7) / 10));
  expect(planProgress(stages)).toBe(100);
  const begun = stages.map((each) => ({ ...each, status: "pending" as const }));
  expect(planProgress(begun)).toBe(0);
});
