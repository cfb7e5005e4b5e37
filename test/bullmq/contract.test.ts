import { engineContract } from "@org/workflow-monitor/testing";
import { afterAll, beforeAll, describe, test } from "vitest";
import { type RedisServer, startRedis, withoutRedis } from "../support/redis.js";
import { createWorld } from "./given.js";

describe.skipIf(withoutRedis)("bullmqSource is an engine", () => {
  let redis: RedisServer;
  beforeAll(async () => {
    redis = await startRedis();
  });
  afterAll(() => redis.close());

  describe("mode job", () => {
    engineContract({
      test,
      patienceMs: 15_000,
      async create() {
        const world = createWorld(redis);
        const queue = world.queue();
        await world.worker("work", async (job) => {
          await job.updateProgress({ stage: "one", progress: 50 });
          await job.updateProgress({ stage: "one", status: "completed" });
          await job.updateProgress({ stage: "two", current: 1, total: 3 });
          if (job.data.end === "failed") throw new Error("two broke");
        });
        const { source } = world.watch();
        return {
          engine: source,
          async run(end) {
            const job = await queue.add("do", { end });
            return job.id as string;
          },
          close: () => world.close(),
        };
      },
    });
  });

  describe("mode flow", () => {
    engineContract({
      test,
      patienceMs: 15_000,
      async create() {
        const world = createWorld(redis);
        await world.worker("work", async (job) => {
          if (job.name === "pack" && job.data.end === "failed") throw new Error("it broke");
        });
        const { source } = world.watch({ mode: "flow" });
        return {
          engine: source,
          async run(end) {
            const at = { queueName: "work" };
            const { job } = await world.flows.add({
              ...{ ...at, name: "inventory", data: {} },
              children: [
                { ...at, name: "scan" },
                { ...at, name: "pack", data: { end }, opts: { failParentOnFailure: true } },
              ],
            });
            return job.id as string;
          },
          close: () => world.close(),
        };
      },
    });
  });
});
