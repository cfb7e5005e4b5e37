import type { JobSnapshot } from "@org/workflow-monitor";
import { describe, expect, test } from "vitest";
import { readJob } from "../../packages/elements/src/job.js";
import { completedJob, failedJob, largeJob, runningJob, tangledJob } from "../support/jobs.js";

const read = (job: unknown) => readJob(job as JobSnapshot, "42");

describe("[S6] [R16] a job as elements read it", () => {
  test.each([runningJob(), failedJob(), completedJob(), tangledJob(), largeJob(100)])(
    "is the same object when nothing is left out",
    (job) => {
      expect(read(job)).toBe(job);
    },
  );

  test("has what is missing as not known", () => {
    const job = read({ status: "failed", stages: [{ stage: "a", status: "running" }] });
    expect(job).toMatchObject({
      jobId: "42",
      name: null,
      run: 1,
      indeterminate: true,
      message: null,
      error: null,
      startedAt: null,
      counts: { total: 1, running: 1, failed: 0 },
      stages: [{ stage: "a", name: "a", attempt: 1, attempts: [], dependsOn: [], error: null }],
    });
    expect(Date.parse(job?.updatedAt ?? "")).not.toBeNaN();
  });

  test("has what is of another type as not known, and leaves out what is no stage", () => {
    const stages = [null, "x", { stage: "a" }, { stage: "b", status: "RUNNING" }];
    const job = read({
      status: "running",
      progress: "5 %",
      startedAt: "soon",
      error: "text",
      stages: [...stages, { stage: "c", status: "running", dependsOn: "a", attempts: 2 }],
    });
    expect(job).toMatchObject({ progress: 0, startedAt: null, error: null });
    expect(job?.stages).toMatchObject([{ stage: "c", dependsOn: [], attempts: [] }]);
  });

  test("keeps the objects of stages that lack nothing", () => {
    const { metadata, ...job } = runningJob();
    expect(read({ ...job, error: undefined })?.stages[0]).toBe(job.stages[0]);
  });

  test.each([null, "x", 5, [], {}, { status: "RUNNING" }, { state: "running" }])(
    "is none without a status: %j",
    (job) => {
      expect(read(job)).toBeNull();
    },
  );
});
