import {
  allowAll,
  createWorkflowMonitor,
  type Frame,
  memoryStore,
  type WorkflowMonitor,
  type WorkflowMonitorOptions,
} from "@org/workflow-monitor";
import { afterEach, expect, test } from "vitest";
import { ManualClock, settle, turns } from "../support/clock.js";

const RETAIN = 10_000;
const ABANDON = 100_000;

const open: WorkflowMonitor[] = [];
const clocks = new Map<WorkflowMonitor, ManualClock>();

afterEach(async () => {
  for (const monitor of open.splice(0)) {
    await settle(clocks.get(monitor)!, monitor.close());
  }
  clocks.clear();
});

function create(more: Partial<WorkflowMonitorOptions> = {}, clock = new ManualClock()) {
  const monitor = createWorkflowMonitor({
    authorize: allowAll,
    retainMs: RETAIN,
    abandonMs: ABANDON,
    clock,
    ...more,
  });
  open.push(monitor);
  clocks.set(monitor, clock);
  const stage = (jobId: string, fields: object = {}) =>
    monitor.publish({ type: "stage", jobId, stage: "a", ...fields });
  const job = (jobId: string, fields: object = {}) =>
    monitor.publish({ type: "job", jobId, ...fields });
  const begin = (jobId: string) => job(jobId, { status: "running" });
  const end = (jobId: string) => job(jobId, { status: "completed" });
  const known = async (...jobIds: string[]) => {
    const jobs = await Promise.all(jobIds.map((jobId) => monitor.get(jobId)));
    return jobIds.filter((_, index) => jobs[index] !== undefined);
  };
  return { monitor, clock, stage, job, begin, end, known };
}

test("[R15] a done job stays readable for retainMs, then it is unknown", async () => {
  const { monitor, clock, end } = create();
  await end("j");
  clock.advance(RETAIN - 1);
  await expect(monitor.get("j")).resolves.toMatchObject({ status: "completed" });
  clock.advance(2);
  await expect(monitor.get("j")).resolves.toBeUndefined();
});

test("[R15] reading a job does not keep it", async () => {
  const { monitor, clock, end } = create();
  await end("j");
  for (let step = 0; step < 3; step += 1) {
    clock.advance(RETAIN / 4);
    await expect(monitor.get("j")).resolves.toBeDefined();
  }
  clock.advance(RETAIN / 4 + 1);
  await expect(monitor.get("j")).resolves.toBeUndefined();
});

test("[R15] retainMs counts from the end, not from the beginning", async () => {
  const { monitor, clock, begin, end } = create();
  await begin("j");
  clock.advance(ABANDON - 1);
  await end("j");
  clock.advance(RETAIN - 1);
  await expect(monitor.get("j")).resolves.toMatchObject({ done: true });
});

test.each(["pending", "running", "waiting"] as const)(
  "[R15] a job that is %s and went silent stays readable for abandonMs, then it is unknown",
  async (status) => {
    const { monitor, clock, job } = create();
    await job("j", { status });
    clock.advance(ABANDON - 1);
    await expect(monitor.get("j")).resolves.toMatchObject({ status });
    clock.advance(2);
    await expect(monitor.get("j")).resolves.toBeUndefined();
  },
);

test("[R15] a job that speaks is not silent", async () => {
  const { clock, stage, known } = create();
  for (let progress = 0; progress < 5; progress += 1) {
    await stage("j", { progress });
    clock.advance(ABANDON - 1);
    expect(await known("j")).toEqual(["j"]);
  }
  clock.advance(2);
  expect(await known("j")).toEqual([]);
});

test("[R15] a job that was abandoned is known again when it speaks", async () => {
  const { monitor, clock, begin, stage } = create();
  await begin("j");
  clock.advance(ABANDON + 1);
  await stage("j", { status: "running" });
  await expect(monitor.get("j")).resolves.toMatchObject({ currentStage: "a", status: "running" });
});

