import type { JobSnapshot, JobState } from "@org/workflow-monitor";
import { at, from, job, plan, play, stage } from "../core/given.js";

const snapshotOf = (state: JobState, revision = 1): JobSnapshot => ({
  ...state,
  epoch: "aaaaaaaaaaaa",
  revision,
});

const release = plan(
  [
    ["fetch", { name: "Fetch sources", weight: 1 }],
    ["lint", { name: "Lint", dependsOn: ["fetch"] }],
    ["build", { name: "Build the application", dependsOn: ["fetch"], weight: 3 }],
    ["unit", { name: "Unit tests", dependsOn: ["build"], maxAttempts: 3 }],
    ["browser", { name: "Browser tests", dependsOn: ["build"], maxAttempts: 2 }],
    ["docs", { name: "Documentation", dependsOn: ["fetch"], allowFailure: true }],
    ["approve", { name: "Approval", dependsOn: ["lint", "unit", "browser"] }],
    ["deploy", { name: "Deploy to production", dependsOn: ["approve"] }],
    ["notify", { name: "Notify", dependsOn: ["deploy", "docs"] }],
  ],
  { name: "Release 7" },
);

const begun: JobState = play(
  release,
  stage("fetch", { status: "running", timestamp: at(1) }),
  stage("fetch", { status: "completed", timestamp: at(9.4) }),
  stage("lint", { status: "running", timestamp: at(9.5) }),
  stage("docs", { status: "running", timestamp: at(10) }),
  stage("build", { status: "running", timestamp: at(9.6) }),
  stage("lint", { status: "completed", timestamp: at(24) }),
  stage("docs", {
    status: "failed",
    timestamp: at(31),
    error: {
      code: "BROKEN_LINK",
      message: "guide/install.md links to setup.md, which does not exist.",
    },
  }),
  stage("build", { status: "completed", timestamp: at(62) }),
  stage("unit", { status: "running", timestamp: at(62.3) }),
  stage("browser", { status: "waiting", timestamp: at(62.4), message: "waits for a free browser" }),
  stage("unit", {
    status: "failed",
    timestamp: at(80),
    error: { code: "AssertionError", message: "expected 3 rows to be 4" },
  }),
  stage("unit", { status: "running", attempt: 2, timestamp: at(90) }),
  stage("unit", { progress: 60, message: "212 of 354 tests", timestamp: at(118) }),
);

/** In the middle of a release: everything that a stage can be, but cancelled and skipped. */
export const runningJob = (): JobSnapshot => snapshotOf(begun, 14);

/** The same, failed: what was under way is cancelled, what was to come is skipped. */
export const failedJob = (): JobSnapshot =>
  snapshotOf(
    from(
      begun,
      stage("unit", {
        status: "failed",
        timestamp: at(124),
        error: { code: "AssertionError", message: "expected 3 rows to be 4" },
      }),
      job({
        status: "failed",
        timestamp: at(125),
        error: { code: "TESTS_FAILED", message: "Unit tests failed twice." },
      }),
    ),
    16,
  );

export const completedJob = (): JobSnapshot =>
  snapshotOf(from(begun, job({ status: "completed", timestamp: at(180) })), 15);

/** Eight stages in a row of which nothing says what waits for what. */
export const looseJob = (): JobSnapshot =>
  snapshotOf(
    play(
      plan(["extract", "clean", "match", "score", "review", "export", "archive", "report"], {
        name: "Nightly import",
      }),
      stage("extract", { status: "completed", timestamp: at(4) }),
      stage("clean", { status: "running", timestamp: at(5) }),
      stage("clean", { progress: 35, timestamp: at(8) }),
    ),
    3,
  );

/** Two stages that wait for each other, one for itself, one for a stage that nobody knows. */
export const tangledJob = (): JobSnapshot =>
  snapshotOf(
    play(
      plan([
        ["a", { dependsOn: ["c"] }],
        ["b", { dependsOn: ["a", "a"] }],
        ["c", { dependsOn: ["b", "nobody"] }],
        ["d", { dependsOn: ["d", "c"] }],
      ]),
    ),
  );

/** A job of `count` stages in layers, each of which waits for one or two of the layer before. */
export function largeJob(count: number): JobSnapshot {
  const width = Math.max(3, Math.round(Math.sqrt(count) / 1.6));
  const names = Array.from({ length: count }, (_, at) => `stage ${at + 1}`);
  const stages = names.map((name, at) => {
    const layer = Math.floor(at / width);
    const before = [at % width, (at * 7 + layer) % width].map(
      (place) => (layer - 1) * width + place,
    );
    const dependsOn = layer === 0 ? [] : [...new Set(before)].map((place) => `stage ${place + 1}`);
    return [name, { dependsOn }] as const;
  });
  const half = names.slice(0, count / 2);
  return snapshotOf(
    play(
      plan(stages, { name: `${count} stages` }),
      ...half.flatMap((name, second) => [
        stage(name, { status: "running", timestamp: at(second) }),
        stage(name, { status: "completed", timestamp: at(second + 3) }),
      ]),
      stage(names[half.length] ?? "", { status: "running", timestamp: at(half.length + 1) }),
    ),
    count,
  );
}
