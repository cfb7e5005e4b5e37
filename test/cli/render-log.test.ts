import type { WorkflowEvent } from "@org/workflow-monitor/protocol";
import { expect, test } from "vitest";
import { logView } from "../../packages/cli/src/render-log.js";
import { ManualClock } from "../support/clock.js";
import { at, HOSTILE, job, jobAfter, live, lost, plan, sink, stage } from "./given.js";

/** A log of a watch that gets each event on its own, or all in one frame. */
function logOf(begin: WorkflowEvent[], rest: WorkflowEvent[], { together = false } = {}) {
  const output = sink();
  const view = logView(output, new ManualClock());
  view.change(jobAfter(...begin), { resumed: false });
  rest.forEach((event, index) => {
    view.event(event, { cursor: "k3x9q0a7mw2c.1" });
    const last = index === rest.length - 1;
    if (!together || last)
      view.change(jobAfter(...begin, ...rest.slice(0, index + 1)), { resumed: true });
  });
  const end = jobAfter(...begin, ...rest);
  if (end.done) view.done(end);
  return output.lines.map((line) => line.replace(/^2026-01-01T00:(\d\d:\d\d)\.000Z /, "$1 "));
}

const PLAN = plan(["build", ["test", { maxAttempts: 2 }], "notify"], { name: "Release 7" });
const RUN = [
  stage("build", { status: "running", timestamp: at(1) }),
  stage("build", { progress: 40, timestamp: at(2) }),
  stage("build", { progress: 80, message: "linking", timestamp: at(3) }),
  stage("build", { status: "completed", timestamp: at(4) }),
  stage("test", { status: "failed", timestamp: at(5), error: { code: "EXIT", message: "exit 1" } }),
  stage("test", { status: "running", attempt: 2, timestamp: at(6) }),
  stage("test", { status: "completed", timestamp: at(7), message: "80 passed" }),
  job({ status: "cancelled", reason: "by_user", timestamp: at(8) }),
];

test("a job's log has one line for each transition, and no percentages between", () => {
  expect(logOf([PLAN], RUN)).toEqual([
    "00:00 job Release 7: pending, 0 %, stages: 3 pending",
    "00:01 job Release 7: running",
    "00:01 stage build: running",
    "00:04 stage build: completed",
    "00:05 stage test: failed: exit 1",
    "00:06 stage test: running (attempt 2 of 2)",
    "00:07 stage test: completed (attempt 2 of 2): 80 passed",
    "00:08 stage notify: skipped: not run",
    "00:08 job Release 7: cancelled, 66 %, in 0:07: by user",
  ]);
});

test("who was away learns each transition, in order", () => {
  const lines = logOf([PLAN], RUN, { together: true });
  expect(lines.filter((line) => line.includes("stage test"))).toEqual([
    "00:05 stage test: failed: exit 1",
    "00:06 stage test: running (attempt 2 of 2)",
    "00:07 stage test: completed (attempt 2 of 2): 80 passed",
  ]);
});

test("a watch that begins in the middle says what is going on, not what is over", () => {
  expect(logOf([PLAN, ...RUN.slice(0, 6)], [])).toEqual([
    "00:06 job Release 7: running, 33 %, stages: 1 pending, 1 running, 1 completed",
    "00:06 stage test: running (attempt 2 of 2)",
  ]);
});

test("a watch that begins after a cursor says what happened since", () => {
  const output = sink();
  const view = logView(output, new ManualClock());
  for (const event of RUN.slice(3)) view.event(event, { cursor: "k3x9q0a7mw2c.1" });
  view.change(jobAfter(PLAN, ...RUN), { resumed: true });
  expect(output.lines.map((line) => line.slice(25))).toEqual([
    "job Release 7: cancelled, 66 %, stages: 2 completed, 1 skipped: by user",
    "stage build: completed",
    "stage test: failed: exit 1",
    "stage test: running (attempt 2 of 2)",
    "stage test: completed (attempt 2 of 2): 80 passed",
  ]);
});

test("the next run is told, and its stages anew", () => {
  const lines = logOf(
    [PLAN, ...RUN],
    [stage("build", { status: "running", run: 2, timestamp: at(20) })],
  );
  expect(lines.slice(1)).toEqual([
    "00:20 job Release 7: running, run 2",
    "00:20 stage build: running",
  ]);
});

test("a lost connection is one line, each other cause one more, and so is its return", () => {
  const output = sink();
  const view = logView(output, new ManualClock());
  view.connection({ ...live, state: "connecting" });
  view.connection(live);
  view.connection(lost("The line was cut.", 1));
  view.connection(lost("The line was cut.", null));
  view.connection(lost("The line was cut.", 2));
  view.connection(lost("Nothing answers.", 3));
  view.connection(live);
  view.connection({ ...live, state: "ended" });
  expect(output.lines.map((line) => line.slice(25))).toEqual([
    "connection: live over WebSocket",
    "connection: reconnecting: The line was cut.",
    "connection: reconnecting: Nothing answers.",
    "connection: live over WebSocket",
  ]);
});

test("a hostile name is one line without control characters", () => {
  const hostile = HOSTILE.join("");
  const [line, ...others] = logOf([plan([], { name: hostile })], []);
  expect(others).toEqual([]);
  expect(line).not.toMatch(/\p{Cc}/u);
});
