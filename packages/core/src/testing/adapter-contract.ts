import assert from "node:assert/strict";
import type { Authorize } from "../authorize.js";
import { createWorkflowMonitor, type WorkflowMonitor } from "../monitor.js";
import type { Frame, Mode, SnapshotFrame, UpdateFrame } from "../protocol.js";
import { applyPatch, printCursor } from "../revision.js";
import type { JobSnapshot } from "../snapshot.js";
import { inTime, type Test, until } from "./contract.js";

/** One viewer on an adapter under test. */
export interface AdapterViewer {
  /** The next frame's JSON text; undefined: the connection is closed. Heartbeats may be left out. */
  next(): Promise<string | undefined>;
  /** Cuts the connection without a goodbye. */
  cut(): void;
}

/** An adapter under test, serving one monitor. */
export interface AdapterFixture {
  /**
   * For adapters that push. One that refuses before there is a connection shows what it says as an
   * `error` frame, and the close after it.
   */
  watch?(jobId: string, options: { after?: string; mode?: Mode }): Promise<AdapterViewer>;
  /** For adapters that answer polls. `body` is the text, `tag` the validator, if there is one. */
  poll?(
    jobId: string,
    ifNoneMatch?: string,
  ): Promise<{ status: number; body: string; tag: string | undefined }>;
  close(): Promise<void>;
}

export interface AdapterContractOptions {
  test: Test;
  /** Serves this monitor. */
  open(monitor: WorkflowMonitor): Promise<AdapterFixture>;
  supports: { watch: boolean; poll: boolean; delta?: boolean };
}

type Watch = NonNullable<AdapterFixture["watch"]>;
type Poll = NonNullable<AdapterFixture["poll"]>;

const JOB = "the job";
const FORBIDDEN = "somebody else's job";

/** What every adapter must do: the same frames, the same bytes, on every transport. */
export function adapterContract({ test, open, supports }: AdapterContractOptions): void {
  const check = (
    name: string,
    run: (monitor: WorkflowMonitor, fixture: { watch: Watch; poll: Poll }) => Promise<void>,
  ) =>
    test(name, async () => {
      const authorize: Authorize = ({ jobId }) => jobId !== FORBIDDEN;
      const monitor = createWorkflowMonitor({ authorize });
      const fixture = await open(monitor);
      try {
        await plan(monitor, JOB);
        await run(monitor, fixture as { watch: Watch; poll: Poll });
      } finally {
        await fixture.close();
        await monitor.close();
      }
    });

  if (supports.watch) watching(check);
  if (supports.watch && supports.delta) deltas(check);
  if (supports.poll) polling(check);
  if (supports.watch && supports.poll) bothWays(check);
}

type Check = (
  name: string,
  run: (monitor: WorkflowMonitor, fixture: { watch: Watch; poll: Poll }) => Promise<void>,
) => unknown;

