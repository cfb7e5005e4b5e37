import { type Connection, MonitorClientError } from "@org/workflow-monitor-client";
import { describe, expect, test } from "vitest";
import {
  connectionText,
  durationOf,
  formatDuration,
  jobSentence,
  stageSentence,
} from "../../packages/elements/src/format.js";
import { at } from "../core/given.js";
import { failedJob, runningJob } from "../support/jobs.js";

const time = (second: number) => Date.parse(at(second));
const named = (name: string) => {
  const found = runningJob().stages.find(({ stage }) => stage === name);
  if (!found) throw new Error(`no stage ${name}`);
  return found;
};

describe("durations", () => {
  test.each([
    [0, "0 ms"],
    [420.4, "420 ms"],
    [999.6, "1 s"],
    [3_449, "3.4 s"],
    [9_949, "9.9 s"],
    [9_999, "9.9 s"],
    [10_000, "10 s"],
    [59_999, "59 s"],
    [60_000, "1 min 00 s"],
    [125_000, "2 min 05 s"],
    [4_320_000, "1 h 12 min"],
    [273_600_000, "3 d 4 h"],
    [-5, "0 ms"],
  ])("%d ms is %s", (ms, text) => {
    expect(formatDuration(ms)).toBe(text);
  });

  test("what goes on is told in whole seconds", () => {
    expect(formatDuration(420, true)).toBe("0 s");
    expect(formatDuration(3_900, true)).toBe("3 s");
    expect(formatDuration(61_900, true)).toBe("1 min 01 s");
  });

  test("a stage that never began has none; one that is active lasts until now", () => {
    expect(durationOf(named("deploy"), time(200))).toBeNull();
    expect(durationOf(named("unit"), time(95.7))).toBe("5 s");
    expect(durationOf(named("fetch"), time(1_000))).toBe("8.4 s");
  });
});

describe("the connection", () => {
  const connection = (more: Partial<Connection>): Connection => ({
    state: "live",
    transport: "ws",
    cause: null,
    retryAt: null,
    stale: false,
    ...more,
  });

  test("counts down to the next try, and never to zero", () => {
    const lost = connection({ state: "reconnecting", retryAt: 10_000 });
    const texts = [7_000, 7_001, 9_500, 10_300].map((now) => connectionText(lost, now));
    expect(texts).toEqual([3, 3, 1, 1].map((seconds) => `Reconnecting in ${seconds} s`));
    expect(connectionText(connection({ state: "reconnecting" }), 0)).toBe("Reconnecting …");
  });

  test("waits for a job that is not there yet, over a line that is fine", () => {
    const cause = new MonitorClientError("unknown_job", "There is no such job.");
    const connection = { state: "reconnecting", transport: "ws", cause, retryAt: 1, stale: false };
    expect(connectionText(connection as Connection, 0)).toBe("Waiting for the job");
  });

  test("says when the server may show old things", () => {
    expect(connectionText(connection({}), 0)).toBe("Live");
    expect(connectionText(connection({ stale: true }), 0)).toBe("Live, may be old");
  });
});

describe("sentences", () => {
  test("a stage's has everything that its picture shows", () => {
    expect(stageSentence(named("unit"), time(118))).toBe(
      "Unit tests: running, 60 %, attempt 2 of 3, 28 s, after build, 212 of 354 tests",
    );
    expect(stageSentence(named("fetch"), time(118))).toBe("Fetch sources: completed, 8.4 s");
  });

  test("a job's does not change with each percent", () => {
    const [job, later] = [runningJob(), runningJob()];
    later.progress += 1;
    expect(jobSentence(job)).toBe("Release 7: running. Unit tests: running, attempt 2 of 3");
    expect(jobSentence(later)).toBe(jobSentence(job));
    expect(jobSentence(failedJob())).toBe("Release 7: failed. Unit tests: failed, attempt 2 of 3");
  });
});
