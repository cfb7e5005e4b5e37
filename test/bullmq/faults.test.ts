import { Redis } from "ioredis";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type RedisServer, startRedis, withoutRedis } from "../support/redis.js";
import { until as eventually, inTime } from "../support/wait.js";
import { createWorld, gate, meanwhile, type World } from "./given.js";

describe.skipIf(withoutRedis)("when Redis or its events are not there", () => {
  let redis: RedisServer;
  let world: World;
  const printed: unknown[][] = [];
  beforeEach(async () => {
    redis = await startRedis({ persist: true });
    world = createWorld(redis);
    for (const name of ["log", "info", "warn", "error"] as const) {
      vi.spyOn(console, name).mockImplementation((...args) => void printed.push(args));
    }
  });
  afterEach(async () => {
    await world.close();
    await redis.close();
    vi.restoreAllMocks();
    expect(printed.splice(0)).toEqual([]);
  });

  test("Redis is killed and comes back with its data: nothing is thrown, everything goes on", async () => {
    const held = gate();
    await world.worker("work", async (job) => {
      await job.updateProgress({ stage: "crop", progress: 30 });
      await held.opened;
      await job.updateProgress({ stage: "save", progress: 60 });
    });
    const { until, complaints, source } = world.watch();
    await world.queue().add("resize", {}, { jobId: "j" });
    await until("j", "has begun", ({ stages }) => stages.length === 1);

    await redis.stop("SIGKILL");
    await eventually("the source has noticed", () => complaints.length > 0, 15_000);
    await redis.start();
    held.open();
    const job = await until("j", "is done", ({ done }) => done);
    expect(job.status).toBe("completed");
    expect(job.stages.map(({ stage }) => stage)).toEqual(["crop", "save"]);
    expect(complaints).toHaveLength(1); // once, whatever number of tries it took

    // And it goes on, with jobs that are added now.
    await world.queue().add("resize", {}, { jobId: "k" });
    await until("k", "is done", ({ done }) => done);
    await source.close();
  });

  test("Redis comes back without its data: its jobs were removed, new ones are told", async () => {
    const { until, complaints } = world.watch({ mode: "flow" });
    await world.queue().add("resize", {}, { jobId: "j" });
    await until("j", "exists", () => true);
    await redis.stop("SIGKILL");
    await eventually("the source has noticed", () => complaints.length > 0, 15_000);
    await redis.start({ data: "lost" });
    const job = await until("j", "is done", ({ done }) => done);
    expect(job).toMatchObject({ status: "cancelled", reason: "removed" });
    await world.queue().add("resize", {}, { jobId: "k" });
    await until("k", "exists", () => true);
  });

  test("a source that begins while Redis is away tells everything once it is there", async () => {
    await world.queue().add("resize", {}, { jobId: "j" });
    await redis.stop("SIGTERM");
    const { until, complaints, emitted } = world.watch();
    await eventually("it has noticed", () => complaints.length === 1, 15_000);
    expect(emitted).toEqual([]);
    await redis.start();
    await until("j", "exists", () => true);
  });

  test("a source can be closed while Redis is away", async () => {
    const early = world.watch();
    const { source, until } = world.watch();
    await world.queue().add("resize", {}, { jobId: "j" });
    await until("j", "exists", () => true);
    await redis.stop("SIGKILL");
    const late = world.watch();
    await inTime(
      "all are closed",
      Promise.all([source, early.source, late.source].map((one) => one.close())),
    );
    await redis.start(); // for what else there is to close
  });

  test("events that are trimmed before they are heard are made up for", async () => {
    const connection = { ...world.connection, connectionName: "deaf", retryStrategy: () => 400 };
    const { until, emitted } = world.watch({ connection });
    const queue = world.queue();
    await queue.add("resize", {}, { jobId: "before" });
    await until("before", "exists", () => true);

    // Deaf for 400 ms: what happens in that time leaves no event.
    const admin = new Redis(redis.port);
    const lines = ((await admin.client("LIST")) as string).split("\n");
    const ear = lines.find((line) => line.includes(":qe ") && line.includes("cmd=xread"));
    await admin.client("KILL", "ID", /id=(\d+)/.exec(ear ?? "")?.[1] ?? "");
    const done: string[] = [];
    await world.worker("work", async ({ id }) => void done.push(id as string));
    await queue.add("resize", {}, { jobId: "meanwhile" });
    await eventually("both are over", () => done.length === 2, 15_000);
    await queue.trimEvents(0);
    await admin.quit();

    for (const id of ["before", "meanwhile"]) {
      expect((await until(id, "is done", (job) => job.done)).status).toBe("completed");
    }
    expect(emitted.length).toBeGreaterThan(2);
  });

  test("events that are trimmed while the process stands still are made up for", async () => {
    const { until } = world.watch();
    await world.queue().add("resize", {}, { jobId: "before" });
    await until("before", "exists", () => true);
    // Its first event reaches this process; those of "lost" are gone when it asks for more.
    meanwhile(
      world,
      `
      for (const jobId of ["heard", "lost"]) await queue.add("resize", {}, { jobId });
      for (let job; (job = await worker.getNextJob("t")); ) await job.moveToCompleted(1, "t", false);
      await queue.trimEvents(0);
      await queue.add("resize", {}, { jobId: "after" });`,
    );
    await until("after", "exists", () => true);
    for (const id of ["before", "heard", "lost"]) await until(id, "is done", ({ done }) => done);
  });

  test("an event that BullMQ cannot read does not end the source", async () => {
    const { until, complaints } = world.watch();
    const queue = world.queue();
    const job = await queue.add("resize", {}, { jobId: "j" });
    await until("j", "exists", () => true);
    await job.updateProgress(undefined as never);
    await job.updateProgress(40);
    await world.worker("work", async () => {});
    expect((await until("j", "is done", ({ done }) => done)).status).toBe("completed");
    await queue.add("resize", {}, { jobId: "k" });
    await until("k", "is done", ({ done }) => done);
    expect(complaints).toEqual([expect.stringMatching(/JSON/)]);
  });

  test("a reconcile finds what no event told", async () => {
    const { until } = world.watch({ reconcileMs: 50 });
    const queue = world.queue();
    for (const jobId of ["a", "b"]) await queue.add("resize", {}, { jobId });
    await until("b", "exists", () => true);
    await queue.drain(); // tells of no job
    for (const id of ["a", "b"]) {
      const job = await until(id, "is done", ({ done }) => done);
      expect(job).toMatchObject({ status: "cancelled", reason: "removed" });
    }
  });

  test("jobs that are cleaned are told at once", async () => {
    const { until } = world.watch();
    await world.queue().add("resize", {}, { jobId: "j" });
    await until("j", "exists", () => true);
    await world.queue().clean(0, 10, "wait");
    expect((await until("j", "is done", ({ done }) => done)).reason).toBe("removed");
  });
});