function watching(check: Check): void {
  check("the first frame is a snapshot of now", async (monitor, { watch }) => {
    const viewer = await watch(JOB, {});
    const first = await frame<SnapshotFrame>(viewer, "snapshot");
    assert.equal(first.jobId, JOB);
    assert.equal(first.resumed, false);
    assert.deepEqual(first.events, []);
    assert.deepEqual(first.job, await monitor.get(JOB));
    assert.equal(first.cursor, `${first.job.epoch}.${first.job.revision}`);
  });

  check(
    "each revision follows once, in order, with its event and the job",
    async (monitor, { watch }) => {
      const viewer = await watch(JOB, {});
      const { job } = await frame<SnapshotFrame>(viewer, "snapshot");
      for (let n = 1; n <= 30; n++)
        void monitor.publish({ type: "job", jobId: JOB, message: `step ${n}` });
      for (let n = 1; n <= 30; n++) {
        const update = await frame<UpdateFrame>(viewer, "update");
        assert.equal(update.cursor, `${job.epoch}.${job.revision + n}`);
        assert.equal(update.event.type, "job");
        assert.equal((update.event as { message?: string }).message, `step ${n}`);
        assert.equal(update.job?.message, `step ${n}`);
        assert.equal(update.job?.revision, job.revision + n);
      }
    },
  );

  check("all viewers get the same bytes", async (monitor, { watch }) => {
    const viewers = await Promise.all(Array.from({ length: 5 }, () => watch(JOB, {})));
    const firsts = await Promise.all(viewers.map(text));
    assert.equal(new Set(firsts).size, 1);
    await monitor.publish({ type: "stage", jobId: JOB, stage: "a", status: "running" });
    const updates = await Promise.all(viewers.map(text));
    assert.equal(new Set(updates).size, 1);
  });

  check(
    "who comes back with a cursor gets every event since, and nothing twice",
    async (monitor, { watch }) => {
      const viewer = await watch(JOB, {});
      const { cursor } = await frame<SnapshotFrame>(viewer, "snapshot");
      viewer.cut();
      const missed: string[] = [];
      for (let n = 1; n <= 10; n++) {
        await monitor.publish({ type: "job", jobId: JOB, message: `missed ${n}` });
        missed.push(`missed ${n}`);
      }
      const back = await watch(JOB, { after: cursor });
      const first = await frame<SnapshotFrame>(back, "snapshot");
      assert.equal(first.resumed, true);
      assert.deepEqual(
        first.events.map((event) => (event as { message?: string }).message),
        missed,
      );
      assert.equal(first.job.message, "missed 10");
      await monitor.publish({ type: "job", jobId: JOB, message: "next" });
      assert.equal((await frame<UpdateFrame>(back, "update")).job?.message, "next");
    },
  );

  check("who comes back at the head has missed nothing", async (monitor, { watch }) => {
    const cursor = printCursor(await monitor.publish({ type: "job", jobId: JOB, message: "head" }));
    const first = await frame<SnapshotFrame>(await watch(JOB, { after: cursor }), "snapshot");
    assert.equal(first.resumed, true);
    assert.deepEqual(first.events, []);
    assert.equal(first.cursor, cursor);
  });

  check("a cursor that is nobody's is answered with a snapshot", async (monitor, { watch }) => {
    const { epoch } = (await monitor.get(JOB)) as JobSnapshot;
    for (const after of ["garbage", "zzzzzzzzzzzz.1", `${epoch}.999`, `${epoch}.-1`]) {
      const viewer = await watch(JOB, { after });
      const first = await frame<SnapshotFrame>(viewer, "snapshot");
      assert.equal(first.resumed, false, after);
      assert.deepEqual(first.events, [], after);
      viewer.cut();
    }
  });

  check("an unknown job and a forbidden one look the same", async (monitor, { watch }) => {
    await plan(monitor, FORBIDDEN);
    const answers: unknown[] = [];
    for (const jobId of ["nobody's job", FORBIDDEN]) {
      const viewer = await watch(jobId, {});
      const { jobId: told, ...rest } = await frame<Frame & { jobId: string; code: string }>(
        viewer,
        "error",
      );
      assert.equal(told, jobId);
      assert.equal(rest.code, "unknown_job");
      assert.equal(await inTime("the close", viewer.next()), undefined);
      answers.push(rest);
    }
    assert.deepEqual(answers[0], answers[1]);
  });

  check("the end is told after the last update, and is the last", async (monitor, { watch }) => {
    const viewer = await watch(JOB, {});
    await frame(viewer, "snapshot");
    void monitor.publish({ type: "job", jobId: JOB, status: "completed" });
    void monitor.publish({ type: "job", jobId: JOB, message: "too late" });
    const last = await frame<UpdateFrame>(viewer, "update");
    assert.equal(last.job?.status, "completed");
    const end = await frame<Frame & { type: "end" }>(viewer, "end");
    assert.equal(end.status, "completed");
    assert.equal(end.cursor, last.cursor);
    assert.equal(await inTime("the close", viewer.next()), undefined);
    await until("the viewer is gone", () => watchers(monitor) === 0);
  });

  check("a job that is over is shown and ended at once", async (monitor, { watch }) => {
    await monitor.publish({ type: "job", jobId: JOB, status: "failed" });
    const viewer = await watch(JOB, {});
    assert.equal((await frame<SnapshotFrame>(viewer, "snapshot")).done, true);
    await frame(viewer, "end");
    assert.equal(await inTime("the close", viewer.next()), undefined);
  });

  check("a viewer that is cut off leaves, and disturbs nobody", async (monitor, { watch }) => {
    const [gone, here] = [await watch(JOB, {}), await watch(JOB, {})];
    await frame(gone, "snapshot");
    await frame(here, "snapshot");
    assert.equal(watchers(monitor), 2);
    gone.cut();
    await until("it has left", () => watchers(monitor) === 1);
    await monitor.publish({ type: "job", jobId: JOB, message: "still here" });
    assert.equal((await frame<UpdateFrame>(here, "update")).job?.message, "still here");
  });

  check("drain sends every viewer away, to come back", async (monitor, { watch }) => {
    const viewer = await watch(JOB, {});
    await frame(viewer, "snapshot");
    await monitor.drain();
    const told = await frame<Frame & { type: "error" }>(viewer, "error");
    assert.equal(told.retryable, true);
    assert.equal(await inTime("the close", viewer.next()), undefined);
  });
}

