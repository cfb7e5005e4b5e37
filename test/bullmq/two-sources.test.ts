import { memoryStore, type UpdateEvent, type WorkflowMonitor } from "@org/workflow-monitor";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type RedisServer, startRedis, withoutRedis } from "../support/redis.js";
import { createWorld, type World } from "./given.js";

describe.skipIf(withoutRedis)("a source in each of two processes, on one store", () => {
  let redis: RedisServer;
  let world: World;
  beforeAll(async () => {
    redis = await startRedis();
  });
  afterAll(() => redis.close());

  /** The events of a job's log, without progress on the way: how much of it is seen is a matter of time. */
  function logOf(monitors: WorkflowMonitor[]) {
    const updates: UpdateEvent[] = [];
    for (const monitor of monitors) monitor.on("update", (update) => updates.push(update));
    return (jobId: string) =>
      updates
        .filter((update) => update.jobId === jobId)
        .sort((one, other) => one.cursor.revision - other.cursor.revision)
        .map(({ event }) => event)
        .filter((event) => event.type !== "stage" || event.status !== undefined)
        .map((event) => JSON.stringify(event))
        .sort();
  }

  const scenes: [string, () => Promise<unknown>][] = [];
  const scene = (name: string, run: () => Promise<unknown>) => scenes.push([name, run]);

  scene("a job that reports stages, fails, is tried again and completes", async () => {
    await world.worker("work", async (job) => {
      await job.updateProgress({ stage: "crop", status: "running" });
      if (job.attemptsMade < 2) throw new Error("boom");
      await job.updateProgress({ stage: "crop", status: "completed" });
    });
    return world.queue().add("j", {}, { jobId: "j", attempts: 3, backoff: 60 });
  });

  scene("a flow of 40 children", async () => {
    await world.worker("work", async (job) => job.updateProgress(50), { concurrency: 5 });
    const at = { queueName: "work" };
    const child = (_: unknown, index: number) => ({
      ...at,
      name: `c${index}`,
      opts: { jobId: `c${index}` },
    });
    return world.flows.add({
      ...{ ...at, name: "root", opts: { jobId: "j" } },
      children: Array.from({ length: 40 }, child),
    });
  });

  scene("a flow that a child fails", async () => {
    await world.worker("work", async (job) => {
      if (job.name === "a") throw new Error("boom");
    });
    const at = { queueName: "work" };
    return world.flows.add({
      ...{ ...at, name: "root", opts: { jobId: "j" } },
      children: [{ ...at, name: "a", opts: { jobId: "a", failParentOnFailure: true } }],
    });
  });

  test.each(scenes)("%s: the same log as with one", async (_, play) => {
    world = createWorld(redis);
    const store = memoryStore();
    try {
      const mode = { mode: "flow" } as const;
      const [one, other] = [world.watch(mode, store), world.watch(mode, store)];
      const alone = world.watch(mode);
      const both = logOf([one.monitor, other.monitor]);
      const single = logOf([alone.monitor]);
      await play();
      for (const { until } of [one, alone]) await until("j", "is done", ({ done }) => done);
      // The other source may still be about to repeat: a job that is added now is told after that.
      for (const jobId of ["fence-1", "fence-2"]) {
        await world.queue().add("fence", {}, { jobId, delay: 1e6 });
        for (const { until, emitted } of [one, other]) {
          await until(jobId, "exists", () => emitted.some(({ event }) => event.jobId === jobId));
        }
      }
      expect(both("j")).toEqual(single("j"));
      const { revision, ...seen } = (await one.monitor.get("j")) ?? { revision: 0 };
      expect(seen).toMatchObject({ done: true, run: 1 });
      expect(revision).toBeGreaterThan(2);
    } finally {
      await world.close();
      await store.close();
    }
  });

  test("one of them going away is not noticed", async () => {
    world = createWorld(redis);
    const store = memoryStore();
    try {
      const [one, other] = [world.watch({}, store), world.watch({}, store)];
      await world.queue().add("j", {}, { jobId: "j" });
      await one.until("j", "exists", () => true);
      await one.source.close();
      await world.worker("work", async () => {});
      expect((await other.until("j", "is done", ({ done }) => done)).status).toBe("completed");
    } finally {
      await world.close();
      await store.close();
    }
  });
});
