import type { JobState } from "@org/workflow-monitor";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startFaultProxy } from "../support/fault-proxy.js";
import { largeJob } from "../support/jobs.js";
import { type RedisServer, startRedis, withoutRedis } from "../support/redis.js";
import { type RedisClient, redisClient } from "../support/redis-client.js";
import { append, batchOf, changeOf, publisherOn, storeOn, there, whole } from "./given.js";

let server: RedisServer;

beforeAll(async () => {
  if (!withoutRedis) server = await startRedis();
});
afterAll(() => server?.close());

/** Commands that clients sent, by name; what scripts call is not among them. */
async function commands(client: RedisClient): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const line of (await client.text("INFO", "commandstats")).split("\r\n")) {
    const [, name, calls] = /^cmdstat_([\w|]+):calls=(\d+)/.exec(line) ?? [];
    if (name !== undefined) counts[name] = Number(calls);
  }
  return counts;
}

const CLIENTS = [
  "evalsha",
  "eval",
  "subscribe",
  "unsubscribe",
  "ping",
  "script|load",
  "multi",
  "get",
];

/** What is sent to Redis, and how, while something is done. */
async function costOf(
  what: () => Promise<unknown>,
  proxy: Awaited<ReturnType<typeof startFaultProxy>>,
) {
  const client = redisClient(server.port);
  const sent = () => proxy.connections.reduce((sum, { passed }) => sum + passed.toServer, 0);
  const received = () => proxy.connections.reduce((sum, { passed }) => sum + passed.toClient, 0);
  const before = { calls: await commands(client), sent: sent(), received: received() };
  await what();
  const calls = await commands(client);
  const used = CLIENTS.flatMap((name) => {
    const count = (calls[name] ?? 0) - (before.calls[name] ?? 0);
    return count > 0 ? [[name, count] as const] : [];
  });
  return {
    calls: Object.fromEntries(used),
    sent: sent() - before.sent,
    received: received() - before.received,
  };
}

function jobOf300(): JobState {
  const { epoch: _epoch, revision: _revision, ...job } = largeJob(300);
  return { ...job, jobId: "j" };
}

describe.skipIf(withoutRedis)("what an append costs", () => {
  test("of one stage's change to a job of 300: one call, and the change, not the job", async () => {
    const proxy = await startFaultProxy(server.port);
    const store = storeOn(proxy.port, { prefix: "cost1:", timeoutMs: 600_000 });
    const job = jobOf300();
    expect(JSON.stringify(job).length).toBeGreaterThan(64 * 1024);
    let cursor = await append(store, null, batchOf("j", 1, job));
    const next = (state: JobState, message: string): JobState => ({
      ...state,
      stages: state.stages.map((stage, at) => (at === 150 ? { ...stage, message } : stage)),
    });
    const first = next(job, "first");
    cursor = await append(store, cursor, changeOf(job, first)); // the script is known from here on
    await store.list({ limit: 1 });
    const second = next(first, "second");
    const cost = await costOf(() => append(store, cursor, changeOf(first, second)), proxy);
    expect(cost.calls).toEqual({ evalsha: 1 });
    expect(cost.sent).toBeLessThan(4_096);
    expect(cost.received).toBeLessThan(256);
    expect(JSON.stringify((await whole(store)).job)).toBe(JSON.stringify(second));
  });

  test("published, of a job that the publisher knows: the same", async () => {
    const proxy = await startFaultProxy(server.port);
    const { store, monitor, say } = publisherOn(proxy.port, {
      store: { prefix: "cost2:", timeoutMs: 600_000 },
    });
    await there(store);
    const { stages } = jobOf300();
    await monitor.publish({
      type: "plan",
      jobId: "j",
      stages: stages.map(({ stage, dependsOn }) => ({ stage, dependsOn })),
    });
    await say({ status: "running" });
    const progress = (percent: number) =>
      monitor.publish({ type: "stage", jobId: "j", stage: "stage 150", progress: percent });
    await progress(1);
    await store.list({ limit: 1 });
    const cost = await costOf(() => progress(2), proxy);
    expect(cost.calls).toEqual({ evalsha: 1 });
    expect(cost.sent).toBeLessThan(4_096);
  });

  test("a reader at the head is told that it is there, and nothing else", async () => {
    const proxy = await startFaultProxy(server.port);
    const store = storeOn(proxy.port, { prefix: "cost3:", timeoutMs: 600_000 });
    const cursor = await append(store, null, batchOf("j", 1, jobOf300()));
    await store.read("j", cursor);
    await store.list({ limit: 1 });
    const cost = await costOf(async () => store.read("j", cursor), proxy);
    expect(cost.calls).toEqual({ evalsha: 1 });
    expect(cost.received).toBeLessThan(256);
  });

  test("a row of the list brings no stages", async () => {
    const proxy = await startFaultProxy(server.port);
    const store = storeOn(proxy.port, { prefix: "cost4:", timeoutMs: 600_000 });
    await append(store, null, batchOf("j", 1, jobOf300()));
    await store.list({ limit: 10 });
    const cost = await costOf(() => store.list({ limit: 10 }), proxy);
    expect(cost.calls).toEqual({ evalsha: 2 });
    expect(cost.received).toBeLessThan(4_096);
  });

  test("two connections a process, whatever it watches", async () => {
    const proxy = await startFaultProxy(server.port);
    const store = storeOn(proxy.port, { prefix: "cost5:" });
    await Promise.all([1, 2, 3, 4, 5].map((n) => store.follow(`${n}`, () => {})));
    await store.health();
    expect(proxy.accepted).toBe(2);
  });
});