test("[R15] late events of a done run do not bring it back for another retainMs", async () => {
  const { monitor, clock, job, stage, end } = create();
  const cursor = await end("j");
  const updates: unknown[] = [];
  monitor.on("update", (update) => updates.push(update));
  for (const ms of [RETAIN + 1, RETAIN - 2]) {
    clock.advance(ms);
    const late = [
      job("j", { status: "running" }),
      job("j", { run: 1, message: "late" }),
      stage("j", { status: "running" }),
      stage("j", { attempt: 9, status: "running" }),
      monitor.publish({ type: "plan", jobId: "j", stages: [{ stage: "a" }] }),
    ];
    for (const each of await Promise.all(late)) expect(each).toEqual(cursor);
    await expect(monitor.get("j")).resolves.toBeUndefined();
  }
  expect(updates).toEqual([]);
});

test("[R15] late events of a done run change nothing while it is readable", async () => {
  const { monitor, clock, stage, end } = create();
  await end("j");
  const before = await monitor.get("j");
  clock.advance(RETAIN / 2);
  await stage("j", { status: "running" });
  await expect(monitor.get("j")).resolves.toEqual(before);
  clock.advance(RETAIN / 2 + 1);
  await expect(monitor.get("j")).resolves.toBeUndefined();
});

test("[R15] [R3] a higher run brings a job back, in the same epoch, at the next revision", async () => {
  const { monitor, clock, job, end } = create();
  await monitor.publish({ type: "plan", jobId: "j", name: "n", stages: [{ stage: "a" }] });
  const before = await end("j");
  clock.advance(RETAIN + 1);
  await expect(monitor.get("j")).resolves.toBeUndefined();
  const after = await job("j", { run: 2, status: "running" });
  expect(after).toEqual({ epoch: before.epoch, revision: before.revision + 1 });
  await expect(monitor.get("j")).resolves.toMatchObject({
    run: 2,
    status: "running",
    name: "n",
    stages: [{ stage: "a", status: "pending" }],
  });
});

test("[R15] after another retainMs the job is forgotten, and any event begins it as new", async () => {
  const { monitor, clock, stage, end } = create();
  const before = await end("j");
  clock.advance(2 * RETAIN + 1);
  const after = await stage("j", { status: "running" });
  expect(after.revision).toBe(1);
  expect(after.epoch).not.toBe(before.epoch);
  await expect(monitor.get("j")).resolves.toMatchObject({ run: 1, status: "running" });
});

test("[R15] late events do not prolong the time in which a done run is remembered", async () => {
  const { monitor, clock, stage, end } = create();
  await end("j");
  clock.advance(2 * RETAIN - 1);
  await stage("j", { status: "running" });
  clock.advance(2);
  await stage("j", { status: "running" });
  await expect(monitor.get("j")).resolves.toMatchObject({ status: "running" });
});

test("[R15] another monitor of the same store sees the same ends", async () => {
  const clock = new ManualClock();
  const store = memoryStore({ clock });
  const one = create({ store }, clock);
  const other = create({ store }, clock);
  await one.end("j");
  expect(await other.known("j")).toEqual(["j"]);
  clock.advance(RETAIN + 1);
  expect(await other.known("j")).toEqual([]);
  await other.stage("j", { status: "running" });
  expect(await one.known("j")).toEqual([]);
  await other.stage("j", { run: 2, status: "running" });
  expect(await one.known("j")).toEqual(["j"]);
  await store.close();
});

test("[R15] a list has no job whose time is over", async () => {
  const { monitor, clock, begin, end } = create();
  await begin("running");
  await end("done");
  const names = async () => (await monitor.list()).jobs.map(({ jobId }) => jobId).sort();
  expect(await names()).toEqual(["done", "running"]);
  clock.advance(RETAIN + 1);
  expect(await names()).toEqual(["running"]);
  clock.advance(ABANDON);
  expect(await names()).toEqual([]);
});