function deltas(check: Check): void {
  check("deltas lead to the same job, to the byte", async (monitor, { watch }) => {
    const [delta, full] = [await watch(JOB, { mode: "delta" }), await watch(JOB, {})];
    let { job } = await frame<SnapshotFrame>(delta, "snapshot");
    await frame(full, "snapshot");
    const events = [
      { stage: "b", status: "running" },
      { stage: "b", progress: 40 },
      { stage: "new", status: "running", message: "not in the plan" },
      { stage: "b", status: "completed" },
    ] as const;
    for (const event of events) {
      await monitor.publish({ type: "stage", jobId: JOB, ...event });
      const update = await frame<UpdateFrame>(delta, "update");
      assert.equal(update.job, undefined);
      assert.ok(update.patch);
      job = applyPatch(job, update.patch);
      const { job: expected, event: told } = await frame<UpdateFrame>(full, "update");
      assert.equal(JSON.stringify(job), JSON.stringify(expected));
      assert.deepEqual(update.event, told);
    }
  });
}

function polling(check: Check): void {
  check("a poll answers with the job of now", async (monitor, { poll }) => {
    const { status, body, tag } = await poll(JOB);
    assert.equal(status, 200);
    assert.deepEqual(JSON.parse(body), await monitor.get(JOB));
    assert.ok(tag);
  });

  check(
    "a poll with the validator is answered without the job, until it changes",
    async (monitor, { poll }) => {
      const { tag } = await poll(JOB);
      const again = await poll(JOB, tag);
      assert.equal(again.status, 304);
      assert.equal(again.body, "");
      await monitor.publish({ type: "job", jobId: JOB, message: "changed" });
      const changed = await poll(JOB, tag);
      assert.equal(changed.status, 200);
      assert.notEqual(changed.tag, tag);
    },
  );

  check(
    "polls for an unknown job and for a forbidden one look the same",
    async (monitor, { poll }) => {
      await plan(monitor, FORBIDDEN);
      const unknown = await poll("nobody's job");
      assert.equal(unknown.status, 404);
      assert.equal((JSON.parse(unknown.body) as { code?: string }).code, "unknown_job");
      assert.deepEqual(await poll(FORBIDDEN), unknown);
    },
  );
}

function bothWays(check: Check): void {
  check(
    "what is polled stands byte for byte in the frame of the same cursor",
    async (monitor, { watch, poll }) => {
      const viewer = await watch(JOB, {});
      assert.ok((await text(viewer)).includes((await poll(JOB)).body));
      await monitor.publish({
        type: "stage",
        jobId: JOB,
        stage: "a",
        status: "running",
        message: "ü 😀",
      });
      assert.ok((await text(viewer)).includes((await poll(JOB)).body));
    },
  );
}

async function plan(monitor: WorkflowMonitor, jobId: string): Promise<void> {
  const stages = ["a", "b", "c"].map((stage) => ({ stage }));
  await monitor.publish({ type: "plan", jobId, name: "A job", stages });
}

/** The next frame's text, heartbeats aside. */
async function text(viewer: AdapterViewer): Promise<string> {
  for (;;) {
    const next = await inTime("a frame", viewer.next());
    assert.ok(next !== undefined, "the connection closed instead of a frame");
    if ((JSON.parse(next) as Frame).type !== "heartbeat") return next;
  }
}

async function frame<F extends Frame = Frame>(viewer: AdapterViewer, type: F["type"]): Promise<F> {
  const next = JSON.parse(await text(viewer)) as F;
  assert.equal(next.type, type, JSON.stringify(next).slice(0, 200));
  return next;
}

function watchers(monitor: WorkflowMonitor): number {
  const { ws, sse, longPoll, watch } = monitor.stats().viewers;
  return ws + sse + longPoll + watch;
}
