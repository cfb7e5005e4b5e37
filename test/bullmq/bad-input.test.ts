import { bullmqSource } from "@org/workflow-monitor-bullmq";
import type { Job } from "bullmq";
import { Redis } from "ioredis";
import { describe, expect, test } from "vitest";
import { withoutRedis } from "../support/redis.js";
import { until as eventually } from "../support/wait.js";
import { inWorlds, shorten } from "./given.js";

const good = { queues: ["work"], connection: { port: 1 }, mode: "job" } as const;

describe("options that are wrong", () => {
  test.each([
    ["no options", undefined, /object of options/],
    ["a misspelt option", { ...good, queue: "work" }, /no option queue/],
    ["no queues", { ...good, queues: [] }, /at least one queue/],
    ["queues as a text", { ...good, queues: "work" }, /array/],
    ["a queue with a colon", { ...good, queues: ["a:b"] }, /without a colon/],
    ["a queue twice", { ...good, queues: ["a", "a"] }, /once/],
    ["no connection", { ...good, connection: undefined }, /ioredis/],
    ["a url as connection", { ...good, connection: "redis://localhost" }, /ioredis/],
    ["a key prefix of ioredis", { ...good, connection: { keyPrefix: "x" } }, /keyPrefix/],
    ["another mode", { ...good, mode: "tree" }, /"job" or "flow"/],
    ["an empty prefix", { ...good, prefix: "" }, /prefix/],
    ["a parser that is none", { ...good, parseProgress: true }, /parseProgress must be a function/],
    ["a name that is no function", { ...good, jobId: "id" }, /jobId must be a function/],
    ["no time between reconciles", { ...good, reconcileMs: 0 }, /reconcileMs/],
    ["a time that is no number", { ...good, lookBackMs: "1" }, /lookBackMs/],
    ["half a job", { ...good, maxTracked: 0.5 }, /maxTracked/],
  ])("%s", (_, options, message) => {
    const call = () => bullmqSource(options as never);
    expect(call).toThrow(TypeError);
    expect(call).toThrow(message);
  });
});

test("a source that was never attached makes no connection, and can be closed", async () => {
  await bullmqSource(good).close();
});