test("[R15] over the number of jobs the done ones go first, the oldest of them before", async () => {
  const { clock, begin, end, known } = create({ limits: { jobs: 4 } });
  for (const act of [
    () => begin("live-1"),
    () => end("done-1"),
    () => begin("live-2"),
    () => end("done-2"),
  ]) {
    await act();
    clock.advance(1);
  }
  const all = ["live-1", "done-1", "live-2", "done-2", "new-1", "new-2", "new-3"];
  expect(await known(...all)).toEqual(["live-1", "done-1", "live-2", "done-2"]);
  await begin("new-1");
  expect(await known(...all)).toEqual(["live-1", "live-2", "done-2", "new-1"]);
  await begin("new-2");
  expect(await known(...all)).toEqual(["live-1", "live-2", "new-1", "new-2"]);
  await begin("new-3");
  expect(await known(...all)).toEqual(["live-2", "new-1", "new-2", "new-3"]);
});

test("[R15] of the others those go first that are silent longest", async () => {
  const { clock, begin, stage, known } = create({ limits: { jobs: 3 } });
  for (const jobId of ["a", "b", "c"]) {
    await begin(jobId);
    clock.advance(1);
  }
  await stage("a", { status: "running" });
  clock.advance(1);
  await begin("d");
  expect(await known("a", "b", "c", "d")).toEqual(["a", "c", "d"]);
  clock.advance(1);
  await begin("e");
  expect(await known("a", "c", "d", "e")).toEqual(["a", "d", "e"]);
});

test("[R15] a limit of one job keeps the newest", async () => {
  const { begin, known } = create({ limits: { jobs: 1 } });
  await begin("a");
  await begin("b");
  expect(await known("a", "b")).toEqual(["b"]);
});

test("[R15] a job that had to go begins as new when it speaks again", async () => {
  const { monitor, begin, stage } = create({ limits: { jobs: 1 } });
  const before = await begin("a");
  await begin("b");
  const after = await stage("a", { status: "running" });
  expect(after).not.toEqual(before);
  await expect(monitor.get("a")).resolves.toMatchObject({ currentStage: "a" });
});

/** Watches a job until it ends; what came, and whether it is over. */
function watching(monitor: WorkflowMonitor, jobId: string) {
  const seen: { frames: Frame[]; over: boolean } = { frames: [], over: false };
  const done = (async () => {
    try {
      for await (const frame of monitor.watch(jobId)) seen.frames.push(frame);
    } catch {
      // It says why: the job is gone.
    }
    seen.over = true;
  })();
  return { seen, done };
}

test("[R15] a job that vanishes under its viewers keeps them for 60 s", async () => {
  const { monitor, clock, begin } = create({ abandonMs: 30_000 });
  await begin("j");
  const { seen, done } = watching(monitor, "j");
  await turns();
  expect(seen.frames.length).toBeGreaterThan(0);
  const step = async (ms: number) => {
    for (let left = ms; left > 0; left -= 1_000) {
      clock.advance(Math.min(1_000, left));
      await turns(2);
    }
  };
  await step(30_000 + 59_000);
  expect(seen.over).toBe(false);
  await step(10 * 60_000);
  expect(seen.over).toBe(true);
  await done;
});

test("[R15] a job that comes back within that time goes on for its viewers", async () => {
  const { monitor, clock, begin, stage, end } = create({ abandonMs: 30_000 });
  await begin("j");
  const { seen, done } = watching(monitor, "j");
  await turns();
  for (let second = 0; second < 60; second += 1) {
    clock.advance(1_000);
    await turns(2);
  }
  expect(seen.over).toBe(false);
  await stage("j", { status: "running", message: "back" });
  await turns();
  expect(JSON.stringify(seen.frames)).toContain("back");
  await end("j");
  await settle(clock, done);
});
