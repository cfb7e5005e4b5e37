import assert from "node:assert/strict";
import { allowAll } from "../authorize.js";
import type { WorkflowEngine } from "../engine.js";
import { memoryStore } from "../memory-store.js";
import { createWorkflowMonitor, type UpdateEvent, type WorkflowMonitor } from "../monitor.js";
import { type Test, until } from "./contract.js";

/** An engine under test, and the means to make it work. */
export interface EngineFixture {
  engine: WorkflowEngine;
  /** Runs a job to this end and resolves to its job id, not necessarily after its last event. */
  run(end: "completed" | "failed"): Promise<string>;
  close?(): Promise<void> | void;
}

export interface EngineContractOptions {
  test: Test;
  create(): EngineFixture | Promise<EngineFixture>;
  /** How long a job may take to end, in milliseconds. Default 5,000. */
  patienceMs?: number;
}

/** What every engine source must do, seen through a monitor that it is attached to. */
export function engineContract({ test, create, patienceMs = 5_000 }: EngineContractOptions): void {
  const check = (
    name: string,
    run: (fixture: EngineFixture, monitor: WorkflowMonitor) => Promise<void>,
  ) =>
    test(name, async () => {
      const fixture = await create();
      const monitor = createWorkflowMonitor({ authorize: allowAll });
      try {
        await run(fixture, monitor);
      } finally {
        await monitor.close();
        await fixture.close?.();
      }
    });

  const ended = (monitor: WorkflowMonitor, jobId: string) =>
    until(`job ${jobId} ends`, async () => (await monitor.get(jobId))?.done === true, patienceMs);

  check("a job that succeeds is watched to completed", async ({ engine, run }, monitor) => {
    monitor.attach(engine);
    const jobId = await run("completed");
    await ended(monitor, jobId);
    const job = await monitor.get(jobId);
    assert.equal(job?.status, "completed");
    assert.equal(job.progress, 100);
    assert.ok(job.stages.every(({ status }) => status !== "pending" && status !== "running"));
  });

  check(
    "a job that fails is watched to failed, with a stage or a job that says why",
    async ({ engine, run }, monitor) => {
      monitor.attach(engine);
      const jobId = await run("failed");
      await ended(monitor, jobId);
      const job = await monitor.get(jobId);
      assert.equal(job?.status, "failed");
      const errors = [job.error, ...job.stages.map(({ error }) => error)].filter(
        (error) => error !== null,
      );
      assert.ok(errors.length > 0, "no error anywhere");
      assert.ok(!JSON.stringify(errors).includes("    at "), "a stack reached the viewers");
    },
  );

  check("every event is valid", async ({ engine, run }, monitor) => {
    const refused: string[] = [];
    monitor.on("error", (error) => refused.push(error.message));
    monitor.attach(engine);
    for (const end of ["completed", "failed"] as const) await ended(monitor, await run(end));
    assert.deepEqual(refused, []);
  });

  check(
    "the log shows the way: it begins before it runs, and nothing follows the end",
    async ({ engine, run }, monitor) => {
      const updates: UpdateEvent[] = [];
      monitor.on("update", (update) => updates.push(update));
      monitor.attach(engine);
      const jobId = await run("completed");
      await ended(monitor, jobId);
      const own = updates.filter((update) => update.jobId === jobId);
      assert.ok(own.length >= 2, "a job has a beginning and an end");
      assert.ok(
        own.some(({ job }) => job.status === "running"),
        "it never ran",
      );
      assert.deepEqual(
        own.map(({ cursor }) => cursor.revision),
        own.map((_, index) => index + 1),
      );
      assert.equal(
        own.findIndex(({ job }) => job.done),
        own.length - 1,
      );
    },
  );

  check("two jobs do not mix", async ({ engine, run }, monitor) => {
    monitor.attach(engine);
    const [good, bad] = await Promise.all([run("completed"), run("failed")]);
    assert.notEqual(good, bad);
    await ended(monitor, good);
    await ended(monitor, bad);
    assert.equal((await monitor.get(good))?.status, "completed");
    assert.equal((await monitor.get(bad))?.status, "failed");
  });

  check("every monitor that is attached hears everything", async ({ engine, run }, monitor) => {
    const other = createWorkflowMonitor({ authorize: allowAll });
    try {
      monitor.attach(engine);
      other.attach(engine);
      const jobId = await run("completed");
      await ended(monitor, jobId);
      await ended(other, jobId);
    } finally {
      await other.close();
    }
  });

  check("after detach nothing is heard", async ({ engine, run }, monitor) => {
    let heard = 0;
    monitor.on("update", () => {
      heard += 1;
    });
    const detach = monitor.attach(engine);
    detach();
    const witness = createWorkflowMonitor({ authorize: allowAll });
    try {
      witness.attach(engine);
      const jobId = await run("completed");
      await ended(witness, jobId);
      assert.equal(heard, 0);
      assert.equal(await monitor.get(jobId), undefined);
    } finally {
      await witness.close();
    }
  });

  check(
    "a monitor whose store is broken does not disturb the engine",
    async ({ engine, run }, monitor) => {
      const store = memoryStore();
      await store.close();
      const broken = createWorkflowMonitor({ authorize: allowAll, store });
      try {
        broken.attach(engine);
        monitor.attach(engine);
        await ended(monitor, await run("completed"));
      } finally {
        await broken.close();
      }
    },
  );
}
