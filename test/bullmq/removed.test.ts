import { randomUUID } from "node:crypto";
import { type JobStore, memoryStore } from "@org/workflow-monitor";
import { redisStore } from "@org/workflow-monitor-redis";
import type { JobsOptions } from "bullmq";
import { expect, describe as group } from "vitest";
import { startFaultProxy } from "../support/fault-proxy.js";
import { type RedisServer, withoutRedis } from "../support/redis.js";
import { until as eventually } from "../support/wait.js";
import { gate, inWorlds, shorten, type Watching, type World } from "./given.js";

const removed: JobsOptions = { removeOnComplete: true, removeOnFail: true };

/** A worker that begins each job, reports, and ends it when the gate opens: jobs named `fails` fail. */
async function heldWorker(world: World, name = "work") {
  const held = gate();
  await world.worker(
    name,
    async (job) => {
      await job.updateProgress({ stage: "crop", progress: 40 });
      await held.opened;
      await job.updateProgress({ stage: "save", progress: 60 });
      if (job.name === "fails") throw new Error("boom");
    },
    { concurrency: 10 },
  );
  return held;
}

const isGone = async (world: World, id: string, queue = "work") => {
  while (await world.queue(queue).getJob(id)) await new Promise(setImmediate);
};

group.skipIf(withoutRedis)("jobs that leave no record", () => {
  const inWorld = inWorlds();

  /** A source whose event connection can be taken away, while its reading connection stays. */
  async function watchThroughProxy(world: World) {
    const proxy = await startFaultProxy(world.connection.port);
    const connection = { ...world.connection, port: proxy.port };
    const watching = world.watch({ connection, reconcileMs: 100 });
    await eventually("both connections are there", () => proxy.connections.length === 2, 15_000);
    // It reads before it listens.
    return { ...watching, proxy, ear: proxy.connections[1] };
  }

  async function twoThatRun(world: World, { until }: Pick<Watching, "until">) {
    const held = await heldWorker(world);
    for (const name of ["works", "fails"]) {
      await world.queue().add(name, {}, { jobId: name, ...removed });
      await until(name, "has begun", ({ stages }) => stages[0]?.progress === 40);
    }
    return held;
  }

  const isStaged = [
    ["crop", "completed"],
    ["save", "completed"],
  ];

  async function theirEnds({ until }: Pick<Watching, "until">) {
    const works = await until("works", "is done", ({ done }) => done);
    expect(works).toMatchObject({ status: "completed", reason: null });
    expect(works.stages.map(({ stage, status }) => [stage, status])).toEqual(isStaged);
    const fails = await until("fails", "is done", ({ done }) => done);
    expect(fails).toMatchObject({ status: "failed", error: { message: "boom" } });
  }

  inWorld("[B1] [R21] end as they did while the event connection is away", async (world) => {
    const { proxy, ear, ...watching } = await watchThroughProxy(world);
    const held = await twoThatRun(world, watching);
    proxy.refuse();
    ear?.cut();
    held.open();
    for (const id of ["works", "fails"]) await isGone(world, id);
    await theirEnds(watching);
    // The event connection comes back, and brings everything once more.
    const before = watching.emitted.map(shorten);
    proxy.restore();
    await world.queue().add("fence", {}, { jobId: "fence", delay: 1e6 });
    await watching.until("fence", "exists", () => true);
    const after = watching.emitted.filter(({ event }) => event.jobId !== "fence").map(shorten);
    expect(after).toEqual(before);
  });

  inWorld("[B1] [R21] end as they did while the event connection is silent", async (world) => {
    const { proxy, ear, ...watching } = await watchThroughProxy(world);
    const held = await twoThatRun(world, watching);
    ear?.blackHole();
    held.open();
    await theirEnds(watching);
    expect(watching.complaints).toEqual([]);
  });

  inWorld(
    "[B1] [R21] are told as removed, with a complaint, where the stream was trimmed unread",
    async (world) => {
      const { proxy, ear, until, complaints } = await watchThroughProxy(world);
      const held = await twoThatRun(world, { until });
      proxy.refuse();
      ear?.blackHole();
      const client = await world.queue().getBackend().client;
      // In one step: no look sees the events.
      await client.xtrim(`${world.prefix}:work:events`, "MAXLEN", 0);
      world.queue().on("error", () => {});
      await client.multi().del(`${world.prefix}:work:works`, `${world.prefix}:work:fails`).exec();
      await world.queue().add("fence", {}, { jobId: "fence", delay: 1e6 });
      for (const id of ["works", "fails"]) {
        const job = await until(id, "is done", ({ done }) => done);
        expect(job).toMatchObject({ status: "cancelled", reason: "removed" });
      }
      const told = complaints.filter((each) => each.includes("trimmed"));
      expect(told).toEqual([expect.stringContaining(`${world.prefix}:work:events`)]);
      held.open();
    },
  );

  const stores: [string, (redis: RedisServer) => JobStore][] = [
    ["in the same process", () => memoryStore()],
    ["in Redis", ({ url }) => redisStore({ url, prefix: `t-${randomUUID()}` })],
  ];
  for (const [where, createStore] of stores)
    inWorld(
      `[B2] [R22] and ended while no source was there, are ended by the next one, with a store ${where}`,
      async (world, redis) => {
        const store = createStore(redis);
        const first = world.watch({}, store);
        const held = await twoThatRun(world, first);
        await world.queue().add("waits", {}, { jobId: "waits", delay: 1e6, ...removed });
        await first.until("waits", "exists", () => true);
        await first.close();
        held.open();
        for (const id of ["works", "fails"]) await isGone(world, id);
        await (await world.queue().getJob("waits"))?.remove();
        const seconds = [world.watch({}, store), world.watch({}, store)];
        for (const second of seconds) {
          await theirEnds(second);
          expect(await second.until("waits", "is done", ({ done }) => done)).toMatchObject({
            ...{ status: "cancelled", reason: "removed" },
            labels: { queue: "work", name: "waits" },
          });
        }
        const fails = await seconds[0]?.monitor.get("fails");
        expect(fails?.stages.map(({ stage, status }) => [stage, status])).toEqual([
          ["crop", "cancelled"],
          ["save", "failed"],
        ]);
        await store.close();
      },
    );

  inWorld(
    "[B2] [R22] also when the next one's store connects as it begins",
    async (world, redis) => {
      const createStore = () => redisStore({ url: redis.url, prefix: `${world.prefix}-store` });
      const before = createStore();
      const first = world.watch({}, before);
      const held = await twoThatRun(world, first);
      await first.close();
      await before.close();
      held.open();
      for (const id of ["works", "fails"]) await isGone(world, id);
      const store = createStore();
      const second = world.watch({}, store);
      const fails = async () => (await second.monitor.get("fails").catch(() => undefined))?.done;
      while (!(await fails())) await new Promise((resolve) => setTimeout(resolve, 5));
      await theirEnds(second);
      expect(second.complaints).toEqual([]);
      await second.close();
      await store.close();
    },
  );

  inWorld("[B2] [R22] but only those that the monitor waits for", async (world) => {
    await world.worker("work", async () => {});
    await world.queue().add("unknown", {}, { jobId: "unknown", ...removed });
    await isGone(world, "unknown");
    for (const mode of ["job", "flow"] as const) {
      const { until, emitted } = world.watch({ mode });
      await world.queue().add("fence", {}, { jobId: `fence-${mode}`, delay: 1e6 });
      await until(`fence-${mode}`, "exists", () => true);
      expect(emitted.filter(({ event }) => event.jobId === "unknown")).toEqual([]);
    }
  });

  inWorld("[B2] [R22] an id that is used again is not ended by its former life", async (world) => {
    const store = memoryStore();
    const held = gate();
    await world.worker("work", async ({ name }) => (name === "second" ? held.opened : undefined));
    const first = world.watch({}, store);
    await world.queue().add("first", {}, { jobId: "j", ...removed });
    await first.until("j", "is done", ({ done }) => done);
    await world.queue().add("second", {}, { jobId: "j", ...removed });
    await first.until("j", "runs again", ({ run, status }) => run === 2 && status === "running");
    const second = world.watch({}, store);
    await world.queue().add("fence", {}, { jobId: "fence", delay: 1e6 });
    await second.until("fence", "exists", () => true);
    expect(await second.monitor.get("j")).toMatchObject({ run: 2, status: "running" });
    held.open();
    await second.until("j", "is done", ({ done, status }) => done && status === "completed");
    await store.close();
  });

  const at = { queueName: "work" };
  const child = (name: string, queueName = "work", opts: JobsOptions = {}) => ({
    ...{ name, queueName },
    opts: { jobId: name, ...removed, ...opts },
  });

  inWorld(
    "[B2] [R22] a flow that ended without a record is ended with its stages",
    async (world) => {
      const store = memoryStore();
      const held = gate();
      const work = async ({ name }: { name: string }) => {
        await held.opened;
        if (name === "b") throw new Error("b broke");
        if (name === "root") throw new Error("root broke");
      };
      for (const name of ["work", "far"]) await world.worker(name, work, { concurrency: 5 });
      const first = world.watch({ mode: "flow" }, store);
      await world.flows.add({
        ...{ ...at, name: "root", opts: { jobId: "root", ...removed } },
        children: [child("a"), child("b", "far", { ignoreDependencyOnFailure: true })],
      });
      await first.until("root", "has begun", ({ counts }) => counts.running === 2);
      await first.close();
      held.open();
      await isGone(world, "root");
      const second = world.watch({ mode: "flow" }, store);
      const root = await second.until("root", "is done", ({ done }) => done);
      expect(root).toMatchObject({ status: "failed", error: { message: "root broke" } });
      const stages = root.stages.map(({ stage, status, error }) => [stage, status, error?.message]);
      expect(stages.sort()).toEqual([
        ["far:b", "failed", "b broke"],
        ["work:a", "completed", undefined],
      ]);
      expect(second.emitted.filter(({ event }) => event.jobId !== "root")).toEqual([]);
      await store.close();
    },
  );

  inWorld(
    "[B2] [R22] stages of a flow that goes on are ended as their jobs did, whatever their parent remembers",
    async (world) => {
      const store = memoryStore();
      const held = gate();
      const work = async ({ name }: { name: string }) => {
        if (name === "last") return new Promise<void>(() => {});
        await held.opened;
        if (name !== "works") throw new Error(`${name} broke`);
      };
      await world.worker("work", work, { concurrency: 5 });
      const mode = { mode: "flow", stageId: ({ id }: { id: string }) => id } as const;
      const first = world.watch(mode, store);
      await world.flows.add({
        ...{ ...at, name: "root", opts: { jobId: "root" } },
        children: [
          child("works"),
          child("ignored", "work", { ignoreDependencyOnFailure: true }),
          child("forgotten", "work", { removeDependencyOnFailure: true }),
          child("last"),
        ],
      });
      await first.until("root", "has begun", ({ counts }) => counts.running === 4);
      await first.close();
      held.open();
      for (const id of ["works", "ignored", "forgotten"]) await isGone(world, id);
      const second = world.watch(mode, store);
      const root = await second.until("root", "goes on", ({ counts }) => counts.running === 1);
      expect(root.done).toBe(false);
      const ends = root.stages.map(({ stage, status, error }) => [stage, status, error?.message]);
      expect(ends.sort()).toEqual([
        ["forgotten", "failed", "forgotten broke"],
        ["ignored", "failed", "ignored broke"],
        ["last", "running", undefined],
        ["works", "completed", undefined],
      ]);
      expect(second.emitted.filter(({ event }) => event.jobId !== "root")).toEqual([]);
      await store.close();
    },
  );

  inWorld("[B2] [R22] a child that bears its flow's name does not end the flow", async (world) => {
    const store = memoryStore();
    const held = gate();
    await world.worker(
      "work",
      async ({ name }) => (name === "a" ? held.opened : new Promise(() => {})),
      {
        concurrency: 2,
      },
    );
    const naming = { mode: "flow", jobId: ({ id }: { id: string }) => id.slice(0, 4) } as const;
    const first = world.watch(naming, store);
    await world.flows.add({
      ...{ ...at, name: "root", opts: { jobId: "root" } },
      children: ["a", "b"].map((name) => ({
        ...{ ...at, name },
        opts: { jobId: `root-${name}`, ...removed },
      })),
    });
    await first.until("root", "has begun", ({ counts }) => counts.running === 2);
    await first.close();
    held.open();
    await isGone(world, "root-a");
    const second = world.watch(naming, store);
    const root = await second.until("root", "goes on", ({ counts }) => counts.completed === 1);
    expect(root.done).toBe(false);
    expect(second.emitted.filter(({ type, event }) => type === "job" && event.run)).toEqual([]);
    await store.close();
  });

  inWorld(
    "[B2] [R22] jobs that share a name of the host's do not end each other",
    async (world) => {
      const store = memoryStore();
      await world.worker("work", async () => {});
      const { id = "" } = await world.queue().add("nightly", {}, removed);
      await isGone(world, id);
      const naming = { jobId: ({ name }: { name: string }) => name };
      const { monitor } = world.watch({ queues: ["other"] }, store);
      await monitor.publish({ type: "job", jobId: "nightly", status: "running" }); // another job
      const second = world.watch(naming, store);
      await world.queue().add("fence", {}, { delay: 1e6 });
      await second.until("fence", "exists", () => true);
      expect(await second.monitor.get("nightly")).toMatchObject({ status: "running" });
      await store.close();
    },
  );
});
