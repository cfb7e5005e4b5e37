import { allowAll, createWorkflowMonitor, memoryStore } from "@org/workflow-monitor";
import { storeContract } from "@org/workflow-monitor/testing";
import { redisStore } from "@org/workflow-monitor-redis";
import { describe, expect, onTestFinished, test } from "vitest";
import { shardedStore } from "../../examples/multi-node/sharded-store.js";
import { range } from "../support/frames.js";
import { startRedis, withoutRedis } from "../support/redis.js";
import { until } from "../support/wait.js";

describe("several stores as one", () => {
  storeContract({
    test,
    create: () => shardedStore([memoryStore(), memoryStore(), memoryStore()]),
    supports: { list: false, health: true },
  });

  test("share the jobs, and each job is where its id says", async () => {
    const shards = [memoryStore(), memoryStore(), memoryStore()];
    const store = shardedStore(shards);
    const monitor = createWorkflowMonitor({ authorize: allowAll, store });
    onTestFinished(() => monitor.close());
    const jobs = range(1, 60).map((n) => `job ${n}`);
    for (const jobId of jobs) await monitor.publish({ type: "job", jobId, status: "running" });
    const counts = shards.map(
      (shard) => jobs.filter((jobId) => shard.read(jobId) !== undefined).length,
    );
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(60);
    expect(Math.min(...counts)).toBeGreaterThan(5);
    const again = shardedStore(shards);
    for (const jobId of jobs) expect(await again.read(jobId)).toBeDefined();
  });
});

test.skipIf(withoutRedis)("several Redis as one are there when all of them are", async () => {
  const servers = await Promise.all([startRedis(), startRedis()]);
  const store = shardedStore(servers.map(({ url }) => redisStore({ url })));
  onTestFinished(async () => {
    await store.close();
    for (const server of servers) await server.close();
  });
  const told: boolean[] = [];
  const stop = store.connection?.((there) => told.push(there));
  await until("both are there", () => told.at(-1) === true);
  await store.health?.();
  await servers[0]?.stop("SIGKILL");
  await until("one is away", () => told.at(-1) === false);
  await expect(store.health?.()).rejects.toMatchObject({ code: "unavailable" });
  await servers[0]?.start();
  await until("it is back", () => told.at(-1) === true);
  expect(told).toEqual([false, true, false, true]);
  stop?.();
});