describe.skipIf(withoutRedis)("what jobs say and are called", () => {
  const inWorld = inWorlds();

  inWorld("progress of whatever type is understood, or ignored", async (world) => {
    const progress: unknown[] = [
      ...[true, [1, 2], "", Number.NaN, { stage: "" }, { stage: 7, progress: 5 }, {}],
      ...[
        { stage: "__proto__" },
        { stage: "x".repeat(200) },
        { progress: "half" },
        { current: "?" },
      ],
      ...[
        12,
        "13.5",
        { progress: 14 },
        { progress: { current: 3, total: 20 } },
        { current: "8", total: 50 },
      ],
      ...[
        { stage: "a" },
        { stage: "a", status: "sleeping", progress: 20 },
        { stage: "a", status: "succeeded" },
      ],
      {
        stage: "b",
        status: "failed",
        error: { code: "E_B", message: "b broke" },
        message: "sorry",
      },
      { stage: "c", current: 5, metadata: { files: ["x"] } },
      { message: "x".repeat(600) },
    ];
    await world.worker("work", async (job) => {
      for (const each of progress) await job.updateProgress(each as never);
    });
    const { until, complaints } = world.watch();
    await world.queue().add("resize", {}, { jobId: "j" });
    const job = await until("j", "is done", ({ done }) => done);
    const stages = job.stages.map(({ stage, status, error, message }) => [
      stage,
      status,
      error,
      message,
    ]);
    expect(stages).toEqual([
      ["a", "completed", null, null],
      ["b", "failed", { code: "E_B", message: "b broke" }, "sorry"],
      ["c", "completed", null, null],
    ]);
    expect(job.stages[2]?.metadata).toEqual({ files: ["x"] });
    expect(job.message).toHaveLength(512);
    expect(complaints).toEqual([expect.stringMatching(/message was shortened/)]);
  });

  inWorld("huge progress is read for what it is", async (world) => {
    await world.worker("work", async (job) => {
      await job.updateProgress({ stage: "a", progress: 50, junk: "x".repeat(500_000) });
      await job.updateProgress({ stage: "b", metadata: { junk: "x".repeat(500_000) } });
    });
    const { until, complaints } = world.watch();
    await world.queue().add("resize", {}, { jobId: "j" });
    const job = await until("j", "is done", ({ done }) => done);
    expect(job.stages.map(({ stage }) => stage)).toEqual(["a", "b"]);
    expect(JSON.stringify(job).length).toBeLessThan(10_000);
    expect(complaints).toEqual([expect.stringMatching(/metadata was dropped/)]);
  });

  inWorld("results and data stay where they are, whatever they are", async (world) => {
    await world.worker("work", async ({ name }) => {
      const circle: { self?: unknown } = {};
      circle.self = circle;
      return name === "circle" ? circle : { secret: "the result" };
    });
    const { until, emitted } = world.watch();
    await world.queue().add("plain", { secret: "the data" }, { jobId: "plain" });
    await world.queue().add("circle", {}, { jobId: "circle" });
    expect((await until("plain", "is done", ({ done }) => done)).status).toBe("completed");
    const circle = await until("circle", "is done", ({ done }) => done);
    expect(circle.error?.message).toMatch(/circular/);
    expect(JSON.stringify(emitted)).not.toContain("secret");
  });

  inWorld("errors of every kind end a job, and only their message is told", async (world) => {
    await world.worker("work", async ({ name }) => {
      if (name === "text") return Promise.reject("just a text");
      if (name === "empty") throw new Error("");
      throw new Error(`long ${"é".repeat(5_000)}`);
    });
    const { until } = world.watch();
    for (const name of ["text", "empty", "long"]) {
      await world.queue().add(name, {}, { jobId: name });
      const job = await until(name, "is done", ({ done }) => done);
      expect(job.status).toBe("failed");
      expect(job.error).not.toBeNull();
      expect(Buffer.byteLength(JSON.stringify(job.error))).toBeLessThan(2_200);
    }
  });

  inWorld(
    "ids that the monitor does not take leave their job out, and the host hears of it",
    async (world) => {
      const { until, complaints, emitted } = world.watch();
      const long = "x".repeat(101);
      await world.queue().add("resize", {}, { jobId: long });
      await world.queue().add("resize", {}, { jobId: "__proto__" });
      await world.queue().add("resize", {}, { jobId: "j" });
      await until("j", "exists", () => true);
      await world.worker("work", async (job) => job.updateProgress(5));
      await until("j", "is done", ({ done }) => done);
      expect(new Set(emitted.map(({ event }) => event.jobId))).toEqual(new Set(["j"]));
      expect(complaints).toHaveLength(2); // once a job, not once an event
      expect(complaints[0]).toMatch(/left out/);
    },
  );

  inWorld("stages without an id of their own are left out, the others are there", async (world) => {
    const stageId = ({ name }: { name: string }) => {
      if (name === "throws") throw new Error("no");
      return name === "number" ? (7 as never) : name;
    };
    const { until, complaints } = world.watch({ mode: "flow", stageId });
    const names = ["a", "a", "throws", "number", "x".repeat(200)];
    const at = { queueName: "work" };
    await world.flows.add({
      ...{ ...at, name: "root", opts: { jobId: "j" } },
      children: names.map((name) => ({ ...at, name })),
    });
    await world.worker("work", async () => {});
    const job = await until("j", "is done", ({ done }) => done);
    expect(job.stages.map(({ stage }) => stage)).toEqual(["a"]);
    expect(complaints).toHaveLength(4);
  });

  inWorld(
    "the host's functions decide what a job is called and what its progress means",
    async (world) => {
      const { until } = world.watch({
        jobId: ({ queue, name, id }) => `${queue}/${name}/${id}`,
        parseProgress: (progress) => ({
          stage: "all",
          progress: (progress as { pct: number }).pct,
        }),
      });
      await world.worker("work", async (job) => job.updateProgress({ pct: 33 }));
      await world.queue().add("resize", {}, { jobId: "j" });
      const job = await until("work/resize/j", "is done", ({ done }) => done);
      expect(job.stages.map(({ stage }) => stage)).toEqual(["all"]);
    },
  );

  inWorld("functions and listeners of the host that throw disturb nobody", async (world) => {
    const { until, source } = world.watch({
      parseProgress() {
        throw new Error("no idea");
      },
      onError() {
        throw new Error("nor here");
      },
    });
    source.on("job", () => {
      throw new Error("a listener's own");
    });
    await world.worker("work", async (job) => job.updateProgress(33));
    await world.queue().add("resize", {}, { jobId: "j" });
    expect((await until("j", "is done", ({ done }) => done)).status).toBe("completed");
  });

  inWorld("two queues: BullMQ's ids are counted in each, the monitor's are not", async (world) => {
    const { until } = world.watch({ queues: ["work", "mail"] });
    const ids = [await world.queue().add("a", {}), await world.queue("mail").add("b", {})];
    expect(ids.map(({ id }) => id)).toEqual(["1", "1"]);
    expect((await until("work:1", "exists", () => true)).labels.name).toBe("a");
    expect((await until("mail:1", "exists", () => true)).labels.name).toBe("b");
  });

  inWorld("an ioredis instance is asked for its options only", async (world, redis) => {
    const instance = new Redis({ port: redis.port, maxRetriesPerRequest: 1, lazyConnect: true });
    const { until, source } = world.watch({ connection: instance });
    await world.queue().add("resize", {}, { jobId: "j" });
    await until("j", "exists", () => true);
    await source.close();
    expect(instance.status).toBe("wait"); // nobody has connected it
    instance.disconnect();
  });

  inWorld("a burst of progress is few events", async (world) => {
    const { until, emitted } = world.watch();
    await world.worker("work", async (job) => {
      const updates = Array.from({ length: 1_000 }, (_, at) =>
        job.updateProgress({ stage: "a", current: at, total: 1_000 }),
      );
      await Promise.all(updates);
    });
    await world.queue().add("resize", {}, { jobId: "j" });
    const job = await until("j", "is done", ({ done }) => done);
    expect(job.stages[0]).toMatchObject({ stage: "a", progress: 100 });
    const told = emitted.map(shorten).filter((said) => said.startsWith("stage a"));
    expect(told.at(-1)).toContain("999/1000");
    expect(told.length).toBeLessThan(500);
  });

  inWorld("over its limit it leaves out what has not begun, until it does", async (world) => {
    const { until, complaints } = world.watch({ maxTracked: 3 });
    const names = Array.from({ length: 12 }, (_, at) => `j${at}`);
    for (const jobId of names) await world.queue().add("resize", {}, { jobId });
    await world.worker("work", async () => {});
    for (const id of names)
      expect((await until(id, "is done", (job) => job.done)).status).toBe("completed");
    expect(complaints).toEqual([]);
  });

  inWorld(
    "when everything that it follows has begun, it says that there is no room",
    async (world) => {
      const { until, complaints } = world.watch({ maxTracked: 2, reconcileMs: 50 });
      const taker = await world.worker("work", undefined as never, { autorun: false });
      const take = async (jobId: string) => {
        await world.queue().add("resize", {}, { jobId });
        return (await taker.getNextJob("token")) as Job;
      };
      const first = await take("a");
      await take("b");
      for (const id of ["a", "b"]) await until(id, "runs", ({ status }) => status === "running");
      await take("c");
      await eventually("it has said so", () => complaints.length > 0, 15_000);
      expect(complaints[0]).toMatch(/maxTracked/);
      await first.moveToCompleted("done", "token", false);
      await until("c", "runs", ({ status }) => status === "running"); // there is room again
    },
  );
});
