import type { JobSnapshot, WorkflowEvent } from "@org/workflow-monitor";
import { describe, expect, test } from "vitest";
import { type Command, parseArguments } from "../../packages/cli/src/arguments.js";
import { readJob } from "../../packages/cli/src/job.js";
import { list } from "../../packages/cli/src/list.js";
import { logView } from "../../packages/cli/src/render-log.js";
import { watch } from "../../packages/cli/src/watch.js";
import { systemClock } from "../../packages/core/src/host.js";
import { startClient } from "../support/client.js";
import { failedJob, runningJob } from "../support/jobs.js";
import { startServer } from "../support/server.js";
import { at, sink } from "./given.js";

const URL = "http://host";

/** What the CLI prints of a job `42` in this shape that is watched from its first stage to its failure. */
async function shown(present: (job: JobSnapshot) => unknown, args: string[]) {
  const server = await startServer({ present });
  const { monitor } = server;
  const stages = [{ stage: "build" }, { stage: "test" }];
  await monitor.publish({ type: "plan", jobId: "42", stages });
  const [stdout, stderr] = [sink(), sink()];
  const io = { stdout, stderr, env: {}, clock: systemClock, signal: new AbortController().signal };
  const client = startClient(server.port);
  const command: Command = parseArguments(args, {});
  if (command.name === "list") return { code: await list(command, client, io), stdout, stderr };
  if (command.name !== "watch") throw new Error("neither watch nor list");
  monitor.on("join", () => {
    void monitor.publish({ type: "stage", jobId: "42", stage: "build", status: "running" });
    void monitor.publish({ type: "job", jobId: "42", status: "failed", message: "no" });
  });
  return { code: await watch(command, client, io), stdout, stderr };
}

describe("[S6] [R16] a job in a shape of the host's own", () => {
  const WATCH = ["watch", URL, "42"];
  const partial = ({ jobId, status, progress, stages }: JobSnapshot) => ({
    id: jobId,
    status,
    progress,
    stages: stages.map(({ stage, status }) => ({ stage, status })),
  });
  const foreign = ({ jobId, status }: JobSnapshot) => ({ id: jobId, state: status.toUpperCase() });

  test("is a log of what the shape tells", async () => {
    const { code, stdout, stderr } = await shown(partial, WATCH);
    expect(code).toBe(1);
    expect(stderr.text).toBe("");
    for (const line of stdout.lines) expect(line).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]{12}Z \w/);
    const lines = stdout.lines.map((line) => line.slice(25));
    expect(lines.filter((line) => !line.startsWith("connection"))).toEqual([
      "job 42: pending, 0 %, stages: 2 pending",
      "job 42: running",
      "stage build: running",
      "stage build: cancelled",
      "stage test: skipped",
      "job 42: failed, 0 %",
    ]);
  });

  test("is a row of what the shape tells", async () => {
    const { code, stdout } = await shown(partial, ["list", URL]);
    expect(code).toBe(0);
    expect(stdout.lines).toEqual([
      "JOB  NAME  STATUS   DONE  STAGE  CHANGED",
      "           pending  0 %",
    ]);
  });

  test.each([[WATCH], [["list", URL]]])("cannot be shown without a status: %j", async (args) => {
    const { code, stdout, stderr } = await shown(foreign, args);
    expect(code).toBe(3);
    expect(stdout.text).not.toMatch(/undefined|NaN/);
    expect(stderr.text).toBe(
      "The server shows jobs in a shape of its own, without a status: --json prints it as it is.\n",
    );
  });

  test("is printed with --json as it is, and how it ended is not known", async () => {
    const { code, stdout } = await shown(foreign, [...WATCH, "--json"]);
    expect(code).toBe(3);
    const lines = stdout.lines.map((line) => JSON.parse(line) as { type: string });
    expect(lines.filter(({ type }) => type === "snapshot" || type === "end")).toEqual([
      { type: "snapshot", job: { id: "42", state: "PENDING" } },
      { type: "end", job: { id: "42", state: "FAILED" } },
    ]);
    const timestamp = expect.any(String);
    const events = lines.filter(({ type }) => type === "event");
    expect(events.length).toBeGreaterThan(0);
    for (const event of events) expect(event).toMatchObject({ event: { type: "job", timestamp } });
  });

  test.each([runningJob(), failedJob()])("is read whole when nothing is left out", (job) => {
    const { activeStages, labels, metadata, createdAt, epoch, revision, ...told } = job;
    const stages = told.stages.map((stage) => ({
      ...stage,
      weight: 1,
      dependsOn: [],
      attempts: [],
      metadata: null,
    }));
    expect(readJob(job, "")).toMatchObject({ ...told, stages });
  });

  test.each([null, undefined, "x", 5, [], {}, { status: "RUNNING" }, { status: ["running"] }])(
    "is refused with a sentence, not with a crash: %j",
    (job) => {
      expect(() => readJob(job, "42")).toThrow(/shape of its own/);
    },
  );

  test("counts fields of another type as not known", () => {
    const odd = { a: 1 };
    const stages = [null, "x", { stage: "a" }, { stage: 1, status: "running" }];
    const job = readJob(
      {
        status: "running",
        name: odd,
        progress: "5 %",
        counts: "many",
        error: 7,
        startedAt: "soon",
        updatedAt: odd,
        stages: [...stages, { stage: "b", status: "running", attempt: "2", error: { code: 1 } }],
      },
      "42",
    );
    expect(job).toMatchObject({
      jobId: "42",
      name: null,
      progress: 0,
      indeterminate: true,
      counts: { total: 1, running: 1 },
      error: null,
      startedAt: null,
      updatedAt: "",
      stages: [{ stage: "b", name: "b", attempt: 1, error: null }],
    });
  });
});

test("[S19] what a server sends as an event is read, too: no escape sequence and no crash", () => {
  const output = sink();
  const view = logView(output, systemClock);
  const evil = "\u001b]0;pwned\u0007";
  const events = [
    null,
    { type: "stage" },
    { type: "stage", stage: "build", status: `running${evil}`, timestamp: at(1) },
    { type: "stage", stage: "build", status: "running", timestamp: `2026${evil}` },
    { type: "stage", stage: "build", status: "failed", timestamp: at(2), error: { message: evil } },
    { type: "stage", stage: "build", status: "running", timestamp: at(3), attempt: evil, error: 7 },
  ];
  const job = readJob({ status: "running", stages: [{ stage: "build", status: "failed" }] }, "42");
  view.change(job, { resumed: false });
  for (const event of events) view.event(event as unknown as WorkflowEvent, { cursor: "" });
  view.change(job, { resumed: true });
  expect(output.text).not.toMatch(/[^\n -~]|pwned/);
  expect(output.lines.map((line) => line.slice(25))).toEqual([
    "job 42: running, stages: 1 failed",
    "stage build: running",
    "stage build: failed",
    "stage build: running",
    "stage build: failed",
  ]);
});
