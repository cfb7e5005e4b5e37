import { memoryStore } from "@org/workflow-monitor";
import type { Job } from "bullmq";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type RedisServer, startRedis, withoutRedis } from "../support/redis.js";
import { until as eventually } from "../support/wait.js";
import { createWorld, gate, shorten, type World } from "./given.js";

describe.skipIf(withoutRedis)("where a source begins", () => {
  let redis: RedisServer;
  let world: World;
  beforeAll(async () => {
    redis = await startRedis();
  });
  afterAll(() => redis.close());

  const tests: [string, () => Promise<void>][] = [];
  const inWorld = (name: string, run: () => Promise<void>) => tests.push([name, run]);

  inWorld("jobs that were there before it are told as they are", async () => {
    const queue = world.queue();
    const held = gate();
    const begun = gate();
    await world.worker("work", async (job) => {
      await job.updateProgress({ stage: "crop", progress: 30 });
      begun.open();
      await held.opened;
    });
    await queue.add("running", {}, { jobId: "running" });
    await begun.opened;
    await queue.add("waiting", {}, { jobId: "waiting" });
    await queue.add("urgent", {}, { jobId: "urgent", priority: 1 });
    await queue.add("later", {}, { jobId: "later", delay: 60_000 });

    const { until } = world.watch();
    const running = await until("running", "runs", ({ status }) => status === "running");
    const { timestamp } = (await queue.getJob("running")) as Job;
    expect(running.createdAt).toBe(new Date(timestamp).toISOString());
    expect(running.labels).toEqual({ queue: "work", name: "running" });
    await until("running", "has its stage", ({ stages }) => stages[0]?.progress === 30);
    for (const id of ["waiting", "urgent"]) {
      expect((await until(id, "exists", () => true)).status).toBe("pending");
    }
    const later = await until("later", "exists", () => true);
    expect(later).toMatchObject({ status: "pending", reason: "delayed" });
    held.open();
    for (const id of ["running", "waiting", "urgent"])
      await until(id, "is done", (job) => job.done);
  });

  inWorld(
    "a flow in the middle of its work is told as it is, with times that BullMQ knows",
    async () => {
      const held = gate();
      await world.worker("work", async ({ name }) => (name === "b" ? held.opened : undefined), {
        concurrency: 2,
      });
      const at = { queueName: "work" };
      await world.flows.add({
        ...{ ...at, name: "root", opts: { jobId: "root" } },
        children: ["a", "b"].map((name) => ({ ...at, name, opts: { jobId: name } })),
      });
      const queue = world.queue();
      for (let state = ""; state !== "completed"; )
        state = (await (await queue.getJob("a"))?.getState()) ?? "";
      for (let state = ""; state !== "active"; )
        state = (await (await queue.getJob("b"))?.getState()) ?? "";

      const { until } = world.watch({ mode: "flow", stageId: ({ id }) => id });
      const job = await until("root", "has its stages", ({ counts }) => counts.completed === 1);
      const [a, b] = [(await queue.getJob("a")) as Job, (await queue.getJob("b")) as Job];
      const iso = (ms: number | undefined) => new Date(ms as number).toISOString();
      expect(job.status).toBe("running");
      expect(job.startedAt).toBe(iso(Math.min(a.processedOn as number, b.processedOn as number)));
      expect(job.stages[0]).toMatchObject({
        ...{ stage: "a", status: "completed" },
        ...{ startedAt: iso(a.processedOn), finishedAt: iso(a.finishedOn) },
      });
      expect(job.stages[1]).toMatchObject({ stage: "b", status: "running" });
      held.open();
      await until("root", "is done", ({ done }) => done);
    },
  );

  inWorld(
    "a source that is restarted goes on: nothing is repeated, what happened meanwhile is told",
    async () => {
      const store = memoryStore();
      const held = gate();
      await world.worker("work", async (job) => {
        await job.updateProgress({ stage: "crop", progress: 30 });
        await held.opened;
        await job.updateProgress({ stage: "crop", status: "completed" });
        await job.updateProgress({ stage: "save", progress: 60 });
      });
      await world.queue().add("resize", {}, { jobId: "j" });
      const first = world.watch({}, store);
      await first.until("j", "has begun", ({ stages }) => stages[0]?.progress === 30);
      await first.close();

      held.open();
      for (let state = ""; state !== "completed"; ) {
        state = (await (await world.queue().getJob("j"))?.getState()) ?? "";
      }
      const second = world.watch({}, store);
      const job = await second.until("j", "is done", ({ done }) => done);
      expect(job.status).toBe("completed");
      expect(job.run).toBe(1);
      expect(job.stages.map(({ stage, status }) => [stage, status])).toEqual([
        ["crop", "completed"],
        ["save", "completed"],
      ]);
      await store.close();
    },
  );

  inWorld("jobs that ended long before it are not told, those of a moment ago are", async () => {
    await world.worker("work", async () => {});
    const job = await world.queue().add("old", {}, { jobId: "old" });
    for (let state = ""; state !== "completed"; ) state = await job.getState();
    const forgetful = world.watch({ lookBackMs: 0 });
    const curious = world.watch({ lookBackMs: 60_000 });
    await curious.until("old", "is done", ({ done }) => done);
    await world.queue().add("new", {}, { jobId: "new" });
    await forgetful.until("new", "is done", ({ done }) => done);
    expect(await forgetful.monitor.get("old")).toBeUndefined();
  });

  inWorld("a monitor that is attached later hears what is, too", async () => {
    await world.queue().add("resize", {}, { jobId: "j" });
    const first = world.watch();
    await first.until("j", "exists", () => true);
    const before = first.emitted.length;
    const heard: string[] = [];
    first.source.on("job", (event) => heard.push(shorten({ type: "job", event })));
    await eventually("it hears of the job", () => heard.length > 0, 15_000);
    expect(heard).toEqual(["job pending"]);
    expect(first.emitted.length).toBe(before + 1);
    expect((await first.monitor.get("j"))?.revision).toBe(1);
  });

  inWorld("it makes one connection a queue and one for reads, and ends them", async () => {
    const client = await world.queue().getBackend().client;
    const own = async () => {
      const lines = (await client.clientList()).split("\n");
      return lines.filter((line) => line.includes("name=counted") || line.includes(":qe ")).length;
    };
    world.queue("other");
    const connection = { ...world.connection, connectionName: "counted" };
    const before = await own();
    const { source, until } = world.watch({ queues: ["work", "other"], connection });
    await world.queue("other").add("resize", {}, { jobId: "j" });
    await until("other:j", "exists", () => true);
    expect((await own()) - before).toBe(3);
    await source.close();
    await source.close();
    for (let left = 1; left > 0; ) left = (await own()) - before;
  });

  inWorld("[S14] a flow over many queues is watched over few connections", async () => {
    const client = await world.queue().getBackend().client;
    const listeners = async () =>
      (await client.clientList()).split("\n").filter((line) => line.includes("cmd=xread")).length;
    const before = await listeners();
    const { until } = world.watch({ mode: "flow" });
    const names = Array.from({ length: 40 }, (_, at) => `far-${at}`);
    await world.flows.add({
      ...{ name: "root", queueName: "work", opts: { jobId: "root" } },
      children: names.map((queueName) => ({ name: "c", queueName, data: {} })),
    });
    await until("root", "has its stages", ({ counts }) => counts.total === 40);
    const enough = before + 33; // the watched queue's, and 32
    while ((await listeners()) < enough) await new Promise(setImmediate);
    // All of them are heard, also those without a connection.
    await Promise.all(names.map((name) => world.worker(name, async () => {})));
    await until("root", "is nearly done", ({ counts }) => counts.completed === 40);
    expect(await listeners()).toBe(enough);
  });

  test.each(tests)("%s", async (_, run) => {
    world = createWorld(redis);
    try {
      await run();
    } finally {
      await world.close();
    }
  });
});
