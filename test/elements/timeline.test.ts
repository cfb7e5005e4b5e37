import type { StageSnapshot } from "@org/workflow-monitor-client";
import { describe, expect, test } from "vitest";
import {
  axisFor,
  barsOf,
  extentOf,
  gapsOf,
  positionOn,
  ticksOf,
} from "../../packages/elements/src/timeline-model.js";
import { at, job, plan, play, stage } from "../core/given.js";
import { failedJob, runningJob } from "../support/jobs.js";

const time = (second: number) => Date.parse(at(second));
const of = (stages: readonly StageSnapshot[], name: string): StageSnapshot => {
  const found = stages.find(({ stage }) => stage === name);
  if (!found) throw new Error(`no stage ${name}`);
  return found;
};

describe("bars", () => {
  test("each attempt is one: those that are over, and the one that goes on", () => {
    const bars = barsOf(of(runningJob().stages, "unit"));
    expect(bars).toMatchObject([
      { attempt: 1, status: "failed", start: time(62.3), end: time(80) },
      { attempt: 2, status: "running", start: time(90), end: null },
    ]);
  });

  test("what is pending or was skipped has none", () => {
    expect(barsOf(of(runningJob().stages, "deploy"))).toEqual([]);
    expect(barsOf(of(failedJob().stages, "deploy"))).toEqual([]);
  });

  test("what ended without ever running is an instant", () => {
    const { stages } = play(
      plan(["a", "b"]),
      stage("a", { status: "completed", timestamp: at(7) }),
    );
    expect(barsOf(of(stages, "a"))).toMatchObject([{ start: time(7), end: time(7) }]);
  });

  test("what waits is one that says so", () => {
    expect(barsOf(of(runningJob().stages, "browser"))).toMatchObject([
      { status: "waiting", end: null },
    ]);
  });

  test("between attempts there is a gap; before one that has not begun it is open", () => {
    expect(gapsOf(of(runningJob().stages, "unit"))).toEqual([{ start: time(80), end: time(90) }]);
    const { stages } = play(
      plan([["a", { maxAttempts: 2 }]]),
      stage("a", { status: "running", timestamp: at(1) }),
      stage("a", { status: "failed", timestamp: at(2) }),
      stage("a", { status: "pending", attempt: 2, timestamp: at(2) }),
    );
    expect(gapsOf(of(stages, "a"))).toEqual([{ start: time(2), end: null }]);
  });

  test("they are made once for a stage that is the same object", () => {
    const unit = of(runningJob().stages, "unit");
    expect(barsOf(unit)).toBe(barsOf(unit));
  });
});

describe("the axis", () => {
  test("begins with what began first, and ends now while the job goes on", () => {
    const running = { ...runningJob(), startedAt: at(1) };
    expect(extentOf(running, time(130))).toEqual({ start: time(1), end: time(130) });
    expect(extentOf(failedJob(), time(9_999))).toEqual({ start: time(1), end: time(125) });
  });

  test("of a job that has not begun stands still", () => {
    const state = play(plan(["a"]));
    const pending = { ...state, epoch: "aaaaaaaaaaaa", revision: 1 };
    expect(extentOf(pending, time(5))).toEqual({ start: time(0), end: time(0) });
    const odd = play(plan(["a"]), job({ status: "completed", timestamp: at(3) }));
    const { start, end } = extentOf({ ...odd, epoch: "aaaaaaaaaaaa", revision: 2 }, time(5));
    expect(start).toBeLessThanOrEqual(end);
  });

  test("stays while the end fits, and grows by round steps", () => {
    const start = time(0);
    let axis = axisFor({ start, end: time(2) }, false);
    const ends = new Set([axis.end]);
    for (let second = 2; second <= 600; second += 1) {
      axis = axisFor({ start, end: time(second) }, false, axis);
      expect(axis.end).toBeGreaterThanOrEqual(time(second));
      ends.add(axis.end);
    }
    expect(ends.size).toBeLessThan(30);
  });

  test("has few ticks with short labels, whatever the duration", () => {
    for (const seconds of [0.02, 1, 7, 61, 600, 5_000, 90_000, 2_000_000]) {
      const ticks = ticksOf(axisFor({ start: 0, end: seconds * 1_000 }, true));
      expect(ticks.length).toBeGreaterThanOrEqual(2);
      expect(ticks.length).toBeLessThanOrEqual(7);
      expect(ticks[0]).toEqual({ position: 0, label: "0" });
      for (const { position } of ticks) expect(position).toBeLessThanOrEqual(100);
    }
    const labels = ticksOf({ start: 0, end: 120_000, step: 30_000 }).map(({ label }) => label);
    expect(labels).toEqual(["0", "30 s", "1 min", "1 min 30 s", "2 min"]);
  });

  test("positions are percent, and never outside", () => {
    const axis = { start: 100, end: 300, step: 50 };
    expect([0, 150, 400].map((ms) => positionOn(axis, ms))).toEqual([0, 25, 100]);
  });
});
